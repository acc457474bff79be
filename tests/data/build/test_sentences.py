import pytest

from unimoe.data.build import sentences
from unimoe.data.build.corpora import Dialogue, Gloss
from unimoe.data.build.sentences import (
    SHARES,
    Sentence,
    draw_sentences,
    is_speakable,
    number_words,
    plural,
    sentence_pool,
    split_of_sentence,
    words_of,
)

THINGS = ("dog", "fire truck", "umbrella", "T-shirt")


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(sentences, "_FILLS_PER_PATTERN", 4)
    monkeypatch.setattr(sentences, "_MIN_USES", 0)
    glosses = [Gloss("dog", "noun", "an animal that barks", ("he fed the dog", "3 dogs ran away"))]
    return sentence_pool(glosses, [Dialogue("ai", "Are you a robot", "No.")], THINGS)


def test_pool_holds_every_kind_and_no_sentence_twice(pool):
    assert {sentence.kind for sentence in pool} == set(SHARES)
    assert len({sentence.key for sentence in pool}) == len(pool)


def test_pool_is_speakable_and_closed_with_a_mark(pool):
    assert all(is_speakable(sentence) for sentence in pool)
    assert all(sentence.text[0].isupper() and sentence.text[-1] in ".?!" for sentence in pool)
    assert not any(character.isdigit() for sentence in pool for character in sentence.text)


def test_examples_get_a_capital_and_questions_a_mark(pool):
    texts = {sentence.text for sentence in pool}

    assert {"He fed the dog.", "Are you a robot?"} <= texts
    assert "The word dog means an animal that barks." in texts


def test_splits_of_a_pool_are_disjoint_and_drawn_again_alike(pool):
    drawn = {split: draw_sentences(pool, split, 300) for split in ("train", "validation", "test")}

    keys = {split: {sentence.key for sentence in found} for split, found in drawn.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["validation"]
    assert not keys["validation"] & keys["test"]
    assert drawn["train"] == draw_sentences(pool, "train", 300)


def test_fewer_sentences_are_part_of_more(pool):
    assert set(draw_sentences(pool, "train", 40)) <= set(draw_sentences(pool, "train", 120))


def test_split_goes_by_words_not_by_marks_or_capitals():
    one, other = "Is it 21 o'clock?", "is it twenty-one o'clock"

    assert words_of(one) == words_of(other) == "is it twenty one o'clock"
    assert split_of_sentence(one) == split_of_sentence(other)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (85, "eighty-five"),
        (300, "three hundred"),
        (614, "six hundred fourteen"),
        (2007, "two thousand seven"),
    ],
)
def test_numbers_in_words(number, words):
    assert number_words(number) == words


@pytest.mark.parametrize("text", ["Too short.", "He has 3 dogs.", "No end", "A " * 20 + "b."])
def test_what_cannot_be_spoken_well_is_refused(text):
    assert not is_speakable(Sentence(text, "example"))


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"),
        ("cross", "crosses"),
        ("fire truck", "fire trucks"),
        ("juice box", "juice boxes"),
        ("butterfly", "butterflies"),
        ("key", "keys"),
        ("gloves", "gloves"),
        ("computer mouse", "computer mice"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many
