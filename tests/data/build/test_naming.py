import random
from pathlib import Path

import pytest
from PIL import Image

from tests.data.build.drawn_parts import write_styles
from unimoe.data import Manifest, read_manifest
from unimoe.data.build.drawings import HELD_OUT_STYLES
from unimoe.data.build.naming import _redrawn, build_naming


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


def test_a_drawing_is_learnt_in_ten_looks_and_its_colour_asked_where_it_shows(built: Path) -> None:
    samples = list(_split(built, "train"))
    pictures: dict[str, set[str]] = {}
    for sample in samples:
        pictures.setdefault(sample.traits["drawing"], set()).update(sample.images)
        is_of_other_tones = sample.id.endswith(" 8")
        asked = [turn.text for turn in sample.conversations[::2]]
        assert not (is_of_other_tones and any("olor" in question for question in asked))

    assert {len(found) for found in pictures.values()} == {10}
    assert any("olor" in turn.text for sample in samples for turn in sample.conversations)


def test_redrawing_keeps_the_outline_but_for_stretching_and_softness() -> None:
    sprite = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
    sprite.paste((200, 40, 30, 255), (10, 20, 50, 40))
    for number in range(5):
        plain = _redrawn(sprite, number, random.Random(0))
        assert (plain == sprite) == (number != 2)
    outlined, flat, tones = (_redrawn(sprite, n, random.Random(1)) for n in (2, 6, 8))
    assert outlined.getpixel((10, 30))[:3] == (20, 20, 20)
    assert sprite.size not in (flat.size, tones.size)
    red, green, blue, alpha = tones.getpixel((tones.width // 2, tones.height // 2))
    assert alpha == 255
    assert (red, green, blue) != (200, 40, 30)
    bounds = flat.getchannel("A").point(lambda level: 255 * (level > 127)).getbbox()
    assert bounds is not None
    left, top, right, bottom = bounds
    assert abs((right - left) / (bottom - top) / 2 - flat.width / flat.height) < 0.3
