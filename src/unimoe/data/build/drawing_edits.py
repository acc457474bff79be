"""Edits of small scenes: an instruction, the scene before it, the scene after it.

In:  a random generator.  Out: an `Edit`: recolour, remove, add, replace.
Things lie in corners of the picture, each of another colour, so that an instruction names one.
What an edit leaves alone is the same in both pictures, pixel for pixel.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from unimoe.data.build.canvas import COLOURS, SHAPES, Spot
from unimoe.data.build.drawing_scenes import article
from unimoe.data.build.scene_layout import Kind, Thing

CORNERS = {"at the top left": (27, 27), "at the top right": (69, 27),
           "at the bottom left": (27, 69), "at the bottom right": (69, 69)}  # fmt: skip
_SIDES = (26.0, 36.0)


class Edit(NamedTuple):
    """An instruction and what it changes."""

    kind: str
    """recolour, remove, add or replace."""
    instruction: str
    before: tuple[Thing, ...]
    after: tuple[Thing, ...]

    @property
    def key(self) -> str:
        """What lies where, before and after."""
        return f"{self.instruction} {_listed(self.before)}"


def make_edit(kind: str, rng: random.Random) -> Edit:
    """One edit of that kind, of a scene of two or three things."""
    return _MAKERS[kind](_scene(rng), rng)


def _scene(rng: random.Random) -> list[Thing]:
    colours = rng.sample(list(COLOURS), rng.randint(2, 3))
    corners = rng.sample(list(CORNERS.values()), len(colours))
    return [
        Thing(Kind(rng.choice(SHAPES), colour), Spot(x, y, rng.uniform(*_SIDES)))
        for colour, (x, y) in zip(colours, corners, strict=True)
    ]


def _free_colour(things: list[Thing], rng: random.Random) -> str:
    taken = {thing.kind.colour for thing in things}
    return rng.choice([colour for colour in COLOURS if colour not in taken])


def _recolour(things: list[Thing], rng: random.Random) -> Edit:
    (kind, spot), *others = things
    colour = _free_colour(things, rng)
    return _edit(
        "recolour",
        f"Make the {kind.words} {colour}.",
        things,
        [Thing(Kind(kind.name, colour), spot), *others],
    )


def _remove(things: list[Thing], rng: random.Random) -> Edit:
    return _edit("remove", f"Remove the {things[0].kind.words}.", things, things[1:])


def _add(things: list[Thing], rng: random.Random) -> Edit:
    new = Kind(rng.choice(SHAPES), _free_colour(things, rng))
    taken = {(thing.spot.x, thing.spot.y) for thing in things}
    words, (x, y) = rng.choice([(w, spot) for w, spot in CORNERS.items() if spot not in taken])
    added = Thing(new, Spot(x, y, sum(_SIDES) / 2))
    return _edit("add", f"Add {article(new.words)} {words}.", things, [*things, added])


def _replace(things: list[Thing], rng: random.Random) -> Edit:
    (kind, spot), *others = things
    name = rng.choice([shape for shape in SHAPES if shape != kind.name])
    new = Kind(name, _free_colour(things, rng))
    words = f"Replace the {kind.words} with {article(new.words)}."
    return _edit("replace", words, things, [Thing(new, spot), *others])


def _edit(kind: str, instruction: str, before: list[Thing], after: list[Thing]) -> Edit:
    return Edit(kind, instruction, tuple(before), tuple(after))


def _listed(things: tuple[Thing, ...]) -> str:
    return ", ".join(sorted(f"{t.kind.words} {t.spot.x:.0f} {t.spot.y:.0f}" for t in things))


_MAKERS: dict[str, Callable[[list[Thing], random.Random], Edit]] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "replace": _replace,
}
EDIT_KINDS = tuple(_MAKERS)
