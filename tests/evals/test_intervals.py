"""Intervals against published numbers and against what must hold for all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.evals.intervals import bootstrap_ratio, wilson


def test_wilson_gives_the_known_interval_of_15_in_148():
    # Newcombe (1998), method 3: 15 of 148.
    low, high = wilson(15, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_within_0_and_1(num_items, data):
    num_correct = data.draw(st.integers(0, num_items))
    low, high = wilson(num_correct, num_items)
    assert 0 <= low <= num_correct / num_items <= high <= 1
    assert low < high


def test_bootstrap_of_equal_items_has_no_width():
    assert bootstrap_ratio([1, 1, 1], [4, 4, 4]) == (0.25, 0.25)


def test_bootstrap_of_single_words_is_near_wilson():
    correct = [1] * 300 + [0] * 100
    assert bootstrap_ratio(correct, [1] * 400) == pytest.approx(wilson(300, 400), abs=0.01)


def test_bootstrap_repeats_with_its_seed():
    items = list(range(20)), [20] * 20
    assert bootstrap_ratio(*items, seed=1) == bootstrap_ratio(*items, seed=1)
    assert bootstrap_ratio(*items, seed=1) != bootstrap_ratio(*items, seed=2)


def test_nothing_has_no_interval():
    assert all(map(math.isnan, wilson(0, 0)))
    assert all(map(math.isnan, bootstrap_ratio([], [])))
