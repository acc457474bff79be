import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.build.drawn_parts import write_unlike_styles
from unimoe.data import read_manifest
from unimoe.data.build.degrade import DEGRADATIONS, edges
from unimoe.data.build.drawing_edits import EDIT_KINDS, make_edit
from unimoe.data.build.drawing_scenes import (
    PICTURE_SIDE,
    draw_depth,
    draw_scene,
    wanted_depth,
    wanted_scenes,
)
from unimoe.data.build.drawing_tasks import HELD_OUT_PROMPT, build_drawing_tasks, is_familiar
from unimoe.data.build.drawings import read_concepts
from unimoe.data.leaks import find_leaks
from unimoe.data.manifest import media_file
from unimoe.media.image import load_image


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawing")
    build_drawing_tasks(write_unlike_styles(folder / "parts"), folder / "set", scale=0.05)
    return folder / "set"


def test_no_split_holds_anything_of_another(built: Path) -> None:
    assert find_leaks([built]) == []


def test_the_picture_to_be_drawn_is_the_last_of_one_or_two(built: Path) -> None:
    for split in ("train", "test"):
        manifest = read_manifest(built / f"{split}.jsonl")
        for number in range(len(manifest)):
            sample = manifest[number]
            assert sample.conversations[-1].text.endswith("<image>")
            assert 1 <= len(sample.images) <= 2
            shown = load_image(media_file(manifest.folder, sample.images[-1]))
            assert shown.shape == (PICTURE_SIDE, PICTURE_SIDE, 3)


def test_names_of_the_test_are_asked_for_in_words_training_never_uses(built: Path) -> None:
    form = HELD_OUT_PROMPT.split("{}")[0]
    asked = {
        split: [
            sample.conversations[0].text
            for sample in map(
                read_manifest(built / f"{split}.jsonl").__getitem__,
                range(len(read_manifest(built / f"{split}.jsonl"))),
            )
        ]
        for split in ("train", "test")
    }

    assert any(text.startswith(form) for text in asked["test"])
    assert not any(text.startswith(form) for text in asked["train"])


def test_a_name_in_its_usual_style_is_asked_for_in_many_wordings(built: Path) -> None:
    train = read_manifest(built / "train.jsonl")
    samples = (train[number] for number in range(len(train)))
    names = [s for s in samples if s.task in ("names", "more_names")]
    usual = [s for s in names if "style." not in s.conversations[0].text]

    asked = Counter(s.traits["concept"] for s in usual)

    assert usual
    assert set(asked.values()) == {24}
    assert len({s.conversations[0].text for s in usual}) == len(usual)


def test_a_pair_of_shapes_is_asked_for_in_three_of_the_wordings(built: Path) -> None:
    train = read_manifest(built / "train.jsonl")
    asked: dict[str, set[str]] = {}
    for sample in (train[number] for number in range(len(train))):
        if sample.traits.get("kind") == "relation":
            scene = sample.traits["scene"]
            form = sample.conversations[0].text.replace(scene, "{}")
            asked.setdefault(scene, set()).add(form)

    assert {len(forms) for forms in asked.values()} == {3}
    assert len(set().union(*asked.values())) == 24


def test_at_least_a_hundred_things_are_familiar() -> None:
    assert sum(map(is_familiar, read_concepts())) >= 100


def test_words_of_scenes_are_all_different() -> None:
    words = [scene.words for scene in wanted_scenes()]

    assert len(words) == len(set(words)) == 40 * 8


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_an_edit_leaves_other_things_as_they_were(kind: str) -> None:
    edit = make_edit(kind, random.Random(3))

    before, after = (np.asarray(draw_scene(t, "key")) for t in (edit.before, edit.after))
    changed = (before != after).any(2)
    rows, columns = np.nonzero(changed)

    assert changed.any()
    assert np.ptp(rows) <= 40
    assert np.ptp(columns) <= 40


def test_recolouring_keeps_the_outline() -> None:
    edit = make_edit("recolour", random.Random(1))

    assert edit.before[0].spot == edit.after[0].spot
    assert edit.before[0].kind.name == edit.after[0].kind.name
    assert edit.before[0].kind.colour != edit.after[0].kind.colour


def test_the_nearest_thing_is_white_in_a_depth_map_and_the_background_black() -> None:
    things = wanted_depth(random.Random(0)).things

    depth = draw_depth(things)

    nearest = things[-1].spot
    assert depth.getpixel((round(nearest.x), round(nearest.y))) == (255, 255, 255)
    assert depth.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("task", DEGRADATIONS)
def test_a_spoilt_picture_is_worse_and_the_same_for_the_same_numbers(task: str) -> None:
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[30:60, 30:60] = (200, 30, 30)
    picture = Image.fromarray(pixels)

    first, again = (DEGRADATIONS[task](picture, random.Random(1)) for _ in range(2))

    assert first.size == picture.size
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert not np.array_equal(np.asarray(first), pixels)


def test_edges_are_black_where_colours_meet() -> None:
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[30:60, 30:60] = (200, 30, 30)

    lines = np.asarray(edges(Image.fromarray(pixels)))

    assert (lines[45, 28:32] == 0).any()
    assert (lines[45, 45] == 255).all()
    assert (lines[0] == 255).all()


def test_what_is_to_be_redrawn_in_the_test_was_never_drawn_in_training(built: Path) -> None:
    manifests = {split: read_manifest(built / f"{split}.jsonl") for split in ("train", "test")}
    targets = {
        split: {manifest[number].images[-1] for number in range(len(manifest))}
        for split, manifest in manifests.items()
    }
    redrawn = {
        sample.images[-1]
        for sample in map(manifests["test"].__getitem__, range(len(manifests["test"])))
        if sample.task == "style"
    }

    assert redrawn
    assert not redrawn & targets["train"]
