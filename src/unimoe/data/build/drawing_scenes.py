"""Small scenes that are asked for in words: a coloured shape or two, so many of them, at a place.

In:  a random generator.  Out: what is asked, and a picture of it, RGB, `PICTURE_SIDE` pixels.
Everything that the words say can be measured in the picture again: colours are those of `canvas`,
places are thirds of the picture, and backgrounds are white or light.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from unimoe.data.build.canvas import COLOURS, SHAPES, Spot, draw_shape, lay, shade
from unimoe.data.build.questions import NUMBER_WORDS
from unimoe.data.build.scene_layout import Kind, Thing

PICTURE_SIDE = 96
PLACES = {"on the left": (24, 48), "on the right": (72, 48), "at the top": (48, 24),
          "at the bottom": (48, 72)}  # fmt: skip
"""Words of a place -> its middle, in pixels."""
RELATIONS = {"left of": (-22, 0), "right of": (22, 0), "above": (0, -22), "below": (0, 22)}
"""Words between two things -> how far the first is from the middle; the second is opposite."""
_COUNTED_SPOTS = {
    2: ((27, 48), (69, 48)),
    3: ((48, 27), (27, 68), (69, 68)),
    4: ((27, 27), (69, 27), (27, 69), (69, 69)),
}
_WHITE = (255, 255, 255)
_JITTER = 3


class Wanted(NamedTuple):
    """A scene in words, and where its things are to be."""

    words: str
    """Such as "a red circle left of a blue star"."""
    kind: str
    """one, place, count or relation."""
    things: tuple[Thing, ...]


def article(words: str) -> str:
    """With "a" or "an" before it."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def all_kinds() -> list[Kind]:
    """Every shape in every colour."""
    return [Kind(shape, colour) for shape in SHAPES for colour in COLOURS]


def wanted_scenes() -> Iterator[Wanted]:
    """Scenes of one kind of thing: alone, at every place, and two to four of them."""
    for kind in all_kinds():
        yield Wanted(article(kind.words), "one", (Thing(kind, Spot(48, 48, 50)),))
        for words, (x, y) in PLACES.items():
            thing = Thing(kind, Spot(x, y, 36))
            yield Wanted(f"{article(kind.words)} {words}", "place", (thing,))
        for number, spots in _COUNTED_SPOTS.items():
            things = tuple(Thing(kind, Spot(x, y, 30)) for x, y in spots)
            yield Wanted(f"{NUMBER_WORDS[number]} {kind.words}s", "count", things)


def wanted_relations() -> Iterator[Wanted]:
    """Two things of unlike colours, one beside the other: every pair on every side."""
    for first, second in itertools.permutations(all_kinds(), 2):
        if first.colour == second.colour:
            continue
        for words, (dx, dy) in RELATIONS.items():
            spots = (Spot(48 + dx, 48 + dy, 36), Spot(48 - dx, 48 - dy, 36))
            yield Wanted(
                f"{article(first.words)} {words} {article(second.words)}",
                "relation",
                (Thing(first, spots[0]), Thing(second, spots[1])),
            )


def jittered(things: Sequence[Thing], rng: random.Random) -> tuple[Thing, ...]:
    """The same things, each a little elsewhere and a little larger or smaller."""
    return tuple(
        Thing(
            kind,
            Spot(
                spot.x + rng.uniform(-_JITTER, _JITTER),
                spot.y + rng.uniform(-_JITTER, _JITTER),
                spot.side * rng.uniform(0.9, 1.1),
            ),
        )
        for kind, spot in things
    )


def draw_scene(
    things: Sequence[Thing], shades: str, background: tuple[int, int, int] = _WHITE
) -> Image.Image:
    """The things, the later ones on the earlier.

    Args:
        things: all of them shapes.
        shades: the same one gives a thing the same shade of its colour, whatever is beside it.
        background: its colour.
    """
    picture = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), background)
    for kind, spot in things:
        assert kind.colour is not None
        colour = shade(kind.colour, random.Random(f"{shades} {kind.words}"))
        lay(picture, draw_shape(kind.name, colour, round(spot.side)), spot)
    return picture


def draw_depth(things: Sequence[Thing]) -> Image.Image:
    """How near everything is, in grey: the background black, the nearest, which is last, white."""
    picture = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), (0, 0, 0))
    for number, (kind, spot) in enumerate(things, start=1):
        grey = round(255 * number / len(things))
        lay(picture, draw_shape(kind.name, (grey, grey, grey), round(spot.side)), spot)
    return picture


def wanted_depth(rng: random.Random) -> Wanted:
    """Two things of unlike colours, one partly behind the other."""
    nearer, farther = rng.sample(all_kinds(), 2)
    while nearer.colour == farther.colour:
        nearer, farther = rng.sample(all_kinds(), 2)
    dx, dy = rng.choice(list(RELATIONS.values()))
    spots = (Spot(48 - dx / 2, 48 - dy / 2, 46), Spot(48 + dx / 2, 48 + dy / 2, 40))
    return Wanted(
        f"{article(nearer.words)} in front of {article(farther.words)}",
        "depth",
        (Thing(farther, spots[0]), Thing(nearer, spots[1])),
    )
