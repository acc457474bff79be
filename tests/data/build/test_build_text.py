import pytest

from tests.data.build.tiny_parts import write_words
from unimoe.data.build.prose import build_prose
from unimoe.data.build.text import build_text
from unimoe.data.manifest import read_manifest


@pytest.fixture
def splits(tmp_path):
    build_text(write_words(tmp_path / "words"), tmp_path / "text", scale=0.05)
    return {
        split: list(read_manifest(tmp_path / "text" / f"{split}.jsonl"))
        for split in ("train", "validation", "test")
    }


def test_questions_of_the_test_are_nowhere_in_training(splits):
    asked = {
        split: {turn.text for sample in found for turn in sample.conversations[::2]}
        for split, found in splits.items()
    }

    assert asked["test"]
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["validation"]


def test_training_asks_several_questions_and_the_test_one(splits):
    turns = {split: {len(s.conversations) for s in found} for split, found in splits.items()}

    assert max(turns["train"]) == 6
    assert turns["test"] == {2}


def test_a_request_for_a_picture_is_answered_by_what_it_shows(splits):
    found = [s for s in splits["train"] + splits["test"] if s.task == "drawing"]
    shown = [
        (asked.text, said.text)
        for sample in found
        for asked, said in zip(sample.conversations[::2], sample.conversations[1::2], strict=True)
    ]

    assert len(shown) > 20
    for asked, said in shown:
        thing = said.removeprefix("Here is ").removesuffix(".")
        assert thing in asked
        assert "Can you paint" not in asked  # the painter's test asks so


def test_prose_is_a_test_split_of_whole_paragraphs(tmp_path):
    page = tmp_path / "docs/usr/share/doc/debian/FAQ/a.en.html"
    page.parent.mkdir(parents=True)
    long = " ".join(["word"] * 50)
    page.write_text(f"<p>{long}</p><p>too short</p>")
    other = tmp_path / "docs/usr/share/doc/debian-history/docs/b.en.html"
    other.parent.mkdir(parents=True)
    other.write_text(f"<p>{long}er</p>")

    build_prose(tmp_path / "docs", tmp_path / "prose")

    texts = [s.conversations[0].text for s in read_manifest(tmp_path / "prose" / "test.jsonl")]
    assert sorted(texts) == [long, f"{long}er"]
    assert len(read_manifest(tmp_path / "prose" / "train.jsonl")) == 0
