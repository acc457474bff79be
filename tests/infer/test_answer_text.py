"""What of an answer is text, and in which voice it is to be said."""

from tests.tokens.tiny_vocabulary import special_tokens_of, tiny_tokenizer
from unimoe.infer.answer_text import AnswerText, VoiceChange
from unimoe.tokens.vocabulary import Vocabulary

TOKENIZER = tiny_tokenizer()
TOKENS = special_tokens_of(TOKENIZER)
VOCABULARY = Vocabulary(TOKENIZER, TOKENS)
START, PROMPT, END = TOKENS.speech_start, TOKENS.speech_prompt, TOKENS.speech_end


def read(*parts: str | int | None, stop: tuple[str, ...] = ()) -> list[str | VoiceChange]:
    """All that comes of an answer, neighbouring pieces of text joined."""
    answer = AnswerText(VOCABULARY, stop)
    pieces: list[str | VoiceChange] = []
    for part in parts:
        for token in [part] if isinstance(part, int) else VOCABULARY.encode(part or ""):
            pieces += answer.push(token)
    joined: list[str | VoiceChange] = []
    for piece in [*pieces, *answer.flush()]:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def test_plain_text_has_no_voice() -> None:
    assert read("It is a dog.") == ["It is a dog."]
    assert read() == []


def test_a_span_is_shown_without_its_marks_and_said_in_its_voice() -> None:
    assert read("He said: ", START, " a slow man ", PROMPT, "Go on.", END, " So she did.") == [
        "He said: ",
        VoiceChange("a slow man"),
        "Go on.",
        VoiceChange(None),
        " So she did.",
    ]


def test_two_spans_have_two_voices() -> None:
    assert read(START, "man", PROMPT, "Hi.", END, START, "woman", PROMPT, "Oh.", END) == [
        VoiceChange("man"),
        "Hi.",
        VoiceChange(None),
        VoiceChange("woman"),
        "Oh.",
        VoiceChange(None),
    ]


def test_a_span_that_is_cut_off_is_there() -> None:
    assert read(START, "man", PROMPT, "Hi the") == [VoiceChange("man"), "Hi the"]


def test_a_description_that_leads_to_nothing_is_text() -> None:
    assert read("a", START, "man") == ["aman"]
    assert read(START, "man", END, "b") == ["man", VoiceChange(None), "b"]
    assert read(PROMPT, "b") == ["b"]


def test_a_stop_string_ends_a_span_too() -> None:
    assert read(START, "man", PROMPT, "one STOP two", stop=("STOP",)) == [
        VoiceChange("man"),
        "one ",
    ]
