import json
from pathlib import Path

import pytest

from tests.data.small_sets import build_shapes, sample
from unimoe.data import read_manifest, write_manifest
from unimoe.data.leaks import find_leaks
from unimoe.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_shapes(tmp_path / "shapes")
    return tmp_path / "shapes"


def replant(folder: Path, source: str, target: str) -> None:
    """Put what is in one split into another one too, past the writer."""
    write_manifest(folder / f"{target}.jsonl", read_manifest(folder / f"{source}.jsonl"))


def test_a_built_set_leaks_nothing(folder: Path) -> None:
    assert find_leaks([folder]) == []


def test_a_shared_medium_is_found_under_any_name(folder: Path) -> None:
    medium = next((folder / "images").iterdir())
    (folder / "copy.webp").write_bytes(medium.read_bytes())
    planted = sample("planted", "<image> Which?", images=("copy.webp",))
    write_manifest(folder / "test.jsonl", [planted])

    assert [leak[:7] for leak in find_leaks([folder])] == ["medium "]


def test_a_medium_is_found_in_another_set_too(folder: Path, tmp_path: Path) -> None:
    build_shapes(tmp_path / "other")
    replant(tmp_path / "other", "train", "validation")
    (tmp_path / "other" / "train.jsonl").write_text("")

    [leak] = find_leaks([folder, tmp_path / "other"])

    assert "in 'a' (shapes, train) and in 'a' (other, validation)" in leak


def test_a_held_out_voice_in_training_is_found(folder: Path) -> None:
    replant(folder, "test", "train")
    (folder / "test.jsonl").write_text("")

    assert find_leaks([folder]) == ["voice 'slt' is held out, but in 'b' (shapes, train)"]


def test_a_disjoint_trait_in_two_splits_is_found(folder: Path) -> None:
    facts = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**facts, "disjoint": ["name"]}))
    for split in ("train", "test"):
        asked = sample(split, f"Is it for {split}?", traits={"name": "cat"})
        write_manifest(folder / f"{split}.jsonl", [asked])

    assert find_leaks([folder]) == [
        "name 'cat': in 'train' (shapes, train) and in 'test' (shapes, test)"
    ]


def test_words_without_media_are_compared_turn_by_turn(folder: Path) -> None:
    write_manifest(folder / "train.jsonl", [sample("a", "One?")])
    write_manifest(folder / "test.jsonl", [sample("b", "Two?"), sample("c", "One?")])

    [leak] = find_leaks([folder])

    assert leak.endswith("in 'a' (shapes, train) and in 'c' (shapes, test)")


def test_a_set_that_is_not_whole_is_refused(folder: Path) -> None:
    (folder / "dataset.json").unlink()

    with pytest.raises(DataError, match="no whole data set"):
        find_leaks([folder])
