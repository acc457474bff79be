from pathlib import Path

import pytest

from tests.data.build.drawn_parts import write_easy_vqa
from unimoe.data import read_manifest
from unimoe.data.build.easy_vqa import build_easy_vqa
from unimoe.data.sample import Box
from unimoe.errors import DataError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("easy_vqa")
    build_easy_vqa(write_easy_vqa(root / "part"), root / "set")
    return root / "set"


def test_the_official_test_is_asked_whole_one_question_at_a_time(built: Path) -> None:
    test = read_manifest(built / "test.jsonl")

    assert len(test) == 4 * 9
    assert {len(sample.conversations) for sample in test} == {2}


def test_training_asks_every_question_of_its_pictures_once(built: Path) -> None:
    train = read_manifest(built / "train.jsonl")
    pictures = {sample.traits["picture"] for sample in train}
    asked = [
        (sample.traits["picture"], turn.text.removeprefix("<image>"))
        for sample in train
        for turn in sample.conversations[::2]
    ]

    assert len(asked) == len(set(asked)) == 9 * len(pictures)


def test_conversations_have_six_questions_at_most(built: Path) -> None:
    assert max(len(s.conversations) for s in read_manifest(built / "train.jsonl")) <= 12


def test_a_shape_is_told_where_it_is_and_nowhere_else(built: Path) -> None:
    for sample in read_manifest(built / "train.jsonl"):
        (place,) = sample.places
        assert place.words == "teal | circle"
        assert place.box == Box(1 / 8, 2 / 8, 5 / 8, 6 / 8)


def test_splits_share_no_picture(built: Path) -> None:
    seen = [
        {sample.images for sample in read_manifest(built / f"{split}.jsonl")}
        for split in ("train", "validation", "test")
    ]

    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]


def test_a_folder_that_is_no_easy_vqa_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"need the package easy-vqa"):
        build_easy_vqa(tmp_path, tmp_path / "set")
