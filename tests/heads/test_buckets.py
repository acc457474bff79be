"""Sizes an image is drawn in: the released list, and the nearest of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.heads.golden_image import FOLDER
from unimoe.heads.buckets import nearest_bucket, size_buckets

CASES = json.loads((FOLDER / "buckets.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case["size"])))
def test_nearest_bucket_is_the_recorded_one(case: dict[str, list[int]]) -> None:
    assert list(nearest_bucket(*case["size"], square_side=768)) == case["chosen"]


def test_small_set_is_drawn_out() -> None:
    assert size_buckets(32) == [
        (64, 16),
        (48, 16),
        (32, 16),
        (32, 32),
        (16, 32),
        (16, 48),
        (16, 64),
    ]


def test_released_set_has_145_sizes_with_both_ends_and_the_square() -> None:
    buckets = size_buckets(768)
    assert len(buckets) == 145
    assert (buckets[0], buckets[72], buckets[-1]) == ((1536, 384), (768, 768), (384, 1536))


@given(side=st.integers(1, 80).map(lambda patches: 16 * patches))
def test_no_bucket_has_more_pixels_than_the_square_or_is_too_long(side: int) -> None:
    for width, height in size_buckets(side):
        assert width % 16 == height % 16 == 0
        assert 0 < width * height <= side**2
        assert max(width, height) <= 4 * min(width, height)


@given(side=st.integers(1, 80).map(lambda patches: 16 * patches))
def test_the_square_finds_itself(side: int) -> None:
    assert nearest_bucket(side, side, square_side=side) == (side, side)
