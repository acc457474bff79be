"""Splits by hash: whatever has the same key lands in the same split, in every data set and run.

In:  a key such as a name, a sentence or a voice.  Out: "train", "validation" or "test".
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

from unimoe.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class SplitRatios(NamedTuple):
    """Shares of the three splits; they sum to 1."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1


def split_of(key: str, seed: int = 0, ratios: SplitRatios = SplitRatios()) -> Split:  # noqa: B008
    """The split of all samples made from this key.

    Disjoint by construction: it depends on nothing but the key, so two samples of one sentence
    never part. Shares hold on average over many keys.

    Raises:
        DataError: the shares are negative or do not sum to 1.
    """
    if min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-9:
        raise DataError(f"split shares {tuple(ratios)}; need three from 0 on that sum to 1")
    point = unit_hash(key, seed)
    if point < ratios[0]:
        return "train"
    return "validation" if point < ratios[0] + ratios[1] else "test"


def unit_hash(key: str, seed: int = 0) -> float:
    """A number from 0 up to 1 that looks random, and is the same for the same key and seed."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    # 53 bits are what a float holds: more would round up to 1.
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
