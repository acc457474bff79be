"""What counts as right, and what does not."""

import pytest

from unimoe.errors import DataError
from unimoe.evals.judges import Judges, plain, read_spelling

JUDGES = Judges({"colour": "color"})


def is_right(kind, accepted, got):
    return JUDGES.judge(kind, accepted, got).is_correct


@pytest.mark.parametrize(
    "got",
    [
        "blue square",
        "Blue square.",
        "a blue square",
        "It is a blue square.",
        "It's the BLUE square",
    ],
)
def test_wording_does_not_count(got):
    assert is_right("exact", ["blue square"], got)


@pytest.mark.parametrize("got", ["", "blue", "red square", "blue or red square", "squareblue"])
def test_another_answer_is_wrong(got):
    assert not is_right("exact", ["blue square"], got)


@pytest.mark.parametrize(
    ("accepted", "got"),
    [("3", "three"), ("three", "3"), ("21", "twenty-one"), ("40", "forty"), ("1000", "1,000")],
)
def test_number_words_are_digits(accepted, got):
    assert is_right("exact", [accepted], f"There are {got}.")


def test_a_fraction_is_no_other_number():
    assert not is_right("exact", ["15"], "1.5")
    assert is_right("exact", ["1.5"], "1.5.")


def test_tens_without_ones_stand_alone():
    assert plain("twenty and one") == "20 and 1"


def test_any_accepted_answer_will_do():
    assert is_right("exact", ["left", "on the left"], "On the left.")


@pytest.mark.parametrize(
    ("accepted", "got"),
    [("cherry", "Cherries"), ("ice cream", "icecream"), ("fish", "fishes"), ("bus", "a bus")],
)
def test_a_name_may_be_plural_or_run_together(accepted, got):
    assert is_right("name", [accepted], got)


def test_a_name_is_not_part_of_another():
    assert not is_right("name", ["dog"], "hot dog")
    assert not is_right("name", ["glass"], "gla")


def test_text_that_is_read_is_taken_to_the_letter():
    assert is_right("literal", ["The END"], "the end.")
    assert not is_right("literal", ["the end"], "end")
    assert not is_right("literal", ["seven"], "7")


@pytest.mark.parametrize(("got", "right"), [("Yes.", True), ("yes it is", True), ("No", False)])
def test_yes_or_no_is_the_first_word(got, right):
    assert is_right("yes_no", ["yes"], got) is right


def test_a_mention_is_whole_words_anywhere():
    assert is_right("mention", ["dog"], "I can hear a dog barking.")
    assert not is_right("mention", ["dog"], "I can hear dogma.")
    assert not is_right("mention", ["dog"], "")


def test_silence_is_neither_yes_nor_no():
    assert not is_right("yes_no", ["no"], "")


def test_wrong_words_are_counted_out_of_the_expected_ones():
    found = JUDGES.judge("wer", ["The cat sat on the mat."], "the cat sat mat now")
    assert found == (3, 6)


def test_spelling_and_number_words_are_no_word_errors():
    assert is_right("wer", ["The colour of 25 cars"], "the color of twenty five cars!")


def test_words_beyond_the_expected_ones_count():
    assert JUDGES.judge("wer", ["yes"], "yes yes yes") == (2, 1)
    assert JUDGES.judge("wer", ["hmm"], "go away") == (2, 2)
    assert JUDGES.judge("wer", ["hmm"], "") == (0, 1)


def test_no_accepted_answer_is_an_error_of_the_data():
    with pytest.raises(DataError, match="need at least one"):
        JUDGES.judge("exact", [], "blue")
    with pytest.raises(DataError, match="spelling table"):
        Judges().judge("wer", ["a word"], "a word")


def test_the_spelling_table_is_an_object_of_words(tmp_path):
    path = tmp_path / "english.json"
    path.write_text('{"colour": "color"}')
    assert read_spelling(path) == {"colour": "color"}
    path.write_text('["colour"]')
    with pytest.raises(DataError, match="British"):
        read_spelling(path)
