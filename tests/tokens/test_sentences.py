"""Where a text is cut to be spoken, and that nothing of it gets lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.errors import RequestError
from unimoe.tokens.sentences import SentenceStream, cut_long, split_sentences

CUT = {
    "He came in. She went out.": ["He came in.", "She went out."],
    "Is it so far? Yes, it is! Then go home.": ["Is it so far?", "Yes, it is!", "Then go home."],
    "Dr. Lee met Mr. Smith. They had tea.": ["Dr. Lee met Mr. Smith.", "They had tea."],
    "It costs 3.5 dollars. That is much.": ["It costs 3.5 dollars.", "That is much."],
    "We saw J. R. R. Tolkien. He wrote.": ["We saw J. R. R. Tolkien.", "He wrote."],
    "Use tools, e.g. Hammers do well. So do saws.": [
        "Use tools, e.g. Hammers do well.",
        "So do saws.",
    ],
    "Plums, figs, etc. are good. And sweet too.": ["Plums, figs, etc. are good.", "And sweet too."],
    "We have plums, figs, etc. They are good.": ["We have plums, figs, etc.", "They are good."],
    '"Stop here. Go back," he said. She did so.': ['"Stop here. Go back," he said.', "She did so."],
    "It ends (as I said. Twice.) right here. Then more comes.": [
        "It ends (as I said. Twice.) right here.",
        "Then more comes.",
    ],
    '"Are you there?" he asked. Nobody said anything.': [
        '"Are you there?" he asked.',
        "Nobody said anything.",
    ],
    "Well... let me see now. It is fine.": ["Well... let me see now.", "It is fine."],
    "Yes. It is so.": ["Yes. It is so."],
    "It is really so. No.": ["It is really so.", "No."],
    "A title of words\n\nThe text begins here": ["A title of words", "The text begins here"],
    "Buy these things:\n- red apples there\n- pears": [
        "Buy these things:",
        "- red apples there",
        "- pears",
    ],
    "1. Take the flour. 2. Add the milk.": ["1. Take the flour.", "2. Add the milk."],
    "A line\nthat goes on. The end comes.": ["A line\nthat goes on.", "The end comes."],
    "": [],
    " \n ": [],
}


@pytest.mark.parametrize(("text", "sentences"), CUT.items())
def test_sentences_end_where_a_reader_pauses(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_a_long_sentence_is_cut_at_commas_then_conjunctions_then_words() -> None:
    assert cut_long("One two three, four five six seven", 20) == [
        "One two three,",
        "four five six seven",
    ]
    assert cut_long("One two three four and five six", 24) == ["One two three four", "and five six"]
    assert cut_long("One two three four five six", 20) == ["One two three", "four five six"]
    assert cut_long("x" * 50, 20) == ["x" * 20, "x" * 20, "x" * 10]


def test_a_sentence_comes_out_before_the_text_ends() -> None:
    stream = SentenceStream()
    assert stream.push("He came in") == []
    assert stream.push(".") == []  # it may go on: 3.5, or ...
    assert stream.push(" S") == ["He came in."]
    assert stream.flush() == ["S"]
    assert stream.flush() == []


def test_text_without_any_end_is_not_waited_for() -> None:
    stream = SentenceStream(40)
    assert stream.push("word " * 30) != []


TEXT = st.text(st.sampled_from('ab AB.?!,"()\n-1 Dr'), max_size=300) | st.lists(
    st.sampled_from([*CUT, "and so on, then", "Dr.", "\n\n", "e.g."]), max_size=8
).map(" ".join)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(TEXT, st.integers(20, 60))
def test_nothing_is_lost_and_no_piece_is_too_long(text: str, limit: int) -> None:
    pieces = split_sentences(text, limit)
    assert squeezed("".join(pieces)) == squeezed(text)
    assert all(0 < len(piece) <= limit for piece in pieces)


@given(TEXT, st.integers(20, 60), st.data())
def test_how_the_text_comes_in_changes_nothing(text: str, limit: int, data: st.DataObject) -> None:
    stream, pieces, place = SentenceStream(limit), [], 0
    while place < len(text):
        step = data.draw(st.integers(1, 12))
        pieces += stream.push(text[place : place + step])
        place += step
    assert pieces + stream.flush() == split_sentences(text, limit)


def test_a_limit_below_any_sentence_is_refused() -> None:
    with pytest.raises(RequestError, match="5 characters"):
        SentenceStream(5)
