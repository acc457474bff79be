from pathlib import Path

import pytest

from tests.data.build.drawn_parts import write_styles
from unimoe.data import Manifest, read_manifest
from unimoe.data.build.drawings import HELD_OUT_STYLES
from unimoe.data.build.naming import build_naming


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_styles(tmp_path_factory.mktemp("styles"))


@pytest.fixture(scope="module")
def built(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("naming") / "set"
    build_naming(sources, folder, scale=0.02)
    return folder


def _split(built: Path, name: str) -> Manifest:
    return read_manifest(built / f"{name}.jsonl")


def test_held_out_styles_are_all_of_the_test_and_nothing_else(built: Path) -> None:
    learnt = {s.traits["style"] for name in ("train", "validation") for s in _split(built, name)}

    assert {s.traits["style"] for s in _split(built, "test")} == {*HELD_OUT_STYLES}
    assert not learnt & {*HELD_OUT_STYLES}


def test_the_test_asks_for_the_name_and_accepts_synonyms(built: Path) -> None:
    test = _split(built, "test")

    assert {s.traits["kind"] for s in test} == {"name"}
    assert all(s.answers[0] == s.traits["concept"] for s in test)
    assert any(len(s.answers) > 1 for s in test)


def test_every_training_conversation_tells_the_name(built: Path) -> None:
    for sample in _split(built, "train"):
        said = [turn.text.lower() for turn in sample.conversations[1::2]]
        assert any(sample.traits["concept"].lower() in answer for answer in said)


def test_a_question_of_presence_is_answered_as_it_is(built: Path) -> None:
    for sample in _split(built, "train"):
        turns = sample.conversations
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            if "Does the picture show" in question.text:
                is_shown = question.text.rstrip("?").endswith(f" {sample.traits['concept']}")
                assert answer.text == ("Yes." if is_shown else "No.")


def test_the_same_seed_gives_the_same_set(
    built: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    build_naming(sources, tmp_path / "again", scale=0.02)

    assert (tmp_path / "again/train.jsonl").read_text() == (built / "train.jsonl").read_text()
