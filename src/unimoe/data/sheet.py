"""A contact sheet: examples of a data set at one glance.

In:  samples and the folder of their media.  Out: one picture, a tile a sample.
An image is shown as it is, a sound by its spectrum over time, a film by a strip of its frames; the
first question and answer stand below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from unimoe.config import VideoConfig
from unimoe.data.manifest import media_file
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.media.audio import load_audio
from unimoe.media.image import load_image
from unimoe.media.video import load_video

_TILE_WIDTH, _PICTURE_HEIGHT, _CAPTION_HEIGHT, _MARGIN = 220, 150, 74, 8
_NUM_COLUMNS = 5
_STRIP_FRAMES = 6
_FONT_PIXELS, _LINE_PIXELS = 12, 15
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (235, 238, 242)


def draw_contact_sheet(samples: Sequence[OmniSample], folder: Path) -> Image.Image:
    """The sheet, five tiles a row; one sample or more."""
    num_columns = min(_NUM_COLUMNS, len(samples))
    num_rows = math.ceil(len(samples) / _NUM_COLUMNS)
    width, height = _TILE_WIDTH + _MARGIN, _PICTURE_HEIGHT + _CAPTION_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (width * num_columns + _MARGIN, height * num_rows + _MARGIN), _PAPER)
    for index, sample in enumerate(samples):
        row, column = divmod(index, _NUM_COLUMNS)
        sheet.paste(_tile(sample, folder), (_MARGIN + column * width, _MARGIN + row * height))
    return sheet


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of so many pixels at most; a word that is too long is broken."""
    lines = [""]
    for word in text[:600].split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _tile(sample: OmniSample, folder: Path) -> Image.Image:
    tile = Image.new("RGB", (_TILE_WIDTH, _PICTURE_HEIGHT + _CAPTION_HEIGHT), _PAPER)
    pictures = [_picture(media_file(folder, path)) for path in sample.images]
    pictures += [_film_strip(media_file(folder, path)) for path in sample.videos]
    pictures += [_spectrum(media_file(folder, path)) for path in sample.audios]
    for index, picture in enumerate(pictures):
        height = _PICTURE_HEIGHT // len(pictures)
        fitted = ImageOps.pad(picture, (_TILE_WIDTH, height), color=_FAINT)
        tile.paste(fitted, (0, index * height))
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(_FONT_PIXELS)
    top, num_lines = (0, 15) if not pictures else (_PICTURE_HEIGHT + 2, 5)
    if not pictures:
        draw.rectangle((0, 0, _TILE_WIDTH, tile.height), fill=_FAINT)
    for number, line in enumerate(wrapped(_caption(sample), font, _TILE_WIDTH - 4)[:num_lines]):
        draw.text((2, top + number * _LINE_PIXELS), line, fill=_INK, font=font)
    return tile


def _caption(sample: OmniSample) -> str:
    said = {"user": "", "assistant": ""}
    for turn in reversed(sample.conversations):
        if turn.role in said:
            said[turn.role] = " ".join(PLACEHOLDER.sub("", turn.text).split())
    return f"[{sample.task}] {said['user']} = {said['assistant']}"


def _picture(path: Path) -> Image.Image:
    return Image.fromarray(load_image(path))


def _film_strip(path: Path) -> Image.Image:
    film = load_video(
        path, VideoConfig(min_frames=_STRIP_FRAMES, max_frames=_STRIP_FRAMES), has_audio=False
    )
    shown = [Image.fromarray(frame) for frame in film.frames]
    num_shown = len(shown)
    width, height = shown[0].size
    columns = math.ceil(num_shown / 2) if num_shown > 3 else num_shown
    strip = Image.new("RGB", (width * columns, height * math.ceil(num_shown / columns)), _PAPER)
    for index, frame in enumerate(shown):
        row, column = divmod(index, columns)
        strip.paste(frame, (column * width, row * height))
    return strip


def _spectrum(path: Path) -> Image.Image:
    """Loudness of 0-8 kHz from bottom to top over time, 60 dB from white to black."""
    samples = load_audio(path).samples
    window, hop = 512, max(160, len(samples) // _TILE_WIDTH)
    starts = range(0, max(1, len(samples) - window), hop)
    padded = np.pad(samples, (0, window))
    pieces = np.stack([padded[start : start + window] for start in starts])
    power = np.abs(np.fft.rfft(pieces * np.hanning(window), axis=1)) ** 2
    decibels = 10 * np.log10(power / max(power.max(), 1e-12) + 1e-6)
    grey = np.clip(-decibels / 60 * 255, 0, 255).astype(np.uint8)  # [time, frequency]
    return Image.fromarray(grey.T[::-1]).convert("RGB").resize((_TILE_WIDTH, _PICTURE_HEIGHT))
