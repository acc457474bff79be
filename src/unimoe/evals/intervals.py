"""95 % intervals: how far a score could be from the truth, given so many items.

In:  correct items of all, or a numerator and a denominator for every item.  Out: `Interval`.
Source: Wilson (1927), the score interval; the bootstrap draws whole items, so that the words of
one recording stay together.
"""

from collections.abc import Sequence
from math import nan, sqrt
from typing import NamedTuple

import numpy as np

_Z = 1.959964  # of the normal distribution, 2.5 % on either side
NUM_RESAMPLES = 2000


class Interval(NamedTuple):
    """Bounds; both are nan when there is nothing to tell them from."""

    low: float
    high: float


def wilson(num_correct: int, num_items: int) -> Interval:
    """Of a proportion; sensible at 0 and at all, where the usual one has no width."""
    if num_items == 0:
        return Interval(nan, nan)
    share = num_correct / num_items
    spread = _Z**2 / num_items
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * sqrt(share * (1 - share) / num_items + spread / (4 * num_items))
    # Exactly 0 and 1 at none and all, which rounding alone would miss by a hair.
    low = 0.0 if num_correct == 0 else middle - half
    return Interval(low, 1.0 if num_correct == num_items else middle + half)


def bootstrap_ratio(
    numerators: Sequence[float] | Sequence[int],
    denominators: Sequence[float] | Sequence[int],
    *,
    seed: int = 0,
) -> Interval:
    """Of sum(numerators) / sum(denominators), drawing whole items with replacement.

    Args:
        numerators: of each item, such as its wrong words.
        denominators: of the same items, such as their words.
        seed: the same gives the same interval.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if len(top) == 0 or bottom.sum() == 0:
        return Interval(nan, nan)
    drawn = np.random.default_rng(seed).integers(0, len(top), (NUM_RESAMPLES, len(top)))
    sums = bottom[drawn].sum(1)
    ratios = top[drawn].sum(1)[sums > 0] / sums[sums > 0]
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Interval(float(low), float(high))
