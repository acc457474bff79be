"""What spoils a picture, to be undone again; and the lines that are left of one.

In:  an RGB picture, a random generator.  Out: an RGB picture of the same size.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Degradation = Callable[[Image.Image, random.Random], Image.Image]

_RAIN_STREAKS = (40, 80)
_NOISE_STD = (20.0, 40.0)  # of 255
_BLUR_RADIUS = (1.5, 2.5)  # pixels
_FACTOR = 4


def rain(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Bright slanted streaks over it, all of one slant."""
    veil = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(veil)
    slant = rng.uniform(-0.4, 0.4)
    for _ in range(rng.randint(*_RAIN_STREAKS)):
        x, y = rng.uniform(0, picture.width), rng.uniform(-8, picture.height)
        length = rng.uniform(6, 16)
        end = (x + slant * length, y + length)
        pen.line((x, y, *end), fill=rng.randint(90, 200))
    grey = Image.new("RGB", picture.size, (200, 205, 215))
    darker = Image.blend(picture, Image.new("RGB", picture.size, (90, 95, 105)), 0.25)
    return Image.composite(grey, darker, veil)


def noise(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Normal noise, alike in all channels of a pixel or not."""
    random_numbers = np.random.default_rng(rng.getrandbits(32))
    std = rng.uniform(*_NOISE_STD)
    pixels = np.asarray(picture, np.float32)
    noisy = pixels + std * random_numbers.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))


def blur(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(*_BLUR_RADIUS)))


def shrink(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A quarter as wide and high, and enlarged again."""
    small = (picture.width // _FACTOR, picture.height // _FACTOR)
    tiny = picture.resize(small, Image.Resampling.BOX)
    return tiny.resize(picture.size, Image.Resampling.BICUBIC)


def edges(picture: Image.Image) -> Image.Image:
    """Black lines on white where any channel changes."""
    found = [channel.filter(ImageFilter.FIND_EDGES) for channel in picture.split()]
    strongest = ImageChops.lighter(ImageChops.lighter(found[0], found[1]), found[2])
    inner = ImageDraw.Draw(strongest)
    inner.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=0)  # no frame
    return strongest.point(lambda value: 0 if value > 48 else 255).convert("RGB")


DEGRADATIONS: Mapping[str, Degradation] = {
    "derain": rain,
    "denoise": noise,
    "deblur": blur,
    "enlarge": shrink,
}
"""By the task that undoes it."""
