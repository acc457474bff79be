"""What is in a composed picture, and where.

In:  drawings, a random generator.  Out: a `Scene`: the picture and the things in it, none of which
cover another.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from unimoe.data.build.canvas import (
    COLOURS,
    SHAPES,
    SIDE,
    Spot,
    draw_shape,
    lay,
    make_background,
    shade,
)
from unimoe.data.build.drawings import Concept, Drawings, read_concepts

# Plain at 30 pixels, one drawing each, unlike each other and unlike the shapes.
SPRITE_NAMES = (
    "cat dog pig cow horse rabbit lion elephant penguin frog fish turtle snail butterfly bee "
    "ladybug tree cactus sunflower rose mushroom apple banana strawberry grapes lemon carrot "
    "pineapple watermelon hamburger pizza donut cookie car bus tractor bicycle airplane rocket "
    "sailboat train house castle umbrella cloud snowman hat book key bell guitar drum camera "
    "phone chair bed hammer scissors balloon soccer_ball basketball"
)
_GAP = 5
_TRIES = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """What a thing is: a shape of a colour, or something drawn."""

    name: str
    """Such as "circle" or "cat"."""
    colour: str | None = None

    @property
    def words(self) -> str:
        """Such as "red circle" or "cat"."""
        return f"{self.colour} {self.name}" if self.colour else self.name


class Thing(NamedTuple):
    """Something in a picture."""

    kind: Kind
    spot: Spot


class Sprite(NamedTuple):
    """A concept with its drawings in several styles."""

    concept: Concept
    drawings: tuple[Image.Image, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is in it."""

    things: tuple[Thing, ...]
    picture: Image.Image = field(repr=False)

    @property
    def key(self) -> str:
        """What is where, in steps of 8 pixels."""
        places = [
            f"{thing.kind.words} {thing.spot.x // 8:.0f} {thing.spot.y // 8:.0f}"
            for thing in self.things
        ]
        return ", ".join(sorted(places))

    def of(self, *, name: str | None = None, colour: str | None = None) -> list[Thing]:
        """Things of that name and colour."""
        return [
            thing
            for thing in self.things
            if name in (None, thing.kind.name) and colour in (None, thing.kind.colour)
        ]


def read_sprites(drawings: Drawings, styles: Sequence[str]) -> list[Sprite]:
    """The things that scenes are made of, those that at least one style draws."""
    wanted = {name.replace("_", " ") for name in SPRITE_NAMES.split()}
    sprites = []
    for concept in read_concepts():
        if concept.name in wanted:
            drawn = [drawings.draw(style, concept.codes[-1], 128) for style in styles]
            kept = tuple(picture for picture in drawn if picture is not None)
            sprites += [Sprite(concept, kept)] if kept else []
    return sprites


def compose_scene(
    sprites: Sequence[Sprite], rng: random.Random, *, is_alone: bool = False
) -> Scene:
    """A scene of one of three makes: many of a kind, several kinds, or two things.

    Args:
        sprites: what it is made of, beside shapes.
        rng: of all that is drawn.
        is_alone: there is one thing, and nothing else.
    """
    kinds = [_any_kind(sprites, rng)] if is_alone else _kinds(sprites, rng)
    large = max(30, 100 - 9 * len(kinds))
    picture = make_background(rng)
    things: list[Thing] = []
    for kind in kinds:
        side = rng.uniform(28, 40) if rng.random() < 0.4 else rng.uniform(28, large)
        spot = _free_spot(things, side, rng)
        if spot is not None:
            things.append(Thing(kind, spot))
            _draw(picture, things[-1], sprites, rng)
    return Scene(tuple(things), picture)


def _kinds(sprites: Sequence[Sprite], rng: random.Random) -> list[Kind]:
    make = rng.random()
    if make < 0.4:
        many = [_any_kind(sprites, rng)] * rng.randint(2, 6)
        return [*many, *(_any_kind(sprites, rng) for _ in range(rng.randint(0, 3)))]
    return [_any_kind(sprites, rng) for _ in range(2 if make < 0.65 else rng.randint(3, 6))]


def _any_kind(sprites: Sequence[Sprite], rng: random.Random) -> Kind:
    if rng.random() < 0.65:
        return Kind(rng.choice(SHAPES), rng.choice(tuple(COLOURS)))
    return Kind(rng.choice(sprites).concept.name)


def _free_spot(things: Sequence[Thing], side: float, rng: random.Random) -> Spot | None:
    for shrunk in range(_TRIES):
        size = max(26.0, side * (1 - shrunk / _TRIES))
        edge = size / 2 + 2
        spot = Spot(rng.uniform(edge, SIDE - edge), rng.uniform(edge, SIDE - edge), size)
        if not any(_touch(spot, other.spot) for other in things):
            return spot
    return None


def _touch(one: Spot, other: Spot) -> bool:
    apart = (one.side + other.side) / 2 + _GAP
    return abs(one.x - other.x) < apart and abs(one.y - other.y) < apart


def _draw(
    picture: Image.Image, thing: Thing, sprites: Sequence[Sprite], rng: random.Random
) -> None:
    kind, spot = thing
    if kind.colour is not None:
        drawing = draw_shape(kind.name, shade(kind.colour, rng), round(spot.side))
    else:
        drawing = rng.choice(next(s for s in sprites if s.concept.name == kind.name).drawings)
    lay(picture, drawing, spot)
