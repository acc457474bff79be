"""Repaired and edited pictures against what they should be; and what a classical filter reaches.

In:  pictures uint8 [height, width, 3].  Out: PSNR in dB; pictures.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from unimoe.data.build.degrade import edges
from unimoe.errors import DataError

Picture = UInt8[np.ndarray, "height width 3"]

_BEST_PSNR_DB = 99.0
_MARGIN = 9  # pixels of the square that widens a changed region; 4 to every side
_DARK, _NEAR_LINE = 128, 1
_WIENER_RADIUS, _WIENER_NOISE = 2.0, 0.003


def psnr_db(
    picture: Picture, wanted: Picture, region: Bool[np.ndarray, "height width"] | None = None
) -> float:
    """Of a region, or of all; 99 where nothing differs."""
    difference = picture.astype(np.float64) - wanted
    squares = (difference**2)[... if region is None else region]
    error = squares.mean() if squares.size else 0.0
    return min(_BEST_PSNR_DB, float(10 * np.log10(255**2 / max(error, 1e-9))))


def changed_region(before: Picture, after: Picture) -> Bool[np.ndarray, "height width"]:
    """Where two pictures differ, and a margin of 4 pixels around."""
    differs = Image.fromarray(255 * (before != after).any(2).astype(np.uint8))
    return np.asarray(differs.filter(ImageFilter.MaxFilter(_MARGIN))) > 0


def lines_followed(picture: Picture, lines: Picture) -> float:
    """How well the edges of a picture are those it was to be drawn from: 0 to 1.

    The F measure of their pixels, of which one counts as met where the other drawing has an edge
    within `_NEAR_LINE` pixels.
    """
    wanted = lines[:, :, 0] < _DARK
    found = np.asarray(edges(Image.fromarray(picture)))[:, :, 0] < _DARK
    if not wanted.any() or not found.any():
        return float(wanted.any() == found.any())
    recall = (wanted & _widened(found)).sum() / wanted.sum()
    precision = (found & _widened(wanted)).sum() / found.sum()
    return float(2 * recall * precision / max(recall + precision, 1e-9))


def _widened(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    image = Image.fromarray(255 * mask.astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * _NEAR_LINE + 1))) > 0


def classically_repaired(picture: Picture, task: str) -> Picture:
    """What a filter makes of it that has learned nothing.

    Median of 5 x 5 pixels against rain, of 3 x 3 against noise; Wiener's filter for a Gaussian of 2
    pixels against blur; an enlarged picture is bicubic as it is given.

    Raises:
        DataError: there is no such task.
    """
    image = Image.fromarray(picture)
    if task == "derain":
        return np.asarray(image.filter(ImageFilter.MedianFilter(5)))
    if task == "denoise":
        return np.asarray(image.filter(ImageFilter.MedianFilter(3)))
    if task == "deblur":
        return _wiener(picture)
    if task == "enlarge":
        return picture
    raise DataError(f"no classical filter for task {task!r}")


def _wiener(picture: Picture) -> Picture:
    padded = np.pad(picture.astype(np.float64), ((16, 16), (16, 16), (0, 0)), mode="edge")
    frequencies = [np.fft.fftfreq(length)[:, None] for length in padded.shape[:2]]
    squared = frequencies[0] ** 2 + frequencies[1].T ** 2
    blur = np.exp(-2 * (np.pi * _WIENER_RADIUS) ** 2 * squared)[..., None]
    inverse = blur / (blur**2 + _WIENER_NOISE)
    sharp = np.fft.ifft2(np.fft.fft2(padded, axes=(0, 1)) * inverse, axes=(0, 1)).real
    return sharp[16:-16, 16:-16].clip(0, 255).round().astype(np.uint8)
