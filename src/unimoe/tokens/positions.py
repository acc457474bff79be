"""Positions on the axes of the rotary embedding: time, height, width, in ids of half a second.

In:  input_ids int64 [batch, seq] with one pad token per media feature, the grids of the media.
Out: ids int64 [3, batch, seq] (t, h, w) and delta int64 [batch, 1], by which positions of later
     tokens differ from their index: token i of a row, generated after prefill, stands at i + delta.

    text           t = h = w, one id a token
    image          t stands still, h and w are the place in the whole image, tile by tile
    video frame    t moves with the frame's time in seconds, h and w start over
    20 audio ids   = 3 seconds share one id on all axes
    next block     starts after the largest id so far

Rule `released` numbers a sample that has neither image nor video 0, 1, 2, …, its audio included;
rule `paper` makes no such exception; rule `ordered` numbers the tokens of a sound one by one, as
text, beside pictures too: a frozen core cannot tell the order of words that share one position.
Source: paper, "Omni-Modality 3D RoPE"; release (docs/sources.md#positions).
Axes: batch = rows, seq = tokens of a row, samples = conversations packed into one row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from unimoe.config import (
    AUDIO_GROUP_SECONDS,
    AUDIO_GROUP_TOKENS,
    IDS_PER_SECOND,
    OmniConfig,
    PositionRule,
    SpecialTokens,
)
from unimoe.errors import RequestError


class Positions(NamedTuple):
    """Ids of every token, and what to add to the index of a later one."""

    ids: Int64[Tensor, "3 batch seq"]
    delta: Int64[Tensor, "batch 1"]


def omni_positions(
    input_ids: Int64[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"] | None = None,
    *,
    config: OmniConfig,
    image_grid_thw: Int[Tensor, "images 3"] | None = None,
    video_grid_thw: Int[Tensor, "videos 3"] | None = None,
    second_per_grid_ts: Float[Tensor, " videos"] | None = None,
    audio_grid_thw: Int[Tensor, " audios"] | None = None,
) -> Positions:
    """Positions of a batch of prompts, every sample numbered from 0.

    Args:
        input_ids: media of one kind follow each other in the order of their grids, row by row.
        attention_mask: 0 marks padding, which gets position 1; n > 0 numbers the sample within
            the row. None: one sample a row, no padding.
        config: of the model: its placeholders, its rule, the features of a tile and of a clip.
        image_grid_thw: per image (1, rows, columns) of tiles.
        video_grid_thw: per video (frames, rows, columns).
        second_per_grid_ts: seconds from frame to frame, per video. Rule `released` takes 1.0 when
            it is missing.
        audio_grid_thw: clips per audio.

    Raises:
        RequestError: placeholders and grids do not match, or the model has no encoder
            for a medium.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    rule = config.position_rule
    pool_side = per_window = None
    if config.vision is not None:
        pool_side, per_window = config.vision.pool_side, config.vision.tokens_per_window
    queries_per_clip = None if config.audio is None else config.audio.queries_per_clip
    # Walking is index work on the host, whatever the default device of the caller.
    with torch.device("cpu"):
        blocks = {
            "image": _image_blocks(image_grid_thw, pool_side, per_window),
            "video": _video_blocks(video_grid_thw, second_per_grid_ts, pool_side, per_window, rule),
            "audio": _audio_blocks(audio_grid_thw, queries_per_clip, rule),
        }
        walk = _Walk(config.special_tokens, rule, blocks)
        positions = _number_rows(input_ids.cpu(), mask.cpu(), walk)
    return Positions(*(tensor.to(input_ids.device) for tensor in positions))


def _number_rows(
    rows: Int64[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"], walk: _Walk
) -> Positions:
    ids = torch.ones(3, *rows.shape, dtype=torch.int64)
    last = torch.full((len(rows), 1), -1)
    for row in range(len(rows)):
        for sample in _sample_numbers(mask[row]):
            members = mask[row] == sample
            sample_ids = walk.number(rows[row, members])
            ids[:, row, members] = sample_ids
            last[row] = torch.maximum(last[row], sample_ids.max())
    walk.check_all_placed()
    return Positions(ids, delta=last + 1 - rows.shape[1])


class _Walk:
    """Goes through the samples in order and takes the block of every medium as it comes."""

    def __init__(
        self, special_tokens: SpecialTokens, rule: PositionRule, blocks: dict[str, list[Tensor]]
    ) -> None:
        placeholders = {
            "image": special_tokens.image_pad,
            "video": special_tokens.video_pad,
            "audio": special_tokens.audio_pad,
        }
        self._modalities = {pad: name for name, pad in placeholders.items() if pad is not None}
        self._rule = rule
        self._blocks = blocks
        self._num_placed = dict.fromkeys(blocks, 0)

    def number(self, ids: Int64[Tensor, " tokens"]) -> Int64[Tensor, "3 tokens"]:
        """Positions of one sample."""
        pieces: list[Tensor] = []
        base = cursor = 0
        has_vision = False
        for start, end in self._placeholder_runs(ids):
            modality = self._modalities[int(ids[start])]
            offsets = self._next_block(modality, end - start)
            has_vision |= modality != "audio"
            base += start - cursor
            pieces += [_text(base - (start - cursor), base), base + offsets]
            base += int(offsets.max()) + 1
            cursor = end
        if self._rule == "released" and not has_vision:
            return _text(0, len(ids))
        return torch.cat([*pieces, _text(base, base + len(ids) - cursor)], dim=1)

    def check_all_placed(self) -> None:
        """Every grid must have found its placeholders."""
        for modality, blocks in self._blocks.items():
            placed = self._num_placed[modality]
            if placed < len(blocks):
                raise RequestError(
                    f"{len(blocks)} {modality} grids, but placeholders of {placed} only; "
                    f"the prompt needs one block of {modality} tokens per grid"
                )

    def _placeholder_runs(self, ids: Int64[Tensor, " tokens"]) -> list[tuple[int, int]]:
        is_placeholder = torch.isin(ids, torch.tensor(list(self._modalities), dtype=ids.dtype))
        runs, lengths = torch.unique_consecutive(
            torch.where(is_placeholder, ids, -1), return_counts=True
        )
        ends = lengths.cumsum(0)
        spans = torch.stack([ends - lengths, ends], dim=1)[runs != -1]
        return [(start, end) for start, end in spans.tolist()]

    def _next_block(self, modality: str, num_tokens: int) -> Int64[Tensor, "3 tokens"]:
        index = self._num_placed[modality]
        blocks = self._blocks[modality]
        if index == len(blocks):
            raise RequestError(
                f"a block of {num_tokens} {modality} placeholders without a grid: "
                f"the prompt has {index + 1} or more, {len(blocks)} grids came with it"
            )
        if blocks[index].shape[1] != num_tokens:
            raise RequestError(
                f"{modality} {index}: {num_tokens} placeholders in the prompt, "
                f"{blocks[index].shape[1]} tokens by its grid"
            )
        self._num_placed[modality] += 1
        return blocks[index]


def _sample_numbers(mask: Int[Tensor, " seq"]) -> list[int]:
    return [number for number in torch.unique(mask).tolist() if number > 0]


def _text(start: int, end: int) -> Int64[Tensor, "3 tokens"]:
    return torch.arange(start, end).expand(3, -1)


def _image_blocks(
    grids: Int[Tensor, "images 3"] | None, pool_side: int | None, per_window: int | None
) -> list[Int64[Tensor, "3 tokens"]]:
    if grids is None:
        return []
    side = _needed(pool_side, "images")
    across = side * _needed(per_window, "images")
    return [
        _frame_offsets(torch.zeros(frames), rows, columns, side, across)
        for frames, rows, columns in grids.tolist()
    ]


def _video_blocks(
    grids: Int[Tensor, "videos 3"] | None,
    seconds: Float[Tensor, " intervals"] | None,
    pool_side: int | None,
    per_window: int | None,
    rule: PositionRule,
) -> list[Int64[Tensor, "3 tokens"]]:
    if grids is None:
        return []
    side = _needed(pool_side, "videos")
    across = side * _needed(per_window, "videos")
    if seconds is None:
        if rule != "released":
            raise RequestError(
                f"{len(grids)} videos without second_per_grid_ts; give the seconds between frames"
            )
        seconds = torch.ones(len(grids))
    if len(seconds) != len(grids):
        raise RequestError(f"{len(grids)} videos, but {len(seconds)} values of second_per_grid_ts")
    # float32 and half to even, as released: 0.75 s a frame lands on halves.
    return [
        _frame_offsets(
            torch.arange(frames) * interval * IDS_PER_SECOND, rows, columns, side, across
        )
        for (frames, rows, columns), interval in zip(
            grids.tolist(), seconds.cpu().float(), strict=True
        )
    ]


def _frame_offsets(
    times: Float[Tensor, " frames"], rows: int, columns: int, down: int, across: int
) -> Int64[Tensor, "3 tokens"]:
    """Offsets in the order of the features: frame, tile row, tile column, y, x.

    A tile has `down` rows of tokens, `across` a row.
    """
    frame, tile_row, tile_column, y, x = torch.meshgrid(
        torch.round(times).long(),
        torch.arange(rows) * down,
        torch.arange(columns) * across,
        torch.arange(down),
        torch.arange(across),
        indexing="ij",
    )
    return torch.stack([frame, tile_row + y, tile_column + x]).flatten(1)


def _audio_blocks(
    clips: Int[Tensor, " audios"] | None, queries_per_clip: int | None, rule: PositionRule
) -> list[Int64[Tensor, "3 tokens"]]:
    if clips is None:
        return []
    queries = _needed(queries_per_clip, "audio")
    if rule == "ordered":
        return [_text(0, num * queries) for num in clips.tolist()]
    ids_per_group = int(AUDIO_GROUP_SECONDS * IDS_PER_SECOND)
    return [
        (torch.arange(num * queries) // AUDIO_GROUP_TOKENS * ids_per_group).expand(3, -1)
        for num in clips.tolist()
    ]


def _needed(value: int | None, media: str) -> int:
    if value is None:
        raise RequestError(f"the prompt holds {media}, this checkpoint has no encoder for them")
    return value
