"""What is said of places in pictures and moments of sounds, by the tokens that show them.

In:  a sample of a data set, its sequence.  Out: for each place and moment, the positions of its
     tokens, its words, and whether one of the tokens alone is to say them.
A token of a picture shows a place if its middle lies within the box; one of a sound if its middle
lies within the moment. Whatever is too small for that is shown by the token that holds its middle.
Words parted by `|` are told window by window: the first part by the first token of every window
that shows the place, and so on; the last tells what parts are left over. A place that is the whole
picture is shown by windows that show no smaller one. What stands at a point is said once, by one of
the tokens around it, of which there are four, fewer at an edge.
Axes: seq = tokens of the sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.data.sample import WHOLE_PICTURE, Box, Moment, OmniSample, Place
from unimoe.errors import DataError
from unimoe.tokens.sequence import Sample


class Shown(NamedTuple):
    """By which tokens something is shown."""

    positions: list[int]
    words: str
    is_once: bool = False
    """To be said by one of these tokens alone, after whatever comes before it."""


def told_of(omni: OmniSample, sample: Sample, config: OmniConfig) -> Iterator[Shown]:
    """Every place, then every moment.

    Raises:
        DataError: moments are told of a sample with videos: their sound tracks stand among the
            sounds.
    """
    if omni.moments and omni.videos:
        raise DataError("moments of a sample with videos; tell them of sounds alone")
    if omni.places:
        yield from _places_told(omni.places, sample, config)
    if omni.moments:
        yield from _moments_told(omni.moments, sample, config)


def _places_told(places: Sequence[Place], sample: Sample, config: OmniConfig) -> Iterator[Shown]:
    assert config.vision is not None
    assert sample.image_grid_thw is not None
    side, per_window = config.vision.pool_side, config.vision.tokens_per_window
    grids = sample.image_grid_thw[:, 1:].tolist()
    middles = [_tile_middles(rows, columns, side, side * per_window) for rows, columns in grids]
    pads = _split(sample.input_ids, config.special_tokens.image_pad, middles)
    for words, box, image in places:
        if box.is_point:
            yield Shown(pads[image][_around(middles[image], box)].tolist(), words, is_once=True)
            continue
        parts = _parts(words, per_window)
        own = pads[image].view(-1, len(parts))  # windows, or all tokens
        own_middles = middles[image].view(*own.shape, 2).mean(1)
        shown = _shown(own_middles, _edges(box))
        if box == WHOLE_PICTURE:
            shown &= ~_show_less(own_middles, [p.box for p in places if p.image == image])
        for number, part in enumerate(parts):
            if part and bool(shown.any()):
                yield Shown(own[shown, number].tolist(), part)


def _moments_told(moments: Sequence[Moment], sample: Sample, config: OmniConfig) -> Iterator[Shown]:
    assert config.audio is not None
    assert sample.audio_grid_thw is not None
    seconds = config.audio.clip_frames / 100 / config.audio.queries_per_clip
    lengths = [int(clips) * config.audio.queries_per_clip for clips in sample.audio_grid_thw]
    middles = [(torch.arange(length)[:, None] + 0.5) * seconds for length in lengths]
    pads = _split(sample.input_ids, config.special_tokens.audio_pad, middles)
    for words, start_s, end_s, audio in moments:
        shown = _shown(middles[audio], torch.tensor([[start_s], [end_s]]))
        yield Shown(pads[audio][shown].tolist(), words)


def _parts(words: str, per_window: int) -> list[str]:
    """What each token of a window is told, "" for nothing; a single part is told by all alike."""
    parts = [part.strip() for part in words.split("|")]
    if len(parts) == 1:
        return parts
    told = [*parts, *[""] * per_window]
    return [*told[: per_window - 1], " ".join(filter(None, told[per_window - 1 :]))]


def _tile_middles(rows: int, columns: int, down: int, across: int) -> Float[Tensor, "seq xy"]:
    """Of every token of an image, tile by tile, in shares of its width and height.

    A tile has `down` rows of tokens, `across` a row.
    """
    row, column, y, x = torch.meshgrid(
        *(torch.arange(n) for n in (rows, columns, down, across)), indexing="ij"
    )
    right = (column + (x + 0.5) / across) / columns
    below = (row + (y + 0.5) / down) / rows
    return torch.stack([right, below], dim=-1).flatten(0, -2)


def _split(
    input_ids: Int64[Tensor, " seq"], pad: int | None, middles: list[Tensor]
) -> list[Int64[Tensor, " pads"]]:
    """Positions of the placeholders, medium by medium."""
    assert pad is not None  # the model has an encoder for the medium
    found = (input_ids == pad).nonzero()[:, 0]
    return list(torch.split(found, [len(each) for each in middles]))


def _show_less(
    middles: Float[Tensor, "shares axes"], boxes: Sequence[Box]
) -> Bool[Tensor, " shares"]:
    """Which show any of these boxes that is not the whole picture."""
    smaller = [_shown(middles, _edges(box)) for box in boxes if box != WHOLE_PICTURE]
    return torch.stack([torch.zeros(len(middles), dtype=torch.bool), *smaller]).any(0)


def _around(middles: Float[Tensor, "seq xy"], point: Box) -> Bool[Tensor, " seq"]:
    """Whose middle is less than a token away, across and down."""
    token_sides = 2 * middles.amin(0)
    near: Bool[Tensor, " seq"] = ((middles - _edges(point)[0]).abs() < token_sides).all(-1)
    return near


def _edges(box: Box) -> Float[Tensor, "edges xy"]:
    return torch.tensor([[box.left, box.top], [box.right, box.bottom]])


def _shown(
    middles: Float[Tensor, "shares axes"], edges: Float[Tensor, "edges axes"]
) -> Bool[Tensor, " shares"]:
    """Which have their middle between the edges; the nearest, if none has."""
    within: Bool[Tensor, " shares"] = ((middles >= edges[0]) & (middles < edges[1])).all(-1)
    if not within.any():
        within[(middles - edges.mean(0)).square().sum(-1).argmin()] = True
    return within
