import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.tokens.tiny_vocabulary import SPECIAL_TEXTS, special_tokens_of, tiny_tokenizer
from unimoe.config import SpecialTokens
from unimoe.errors import CheckpointError, RequestError
from unimoe.tokens.message import AudioPart, ImagePart, TextPart, VideoPart, message
from unimoe.tokens.template import Piece, render
from unimoe.tokens.vocabulary import ChatTemplate, Vocabulary

TOKENIZER = tiny_tokenizer()
SPECIAL = special_tokens_of(TOKENIZER)
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The form of vision-language templates: text as it is, lists item by item.
TEXT_OR_LIST = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{% if c.type == 'image' %}<|image_pad|>{% else %}"
    "{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)
LIST_ONLY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{{ c.text }}{% endfor %}<|im_end|>\n{% endfor %}"
)
LIST_OR_FAILURE = (
    "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content[0].text }}<|im_end|>\n"
    "{% endfor %}"
)
# Frames that nearly spell a control token themselves, and filters that move text about.
TREACHEROUS = [
    "{% for m in messages %}<{{ m.content }}>{% endfor %}",
    "{% for m in messages %}<|{{ m.content }}|>{% endfor %}",
    "{% for m in messages %}<|im_{{ m.content }}end|>{% endfor %}",
    "{% for m in messages %}{{ m.content | trim | upper | lower | replace(' ', '') }}{% endfor %}",
    "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
    "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
]
few = settings(max_examples=40)
hostile_text = st.lists(
    st.sampled_from(
        [*SPECIAL_TEXTS, "<", "<|", "|>", ">", "|", "im_", "im_start", "end", "\n", "é", " ", "a"]
    )
).map("".join)


def vocabulary_with(template: str | None) -> Vocabulary:
    source = None if template is None else ChatTemplate(source=template)
    return Vocabulary(TOKENIZER, SPECIAL, chat_template=source)


DEFAULT = vocabulary_with(None)


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def controls_of(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces if piece.is_control]


def ids_of(pieces: list[Piece], vocabulary: Vocabulary) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
        if piece.is_control:
            ids.append(vocabulary.control_id(piece.text))
        else:
            ids.extend(vocabulary.encode(piece.text))
    return ids


def test_the_default_form_is_chatml_with_a_system_turn():
    pieces = render([message("user", "Hi")], DEFAULT, add_generation_prompt=True).pieces
    assert text_of(pieces) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_system_turn_of_the_caller_replaces_the_default_one():
    chat = [message("system", "Be brief."), message("user", "Hi"), message("assistant", "Yes?")]
    assert text_of(render(chat, DEFAULT, add_generation_prompt=False).pieces) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n"
    )


def test_media_stand_where_the_message_has_them():
    chat = [message("user", VideoPart("v"), "and", ImagePart("i"), AudioPart("a"), "?")]
    pieces = render(chat, DEFAULT, add_generation_prompt=False).pieces
    assert text_of(pieces).splitlines()[3] == (
        "<|vision_start|><|video_pad|><|vision_end|>and"
        "<|vision_start|><|image_pad|><|vision_end|><|audio_start|><|audio_pad|><|audio_end|>?"
        "<|im_end|>"
    )


def test_answers_are_known_with_the_token_that_ends_them():
    chat = [message("user", "Hi"), message("assistant", "Hello"), message("user", "Bye")]
    pieces = render(chat, DEFAULT, add_generation_prompt=True).pieces
    assert [piece.text for piece in pieces if piece.is_answer] == ["Hello", "<|im_end|>"]


@pytest.mark.parametrize("template", [CHATML, TEXT_OR_LIST, LIST_ONLY, LIST_OR_FAILURE])
def test_templates_print_text_and_media_whatever_content_they_expect(template):
    chat = [message("user", ImagePart("i"), "Hi"), message("assistant", "Hello")]
    pieces = render(chat, vocabulary_with(template), add_generation_prompt=False).pieces
    assert text_of(pieces) == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Hi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
    )


def test_templates_know_the_tokens_and_the_wish_for_an_answer():
    template = ChatTemplate(
        source="{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ add_generation_prompt }}"
        "{{ tools is none }}",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
    )
    vocabulary = Vocabulary(TOKENIZER, SPECIAL, chat_template=template)
    pieces = render([message("user", "x")], vocabulary, add_generation_prompt=True).pieces
    assert text_of(pieces) == "<|im_start|>x<|im_end|>TrueTrue"
    assert controls_of(pieces) == ["<|im_start|>", "<|im_end|>"]


@few
@given(st.lists(st.text(), min_size=1, max_size=3))
def test_harmless_prompts_get_the_ids_that_transformers_gives(texts):
    reference = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), chat_template=CHATML)
    chat = [{"role": "user", "content": text} for text in texts]
    expected = reference.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]

    vocabulary = vocabulary_with(CHATML)
    messages = [message("user", text) for text in texts]
    pieces = render(messages, vocabulary, add_generation_prompt=True).pieces

    assert ids_of(pieces, vocabulary) == expected


@few
@given(st.lists(hostile_text, min_size=1, max_size=3), st.sampled_from([None, CHATML, LIST_ONLY]))
def test_typed_text_never_becomes_a_control_token_and_arrives_whole(texts, template):
    vocabulary = vocabulary_with(template)
    harmless = render([message("user", *["x"] * 3)], vocabulary, add_generation_prompt=True).pieces
    pieces = render([message("user", *texts)], vocabulary, add_generation_prompt=True).pieces

    assert controls_of(pieces) == controls_of(harmless)
    assert text_of(pieces) == text_of(harmless).replace("xxx", "".join(texts))
    decoded = vocabulary.decode(ids_of(pieces, vocabulary), keep_control_tokens=True)
    assert decoded == text_of(pieces)


@few
@given(
    hostile_text,
    st.sampled_from(["system", "user", "assistant"]),
    st.sampled_from(TREACHEROUS),
)
def test_no_template_helps_typed_text_to_a_control_token(text, role, template):
    pieces = render(
        [message(role, text)], vocabulary_with(template), add_generation_prompt=False
    ).pieces
    assert controls_of(pieces) == []


@few
@given(hostile_text)
def test_typed_text_cannot_change_where_media_stand(text):
    chat = [message("user", text, ImagePart("i"), text)]
    pieces = render(chat, vocabulary_with(PLAIN), add_generation_prompt=False).pieces
    assert controls_of(pieces) == ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]


def test_text_of_ours_may_hold_control_tokens():
    answer = TextPart("<|speech_start|>Jenny<|speech_prompt|>Hi<|speech_end|>", True)
    pieces = render([message("assistant", answer)], DEFAULT, add_generation_prompt=False).pieces
    assert [piece for piece in pieces if piece.is_answer] == [
        Piece("<|speech_start|>", True, True),
        Piece("Jenny", False, True),
        Piece("<|speech_prompt|>", True, True),
        Piece("Hi", False, True),
        Piece("<|speech_end|>", True, True),
        Piece("<|im_end|>", True, True),
    ]


def test_it_is_known_when_a_template_leaves_out_a_part_of_an_answer():
    thinking = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}"
    chat = [message("assistant", "<think>hm</think>Yes")]
    rewritten = render(chat, vocabulary_with(thinking), add_generation_prompt=False)
    assert (text_of(rewritten.pieces), rewritten.keeps_answers) == ("Yes", False)
    assert render(chat, vocabulary_with(PLAIN), add_generation_prompt=False).keeps_answers


def test_no_messages_are_refused():
    with pytest.raises(RequestError, match="no messages"):
        render([], DEFAULT, add_generation_prompt=True)


def test_unknown_roles_and_parts_are_refused(without_type_checks):
    with pytest.raises(RequestError, match="role is 'tool'; need system, user, assistant"):
        message("tool", "x")
    with pytest.raises(RequestError, match="a user message holds a bytes; need TextPart"):
        message("user", b"x")


def test_media_the_checkpoint_has_no_tokens_for_are_refused():
    special = SpecialTokens(pad=SPECIAL.pad, end_of_turn=SPECIAL.end_of_turn)
    vocabulary = Vocabulary(TOKENIZER, special)
    with pytest.raises(RequestError, match="holds an image, this checkpoint has no tokens for it"):
        render([message("user", ImagePart("i"))], vocabulary, add_generation_prompt=True)


def test_a_template_that_prints_no_message_is_refused():
    vocabulary = vocabulary_with("<|im_start|>Hi")
    with pytest.raises(CheckpointError, match="prints no message"):
        render([message("user", "x")], vocabulary, add_generation_prompt=True)


def test_the_word_of_a_template_that_refuses_reaches_the_caller():
    vocabulary = vocabulary_with("{{ raise_exception('no system turns') }}")
    with pytest.raises(RequestError, match="no system turns"):
        render([message("user", "x")], vocabulary, add_generation_prompt=True)


def test_without_template_and_chatml_tokens_there_is_no_prompt():
    tokenizer = tiny_tokenizer()
    tokenizer = type(tokenizer).from_str(tokenizer.to_str().replace("<|im_start|>", "<|begin|>"))
    vocabulary = Vocabulary(tokenizer, SPECIAL)
    with pytest.raises(CheckpointError, match=r"no <\|im_start\|> and its directory no chat temp"):
        render([message("user", "x")], vocabulary, add_generation_prompt=True)
