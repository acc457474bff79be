import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.tokens.tiny_vocabulary import SPECIAL_TEXTS, special_tokens_of, tiny_tokenizer
from unimoe.config import SpecialTokens
from unimoe.errors import CheckpointError
from unimoe.tokens.vocabulary import Vocabulary

TOKENIZER = tiny_tokenizer()
VOCABULARY = Vocabulary(TOKENIZER, special_tokens_of(TOKENIZER))
hostile_text = st.lists(
    st.sampled_from([*SPECIAL_TEXTS, "<|", "|>", "im_end", "<", ">", " ", "\n", "x"])
).map("".join)


@pytest.fixture
def directory(tmp_path):
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@given(st.text() | hostile_text)
def test_text_survives_encoding_and_decoding(text):
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


@given(hostile_text)
def test_encoding_never_makes_a_control_token(text):
    controls = {VOCABULARY.control_id(special) for special in SPECIAL_TEXTS}
    assert controls.isdisjoint(VOCABULARY.encode(text))


def test_control_tokens_have_the_ids_of_the_checkpoint():
    assert VOCABULARY.control_id("<|im_end|>") == TOKENIZER.token_to_id("<|im_end|>")
    assert VOCABULARY.control_id("<|image_pad|>") == VOCABULARY.special_tokens.image_pad
    assert VOCABULARY.control_id("<think>") is None
    assert VOCABULARY.control_id("hello") is None


def test_added_tokens_that_control_nothing_are_found_in_text():
    assert VOCABULARY.encode("<think>") == [TOKENIZER.token_to_id("<think>")]


def test_decoding_leaves_control_tokens_out_unless_asked():
    ids = [*VOCABULARY.encode("Hi"), VOCABULARY.special_tokens.end_of_turn]

    assert VOCABULARY.decode(ids) == "Hi"
    assert VOCABULARY.decode(ids, keep_control_tokens=True) == "Hi<|im_end|>"


def test_a_token_the_config_names_need_not_be_flagged_in_the_tokenizer():
    flags = {t.content: t.special for t in tiny_tokenizer().get_added_tokens_decoder().values()}
    assert (flags["<|im_end|>"], flags["<|image_pad|>"]) == (True, False)
    assert VOCABULARY.special_tokens.image_pad not in VOCABULARY.encode("<|image_pad|>")
    assert VOCABULARY.decode([VOCABULARY.special_tokens.image_pad]) == ""


@given(st.lists(st.integers(0, VOCABULARY.size + 3)), st.booleans())
def test_streamed_text_is_the_text_decoded_at_once(ids, keep):
    stream = VOCABULARY.text_stream(keep_control_tokens=keep)
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join([*pieces, stream.flush()]) == VOCABULARY.decode(ids, keep_control_tokens=keep)


@given(st.text())
def test_streams_release_whole_characters_only(text):
    stream = VOCABULARY.text_stream()
    pieces = [stream.push(token_id) for token_id in VOCABULARY.encode(text)]
    without_typed_ones = [piece for piece in pieces if "\ufffd" in piece and "\ufffd" not in text]
    assert without_typed_ones == []


def test_an_emoji_comes_with_its_last_byte():
    ids = [TOKENIZER.token_to_id(byte) for byte in "ðŁĺĦ"] + VOCABULARY.encode("!")
    stream = VOCABULARY.text_stream()
    assert [stream.push(token_id) for token_id in ids] == ["", "", "", "😄", "!"]


def test_a_character_cut_off_at_the_end_is_flushed_as_a_replacement():
    stream = VOCABULARY.text_stream()
    pushed = [stream.push(TOKENIZER.token_to_id(byte)) for byte in "aðŁ"]
    assert [*pushed, stream.flush(), stream.flush()] == ["a", "", "", "\ufffd", ""]


def test_streams_keep_the_spaces_between_words_of_sentencepiece_vocabularies():
    tokenizer = Tokenizer(models.WordLevel({"▁Good": 0, "▁morning": 1, "!": 2, "</s>": 3}, "!"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["</s>"])
    vocabulary = Vocabulary(tokenizer, SpecialTokens(pad=3, end_of_turn=3))
    stream = vocabulary.text_stream()
    assert [stream.push(token_id) for token_id in (0, 1, 2, 3)] == ["Good", " morning", "!", ""]


def test_a_directory_gives_the_same_vocabulary(directory):
    read = Vocabulary.from_directory(directory, VOCABULARY.special_tokens)

    assert read.size == VOCABULARY.size
    assert read.encode("What is <|im_end|>?") == VOCABULARY.encode("What is <|im_end|>?")
    assert read.chat_template is None
    assert read.end_ids == {VOCABULARY.special_tokens.end_of_turn}


def test_truncation_and_padding_stored_with_the_tokenizer_are_ignored(directory):
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(directory / "tokenizer.json"))

    vocabulary = Vocabulary.from_directory(directory, VOCABULARY.special_tokens)

    assert vocabulary.decode(vocabulary.encode("a long way to go")) == "a long way to go"


def test_all_end_tokens_of_the_generation_config_end_an_answer(directory):
    (directory / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    vocabulary = Vocabulary.from_directory(directory, VOCABULARY.special_tokens)
    assert vocabulary.end_ids == {7, 9, VOCABULARY.special_tokens.end_of_turn}


def test_the_template_of_its_own_file_wins_over_the_tokenizer_config(directory):
    special = VOCABULARY.special_tokens
    config = {"chat_template": "from config", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    by_config = Vocabulary.from_directory(directory, special).chat_template
    (directory / "chat_template.json").write_text('{"chat_template": "from json"}')
    by_json = Vocabulary.from_directory(directory, special).chat_template
    (directory / "chat_template.jinja").write_text("from jinja")
    by_jinja = Vocabulary.from_directory(directory, special).chat_template

    assert (by_config.source, by_json.source, by_jinja.source) == (
        "from config",
        "from json",
        "from jinja",
    )
    assert (by_jinja.bos_token, by_jinja.eos_token) == ("<s>", "</s>")


def test_of_several_templates_the_default_is_taken(directory):
    entries = [{"name": "tool_use", "template": "A"}, {"name": "default", "template": "B"}]
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": entries}))
    vocabulary = Vocabulary.from_directory(directory, VOCABULARY.special_tokens)
    assert vocabulary.chat_template.source == "B"


def test_a_directory_without_tokenizer_says_how_to_make_one(tmp_path):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: no such file.*save_pretrained"):
        Vocabulary.from_directory(tmp_path, VOCABULARY.special_tokens)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 3}'])
def test_a_damaged_tokenizer_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: no tokenizer can be read"):
        Vocabulary.from_directory(tmp_path, VOCABULARY.special_tokens)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "\udcff"),
        ("tokenizer_config.json", "["),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"chat_template": 3}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": 3}]}'),
        ("tokenizer_config.json", '{"chat_template": "a", "chat_template": "b"}'),
        ("tokenizer_config.json", '{"model_max_length": NaN}'),
        pytest.param("tokenizer_config.json", '{"a":' * 100_000, id="deep"),
        pytest.param("generation_config.json", " " * 17_000_000 + "{}", id="large"),
        ("generation_config.json", '{"eos_token_id": "end"}'),
    ],
)
def test_damaged_settings_beside_the_tokenizer_are_refused(directory, name, content):
    (directory / name).write_text(content, errors="surrogateescape")
    with pytest.raises(CheckpointError):
        Vocabulary.from_directory(directory, VOCABULARY.special_tokens)


def test_an_id_of_the_config_that_the_tokenizer_lacks_is_an_error_naming_both():
    with pytest.raises(CheckpointError, match=r"gives image_pad the id 9999.*it knows 4"):
        Vocabulary(TOKENIZER, SpecialTokens(pad=0, end_of_turn=1, image_pad=9999))
