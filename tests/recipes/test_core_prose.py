"""Plain text of the core: what is kept of it, in which split, and that a seed gives it again."""

import pytest

from unimoe.checkpoint.weights import load_model
from unimoe.data.build.sentences import Sentence, split_of_sentence
from unimoe.data.leaks import find_leaks
from unimoe.data.manifest import read_manifest
from unimoe.recipes.core_prose import (
    Opening,
    Written,
    openings_of,
    usable,
    write_core_prose,
    written_by,
)
from unimoe.tokens.vocabulary import Vocabulary

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen"
NUMBERS = WORDS.split()
PLAIN = " ".join(f"Of {first} came {first}s." for first in NUMBERS)
SENTENCES = [
    Sentence(f"{first.capitalize()} {second} dogs ran over hills and far away.", "example")
    for first in NUMBERS
    for second in NUMBERS
]


def goes_on(openings):
    """The same story each time, but in circles after "Two"."""
    return [
        Written(
            f"{opening.text} barked. "
            + ("It ran and ran. " * 9 if "Two" in opening.text else PLAIN),
            is_ended=True,
        )
        for opening in openings
    ]


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "core_prose"
    write_core_prose(goes_on, SENTENCES, {"train": 1000, "validation": 3}, folder)
    return folder


def is_for_training(opening):
    return split_of_sentence(opening.sentence) == "train"


def texts(folder, split):
    return [sample.conversations[0].text for sample in read_manifest(folder / f"{split}.jsonl")]


def test_a_text_that_was_cut_loses_its_last_sentence():
    assert usable(Written(f"{PLAIN} And then it", is_ended=False)) == PLAIN


def test_the_number_of_a_list_ends_no_sentence():
    assert usable(Written(f"{PLAIN}\n\n2.", is_ended=False)) == PLAIN


def test_a_text_that_ended_by_itself_is_kept_whole():
    assert usable(Written(f"{PLAIN} And then it ", is_ended=True)) == f"{PLAIN} And then it"


@pytest.mark.parametrize(
    "text",
    [
        "Too short. It ended.",
        " ".join(NUMBERS * 2),  # cut, and no sentence is whole
        f"{PLAIN} " + "It ran and ran. " * 3,
        f"{PLAIN} Cut \N{REPLACEMENT CHARACTER} in two.",
        f"{PLAIN} See <image>.",
    ],
)
def test_a_text_that_is_of_no_use_is_left_out(text):
    assert usable(Written(text, is_ended=False)) is None


def test_a_text_in_circles_is_left_out_and_counted_on_the_card(tmp_path):
    openings = [each for each in openings_of(SENTENCES) if is_for_training(each)]
    num_in_circles = sum("Two" in opening.text for opening in openings)

    write_core_prose(goes_on, SENTENCES, {"train": 1000}, tmp_path / "set")

    kept = texts(tmp_path / "set", "train")
    counted = f"{len(openings)} texts were written; {num_in_circles} of them"
    assert num_in_circles > 0
    assert len(kept) == len(openings) - num_in_circles
    assert not any("Two" in text for text in kept)
    assert counted in (tmp_path / "set" / "card.md").read_text()


def test_a_text_is_in_the_split_of_the_sentence_that_lends_its_opening(built):
    for split in ("train", "validation"):
        samples = list(read_manifest(built / f"{split}.jsonl"))
        assert samples
        assert {split_of_sentence(sample.traits["sentence"]) for sample in samples} == {split}
    assert texts(built, "test") == []
    assert find_leaks([built]) == []


def test_another_seed_writes_other_texts_but_moves_no_sentence_to_another_split(built, tmp_path):
    folder = tmp_path / "set"
    write_core_prose(goes_on, SENTENCES, {"train": 1000, "validation": 1000}, folder, seed=3)
    for split in ("train", "validation"):
        kept = {sample.traits["sentence"] for sample in read_manifest(folder / f"{split}.jsonl")}
        assert kept
        assert {split_of_sentence(sentence) for sentence in kept} == {split}
    assert texts(folder, "train") != texts(built, "train")


def test_no_more_texts_are_kept_than_wanted(built):
    assert len(texts(built, "validation")) == 3


def test_an_opening_is_a_part_of_a_sentence_and_used_once():
    twice = [Sentence("He ran away.", "example"), Sentence("He ran up hill.", "example")]
    patterns = [Sentence("Show me a red fire truck.", "image")]

    openings = list(openings_of([*twice, *twice, *patterns]))

    assert openings == [Opening("He ran up", "he ran up hill")]


def test_the_same_seed_writes_the_same_in_any_batch(tiny_directory):
    model = load_model(tiny_directory, dtype="float32")
    vocabulary = Vocabulary.from_directory(tiny_directory, model.config.special_tokens)
    openings = [Opening("A dog is a", "a"), Opening("When it rains", "b")]

    written = written_by(model, vocabulary, openings)

    assert written_by(model, vocabulary, openings[1:]) == written[1:]
    assert written_by(model, vocabulary, openings, seed=1) != written
    assert all(w.text.startswith(o.text) for w, o in zip(written, openings, strict=True))
