"""A sheet of what was drawn: every picture above the words it was asked for in.

In:  pictures uint8 [height, width, 3] of one size, with captions.  Out: one picture. Where a source
was given, it stands to the left of what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from unimoe.data.sheet import wrapped

_WIDTH = 1200
_MARGIN, _LINE_PIXELS, _FONT_PIXELS, _MOST_LINES = 4, 13, 11, 3
_INK, _PAPER = (20, 20, 20), (235, 238, 242)

Picture = UInt8[np.ndarray, "height width 3"]


class Shown(NamedTuple):
    """One tile."""

    caption: str
    pictures: tuple[Picture, ...]
    """From left to right."""


def draw_sheet(shown: Sequence[Shown]) -> Image.Image:
    """All tiles, row by row; as many pictures each."""
    font = ImageFont.load_default(_FONT_PIXELS)
    height, side, _ = shown[0].pictures[0].shape
    width = len(shown[0].pictures) * (side + _MARGIN)
    columns = min(len(shown), _WIDTH // width)
    captions = [wrapped(tile.caption, font, width - _MARGIN)[:_MOST_LINES] for tile in shown]
    row_height = height + _LINE_PIXELS * max(map(len, captions)) + 2 * _MARGIN
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * row_height + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, (tile, lines) in enumerate(zip(shown, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * width, _MARGIN + row * row_height
        for number, picture in enumerate(tile.pictures):
            sheet.paste(Image.fromarray(picture), (left + number * (side + _MARGIN), top))
        for number, line in enumerate(lines):
            below = top + height + 1 + number * _LINE_PIXELS
            pen.text((left, below), line, fill=_INK, font=font)
    return sheet
