"""Builds of letters: the same ones wider or narrower, leaning, of finer strokes.

In:  a line or two of letters as they are drawn, RGBA.  Out: the same, built otherwise.
A family shows a letter in one build or a few; what reads only these knows families, not letters.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_WIDTHS = (0.75, 1.3)
_MOST_LEAN = 0.2
_MOST_FINER = 0.7
"""Of one; all of it would take away hairlines, which are as thin as what goes."""
_SHARE = 0.5
"""So often strokes of one direction become finer: fine in both, in one, or in none."""


class Build(NamedTuple):
    """How letters are built, beside how their family draws them."""

    width: float = 1.0
    """Of one."""
    lean: float = 0.0
    """How far a letter moves to the right, by how far it stands above the middle."""
    finer: tuple[float, float] = (0.0, 0.0)
    """How much of their outermost pixels upright and level strokes lose, from 0 to 1."""


PLAIN = Build()


def any_build(rng: random.Random) -> Build:
    """One of many."""
    finer = [rng.uniform(0.0, _MOST_FINER) if rng.random() < _SHARE else 0.0 for _ in range(2)]
    lean = rng.uniform(-_MOST_LEAN, _MOST_LEAN)
    return Build(rng.uniform(*_WIDTHS), lean, (finer[0], finer[1]))


def rebuilt(letters: Image.Image, build: Build) -> Image.Image:
    """The letters, RGBA, in another build around the same middle; the picture grows with them."""
    if build == PLAIN:
        return letters
    fine = letters.copy()
    fine.putalpha(Image.fromarray(_finer(np.asarray(letters.getchannel("A")), build.finer)))
    aside = abs(build.lean) * letters.height
    size = (round(letters.width * build.width + aside), letters.height)
    # Where each pixel of the new picture was in the old one.
    across = (1 / build.width, build.lean / build.width)
    first = letters.width / 2 - across[0] * size[0] / 2 - across[1] * size[1] / 2
    way = (*across, first, 0.0, 1.0, 0.0)
    return fine.transform(size, Image.Transform.AFFINE, way, Image.Resampling.BICUBIC)


def moved(right: float, below: float, build: Build) -> tuple[float, float]:
    """Where a point of the letters is in their new build, from the middle as before."""
    return right * build.width - build.lean * below, below


def _finer(
    inked: UInt8[np.ndarray, "height width"], shares: tuple[float, float]
) -> UInt8[np.ndarray, "height width"]:
    """Ink with less of it where, across or down, a neighbour has less."""
    ink = inked.astype(np.float32)
    for axis, share in zip((1, 0), shares, strict=True):
        if share:
            around = np.pad(ink, [(1, 1) if each == axis else (0, 0) for each in (0, 1)])
            before = around.take(range(ink.shape[axis]), axis)
            after = around.take(range(2, 2 + ink.shape[axis]), axis)
            ink -= share * (ink - np.minimum(ink, np.minimum(before, after)))
    return ink.round().astype(np.uint8)
