"""Letters in other builds."""

import random

import numpy as np
import pytest
from PIL import Image

from unimoe.data.build.letter_builds import PLAIN, Build, any_build, moved, rebuilt

SIZE = (60, 40)


def dot(right: int, below: int, radius: int = 2) -> Image.Image:
    """A square of ink so far from the middle."""
    ink = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    x, y = SIZE[0] // 2 + right, SIZE[1] // 2 + below
    ink[y - radius : y + radius, x - radius : x + radius] = (10, 20, 30, 255)
    return Image.fromarray(ink)


def middle_of(letters: Image.Image) -> tuple[float, float]:
    """Of the ink, from the middle of the picture."""
    ink = np.asarray(letters.getchannel("A")).astype(float)
    down, across = np.mgrid[: ink.shape[0], : ink.shape[1]] + 0.5
    weight = ink.sum()
    return (
        (across * ink).sum() / weight - letters.width / 2,
        (down * ink).sum() / weight - letters.height / 2,
    )


@pytest.mark.parametrize("place", [(0, 0), (20, -12), (-15, 9)])
@pytest.mark.parametrize(
    "build", [Build(width=0.75), Build(width=1.3), Build(lean=0.2), Build(1.2, -0.2, (0.7, 0.7))]
)
def test_what_was_at_a_point_is_where_the_point_moved(place: tuple[int, int], build: Build) -> None:
    found = middle_of(rebuilt(dot(*place), build))
    right, below = map(float, place)
    assert found == pytest.approx(moved(right, below, build), abs=0.6)


def test_a_leaning_letter_has_its_top_to_the_right() -> None:
    above, below = (middle_of(rebuilt(dot(0, y), Build(lean=0.2)))[0] for y in (-12, 12))
    assert above > 1 > -1 > below


def test_plain_letters_stay_as_they_are() -> None:
    letters = dot(3, 3)
    assert rebuilt(letters, PLAIN).tobytes() == letters.tobytes()
    assert moved(3.0, 4.0, PLAIN) == (3.0, 4.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_finer_strokes_lose_ink_across_or_down_and_hairlines_stay(axis: int) -> None:
    ink = np.zeros((20, 20, 4), np.uint8)
    ink[8:12, 2:18] = 255  # a level stroke
    level = Image.fromarray(ink if axis else ink.transpose(1, 0, 2))
    shares = (0.0, 0.5) if axis else (0.5, 0.0)
    fine = np.asarray(rebuilt(level, Build(finer=shares)).getchannel("A")).astype(int)
    across = fine[:, 10] if axis else fine[10]
    assert across[8:12].tolist() == [128, 255, 255, 128]

    ink[8:12] = 0
    ink[10, 2:18] = 255  # a hairline
    hairline = Image.fromarray(ink if axis else ink.transpose(1, 0, 2))
    left = np.asarray(rebuilt(hairline, Build(finer=shares)).getchannel("A"))
    assert 100 < left.max() < 160


def test_builds_are_many_and_none_takes_all_of_a_stroke() -> None:
    rng = random.Random(0)
    builds = [any_build(rng) for _ in range(200)]
    assert len(set(builds)) == 200
    assert all(0 <= share < 1 for build in builds for share in build.finer)
    assert any(build.finer == (0.0, 0.0) for build in builds)
    assert all(0.5 < build.width < 2 for build in builds)
