"""Pictures made by hand: backgrounds, sprites laid on them, plain shapes in eight colours.

In:  a random generator, drawings with transparency.  Out: RGB pictures of `SIDE` pixels.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageStat

SIDE = 168
RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (222, 32, 38),
    "blue": (38, 80, 214),
    "green": (34, 156, 60),
    "yellow": (250, 214, 26),
    "orange": (250, 132, 20),
    "purple": (132, 44, 180),
    "black": (24, 24, 26),
    "gray": (134, 136, 140),
}
"""Their names, and the middle of what counts as them."""

SHAPES = ("circle", "square", "triangle", "star", "heart")
_JITTER = 12
_SMOOTHING = 4
_MIN_CONTRAST = 55


class Spot(NamedTuple):
    """Where something lies: its middle, and its longer side, in pixels."""

    x: float
    y: float
    side: float


def make_background(rng: random.Random, side: int = SIDE) -> Image.Image:
    """White, of one light colour, or a light gradient."""
    kind = rng.random()
    if kind < 0.35:
        return Image.new("RGB", (side, side), (255, 255, 255))
    first = _light(rng)
    if kind < 0.7:
        return Image.new("RGB", (side, side), first)
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    weight = (np.cos(angle) * columns + np.sin(angle) * rows) / math.sqrt(2) + 0.5
    mixed = weight[..., None] * np.array(_light(rng)) + (1 - weight[..., None]) * np.array(first)
    return Image.fromarray(mixed.astype(np.uint8))


def contrasting_background(
    rng: random.Random, sprite: Image.Image, side: int = SIDE
) -> Image.Image:
    """A background that a drawing, RGBA, stands out from; a dark one for light drawings."""
    drawn = ImageStat.Stat(sprite.convert("RGB"), mask=sprite.getchannel("A")).mean
    for _ in range(8):
        picture = make_background(rng, side)
        behind = ImageStat.Stat(picture).mean
        if max(abs(a - b) for a, b in zip(drawn, behind, strict=True)) > _MIN_CONTRAST:
            return picture
    return Image.new("RGB", (side, side), _dark(rng))


def lay(picture: Image.Image, sprite: Image.Image, spot: Spot, angle: float = 0.0) -> None:
    """Put a drawing, RGBA, on a picture, turned by `angle` degrees."""
    turned = sprite.rotate(angle, Image.Resampling.BICUBIC, expand=True) if angle else sprite
    scale = spot.side / max(turned.size)
    width, height = (max(1, round(length * scale)) for length in turned.size)
    scaled = turned.resize((width, height), Image.Resampling.LANCZOS)
    corner = (round(spot.x - scaled.width / 2), round(spot.y - scaled.height / 2))
    picture.paste(scaled, corner, scaled)


def shade(colour: str, rng: random.Random) -> RGB:
    """A colour of that name."""
    if colour in ("black", "gray"):  # unequal steps would tint them
        steps = [rng.randint(-_JITTER, _JITTER)] * 3
    else:
        steps = [rng.randint(-_JITTER, _JITTER) for _ in range(3)]
    red, green, blue = (
        min(255, max(0, value + step)) for value, step in zip(COLOURS[colour], steps, strict=True)
    )
    return red, green, blue


def draw_shape(name: str, colour: RGB, side: int) -> Image.Image:
    """A plain shape, RGBA, cut to what is drawn.

    Args:
        name: one of `SHAPES`.
        colour: of its inside; the edge is smooth.
        side: of its longer side, in pixels.
    """
    large = side * _SMOOTHING
    mask = Image.new("L", (large, large), 0)
    pen = ImageDraw.Draw(mask)
    if name == "circle":
        pen.ellipse((0, 0, large - 1, large - 1), fill=255)
    elif name == "square":
        pen.rectangle((0, 0, large, large), fill=255)
    else:
        pen.polygon([(x * large, y * large) for x, y in _outline(name)], fill=255)
    picture = Image.new("RGBA", (side, side), (*colour, 255))
    picture.putalpha(mask.resize((side, side), Image.Resampling.LANCZOS))
    box = picture.getbbox()
    return picture.crop(box) if box else picture


def _outline(name: str) -> list[tuple[float, float]]:
    """Corners in the unit square."""
    if name == "triangle":
        return [(0.5, 0.04), (1.0, 0.94), (0.0, 0.94)]
    if name == "star":
        radii = [0.5 if corner % 2 == 0 else 0.2 for corner in range(10)]
        return [
            (0.5 + r * math.sin(math.pi * k / 5), 0.52 - r * math.cos(math.pi * k / 5))
            for k, r in enumerate(radii)
        ]
    steps = [2 * math.pi * k / 60 for k in range(60)]
    return [
        (
            0.5 + 16 * math.sin(t) ** 3 / 34,
            0.47
            - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 34,
        )
        for t in steps
    ]


def _light(rng: random.Random) -> RGB:
    return rng.randint(205, 255), rng.randint(205, 255), rng.randint(205, 255)


def _dark(rng: random.Random) -> RGB:
    return rng.randint(30, 110), rng.randint(60, 120), rng.randint(80, 140)
