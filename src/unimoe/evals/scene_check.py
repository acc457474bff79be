"""Whether a drawn scene is what was asked for, measured in its pixels.

In:  a picture uint8 [96, 96, 3], the kind and words of the scene.  Out: right or wrong.
Pixels far from white count as the nearest of the eight colours; what touches is one thing.

    one        the largest thing has the colour
    place      and its middle is beyond the middle of the picture, to the side that was asked
    count      so many things have the colour, and none another
    relation   the two colours are there, one on the asked side of the other
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from unimoe.data.build.canvas import COLOURS
from unimoe.data.build.questions import NUMBER_WORDS
from unimoe.errors import DataError

Picture = UInt8[np.ndarray, "height width 3"]

_FAR_FROM_WHITE = 90.0  # in RGB, of 442
_LEAST_PIXELS = 60
_LEAST_SHIFT = 8.0  # pixels
_SIDES = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}
_COLOUR = re.compile("|".join(COLOURS))
_SIDE = re.compile("|".join(_SIDES))
_LEAST_SHARE_IN_DEPTH = 0.7
_NEAR, _FAR = 192, 64
"""Greys of a depth map: above the first is the nearer thing, from the second on the farther."""


class Patch(NamedTuple):
    """A thing as it is seen."""

    colour: str
    x: float
    y: float
    pixels: int


def is_as_asked(picture: Picture, kind: str, words: str) -> bool:
    """Whether a scene of this kind was drawn right.

    Raises:
        DataError: there is no such kind of scene.
    """
    colours: list[str] = _COLOUR.findall(words)
    patches = patches_of(picture)
    if not patches:
        return False
    if kind == "count":
        number = NUMBER_WORDS.index(words.split()[0])
        return [patch.colour for patch in patches] == colours * number
    largest = patches[0]
    if kind == "one":
        return largest.colour == colours[0]
    side = _SIDE.search(words)
    if side is None or kind not in ("place", "relation"):
        raise DataError(f"a scene of kind {kind!r} in the words {words!r}; it cannot be measured")
    if kind == "place":
        middle = Patch("", picture.shape[1] / 2, picture.shape[0] / 2, 0)
        return largest.colour == colours[0] and _lies(largest, middle, side[0])
    found = [next((p for p in patches if p.colour == colour), None) for colour in colours]
    first, second = found
    return first is not None and second is not None and _lies(first, second, side[0])


def fills_depth(picture: Picture, depth: Picture, words: str) -> bool:
    """Whether of "a red star in front of a blue heart" both colours are where they belong.

    Args:
        picture: as drawn.
        depth: its map, white where the nearer thing is, grey where the farther one, else black.
        words: nearer thing first.
    """
    seen, grey = _nearest_colours(picture), depth[:, :, 0]
    places = (grey > _NEAR, (grey > _FAR) & (grey <= _NEAR))
    colours = [list(COLOURS).index(colour) for colour in _COLOUR.findall(words)]
    return all(
        (seen[place] == colour).mean() >= _LEAST_SHARE_IN_DEPTH
        for place, colour in zip(places, colours, strict=True)
    )


def patches_of(picture: Picture) -> list[Patch]:
    """What is drawn on white, the largest first."""
    nearest = _nearest_colours(picture)
    found = []
    for number, colour in enumerate(COLOURS):
        labels = _labelled(nearest == number)
        for label in range(1, labels.max() + 1):
            rows, columns = np.nonzero(labels == label)
            if len(rows) >= _LEAST_PIXELS:
                found.append(Patch(colour, columns.mean(), rows.mean(), len(rows)))
    return sorted(found, key=lambda patch: -patch.pixels)


def _nearest_colours(picture: Picture) -> Int[np.ndarray, "height width"]:
    """Numbers of `COLOURS`; -1 on white."""
    pixels = picture.astype(np.float32)
    palette = np.array(list(COLOURS.values()), np.float32)
    nearest = np.linalg.norm(pixels[:, :, None] - palette, axis=3).argmin(2)
    return np.where(np.linalg.norm(255 - pixels, axis=2) > _FAR_FROM_WHITE, nearest, -1)


def _lies(one: Patch, other: Patch, words: str) -> bool:
    dx, dy = _SIDES[words]
    return bool((one.x - other.x) * dx + (one.y - other.y) * dy >= _LEAST_SHIFT)


def _labelled(mask: Bool[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """Numbers from 1 on for what is connected by sides, 0 elsewhere."""
    labels = np.zeros(mask.shape, np.int64)
    count = 0
    for seed in zip(*np.nonzero(mask), strict=True):
        if labels[seed]:
            continue
        count += 1
        waiting = [seed]
        while waiting:
            row, column = waiting.pop()
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            if inside and mask[row, column] and not labels[row, column]:
                labels[row, column] = count
                waiting += [(row + 1, column), (row - 1, column), (row, column + 1),
                            (row, column - 1)]  # fmt: skip
    return labels
