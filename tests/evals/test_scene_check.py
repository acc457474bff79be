import random

import numpy as np
import pytest

from unimoe.data.build.drawing_scenes import draw_scene, wanted_relations, wanted_scenes
from unimoe.errors import DataError
from unimoe.evals.scene_check import is_as_asked, patches_of

SCENES = list(wanted_scenes())
RANDOM = random.Random(0)
RELATIONS = RANDOM.sample(list(wanted_relations()), 40)


@pytest.mark.parametrize("kind", ["one", "place", "count"])
def test_true_scenes_are_right(kind: str) -> None:
    scenes = [scene for scene in SCENES if scene.kind == kind]

    right = [
        is_as_asked(np.asarray(draw_scene(scene.things, scene.words)), kind, scene.words)
        for scene in scenes
    ]

    assert sum(right) >= 0.98 * len(right)


def test_true_relations_are_right_and_their_opposites_wrong() -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for scene in RELATIONS:
        picture = np.asarray(draw_scene(scene.things, scene.words))
        words = next(word for word in opposite if f" {word} " in scene.words)

        assert is_as_asked(picture, "relation", scene.words)
        assert not is_as_asked(picture, "relation", scene.words.replace(words, opposite[words]))


def test_another_colour_another_number_and_another_side_are_wrong() -> None:
    one = next(s for s in SCENES if s.words == "a red circle on the left")
    picture = np.asarray(draw_scene(one.things, "key"))

    assert not is_as_asked(picture, "place", "a blue circle on the left")
    assert not is_as_asked(picture, "place", "a red circle on the right")
    assert not is_as_asked(picture, "count", "two red circles")


def test_an_empty_picture_is_wrong() -> None:
    assert not is_as_asked(np.full((96, 96, 3), 255, np.uint8), "one", "a red circle")


def test_things_are_told_apart_and_found_where_they_are() -> None:
    three = next(s for s in SCENES if s.words == "three blue squares")

    patches = patches_of(np.asarray(draw_scene(three.things, "key")))

    assert [patch.colour for patch in patches] == ["blue"] * 3
    assert sorted(round(patch.x / 10) for patch in patches) == [3, 5, 7]


def test_a_kind_that_cannot_be_measured_is_refused() -> None:
    picture = np.asarray(draw_scene(SCENES[0].things, "key"))
    with pytest.raises(DataError, match="'mood'"):
        is_as_asked(picture, "mood", "a red circle")
