"""Words spelt for the core, none of those that the test of reading keeps."""

import random
from pathlib import Path

import pytest

from unimoe.data import read_manifest
from unimoe.data.build.ocr import common_words, parted_words
from unimoe.data.build.spelling import build_spelling, spelt, words_in_use
from unimoe.errors import DataError


def _source(folder: Path, num_words: int) -> tuple[dict[str, Path], list[str]]:
    """Glosses of made-up words, each used in all four files."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=6)) for _ in range(num_words)]
    wordnet = folder / "usr/share/wordnet"
    wordnet.mkdir(parents=True)
    for name in ("noun", "verb", "adj", "adv"):
        line = f"00000001 03 n 01 thing 0 000 | {' '.join(words)}\n"
        (wordnet / f"data.{name}").write_text(line)
    return {"wordnet": folder}, words


def test_letters_are_said_whole_and_no_kept_word_is_among_them(tmp_path: Path) -> None:
    sources, words = _source(tmp_path / "wordnet", 600)
    build_spelling(sources, tmp_path / "set", scale=0.05)
    kept = {*parted_words(common_words([" ".join(words)])).new}

    found = [
        sample
        for split in ("train", "validation")
        for sample in read_manifest(tmp_path / "set" / f"{split}.jsonl")
    ]
    for sample in found:
        asked, answer = (turn.text for turn in sample.conversations)
        letters, question = asked.split("\n")
        assert letters == spelt(answer)
        assert question.endswith(("?", "."))
        assert not {*answer.lower().split()} & kept
    pairs = [sample for sample in found if sample.traits["kind"] == "two"]
    assert 0.1 < len(pairs) / len(found) < 0.3
    assert kept
    assert any(sample.answers[0].isupper() for sample in found)


def test_training_and_validation_spell_other_words(tmp_path: Path) -> None:
    sources, _ = _source(tmp_path / "wordnet", 600)
    build_spelling(sources, tmp_path / "set", scale=0.05)
    train, validation = (
        {
            sample.traits["own_text"]
            for sample in read_manifest(tmp_path / "set" / f"{split}.jsonl")
            if sample.traits["kind"] == "word"
        }
        for split in ("train", "validation")
    )
    assert validation
    assert not train & validation


def test_too_few_words_are_refused(tmp_path: Path) -> None:
    sources, _ = _source(tmp_path / "wordnet", 50)
    with pytest.raises(DataError, match="Give more texts"):
        build_spelling(sources, tmp_path / "set")


def test_a_word_is_used_twice_or_more_and_has_ten_letters_at_most() -> None:
    texts = ["an owl, an unforgettable owl; a bee.", "an Owl"]
    assert words_in_use(texts) == {"an", "owl"}
    assert spelt("To do") == " T o d o"
