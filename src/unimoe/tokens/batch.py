"""Samples side by side or one behind the other: what one call of the model takes.

In:  unpadded samples.  Out: `OmniBatch`, its media joined in the order of the rows.

    collate, right (training)   collate, left (generation)   pack: rows of several samples
    A A A .                     . A A A                       A A A B B .
    B B . .                     . . B B                       C C C C . .
    mask 1 1 1 0 / 1 1 0 0      0 1 1 1 / 0 0 1 1             1 1 1 2 2 0 / 1 1 1 1 0 0

In a packed row tokens see those of the same number only, and every sample starts at position 0.
Axes: batch = rows, seq = tokens of a row with padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.data.packing import plan_rows
from unimoe.errors import DataError, RequestError
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.positions import omni_positions
from unimoe.tokens.sequence import Sample

# Names that a sample and a batch share: joined along their first axis, whatever the padding.
_MEDIA_FIELDS = (
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
    "second_per_grid_ts",
    "audio_features",
    "audio_grid_thw",
    "image_states",
    "video_states",
    "audio_states",
)
_FEATURE_FIELDS = (
    "pixel_values",
    "pixel_values_videos",
    "audio_features",
    "image_states",
    "video_states",
    "audio_states",
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OmniBatch:
    """Padded rows with all their media; None where no row has any."""

    input_ids: Int64[Tensor, "batch seq"]
    attention_mask: Int64[Tensor, "batch seq"]
    """0 on padding, n > 0 on the n-th sample of the row."""
    labels: Int64[Tensor, "batch seq"] | None = None
    position_ids: Int64[Tensor, "3 batch seq"] | None = None
    """None: the model finds them."""
    pixel_values: Float[Tensor, "tiles 3 side side"] | None = None
    image_grid_thw: Int64[Tensor, "images 3"] | None = None
    pixel_values_videos: Float[Tensor, "tiles_videos 3 side side"] | None = None
    video_grid_thw: Int64[Tensor, "videos 3"] | None = None
    second_per_grid_ts: Float[Tensor, " videos"] | None = None
    audio_features: Float[Tensor, "clips mel frames"] | None = None
    audio_grid_thw: Int64[Tensor, " audios"] | None = None
    image_states: Float[Tensor, "tiles patches width"] | None = None
    """In place of pixel_values: what a frozen tower made of them; all samples have the same."""
    video_states: Float[Tensor, "tiles_videos patches width"] | None = None
    audio_states: Float[Tensor, "clips steps audio_width"] | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> OmniBatch:
        """The batch elsewhere; a dtype changes the signals of the media, never ids or seconds."""
        moved = {
            name: tensor.to(device, dtype if name in _FEATURE_FIELDS else None)
            for name, tensor in self.model_inputs().items()
        }
        return dataclasses.replace(self, **moved)

    def model_inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of `OmniModel.forward`; what is None is left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def collate(
    samples: Sequence[Sample], *, pad_id: int, padding: Literal["left", "right"]
) -> OmniBatch:
    """One sample a row.

    Args:
        samples: either all have labels or none.
        pad_id: fills the rows; the mask, not this id, tells padding.
        padding: right for training; left for generation, so that all rows end together.

    Raises:
        RequestError: no samples, or labels on some only.
    """
    length = max((len(sample.input_ids) for sample in samples), default=0)
    return _batch([[sample] for sample in samples], length, pad_id, padding)


def pack(
    samples: Sequence[Sample], *, row_length: int, pad_id: int, config: OmniConfig
) -> OmniBatch:
    """Several samples a row: the longest left, and those that fill the rest of its row best.

    Args:
        samples: either all have labels or none.
        row_length: tokens of a row.
        pad_id: fills the rows on the right.
        config: of the model; positions are computed here, per sample.

    Raises:
        RequestError: no samples, labels on some only, or a sample longer than a row: none is cut.
    """
    try:
        planned = plan_rows([len(sample.input_ids) for sample in samples], row_length)
    except DataError as error:
        raise RequestError(str(error)) from error
    rows = [[samples[number] for number in row] for row in planned]
    return pack_rows(rows, row_length=row_length, pad_id=pad_id, config=config)


def pack_rows(
    rows: Sequence[Sequence[Sample]], *, row_length: int, pad_id: int, config: OmniConfig
) -> OmniBatch:
    """As `pack`, each row with the samples that the caller put there, in their order.

    Raises:
        RequestError: no samples, labels on some only, or a row with more tokens than it may have.
    """
    fullest = max((sum(len(sample.input_ids) for sample in row) for row in rows), default=0)
    if fullest > row_length:
        raise RequestError(f"samples of {fullest} tokens for a row of {row_length}; move some")
    batch = _batch(rows, row_length, pad_id, "right")
    positions = omni_positions(
        batch.input_ids,
        batch.attention_mask,
        config=config,
        image_grid_thw=batch.image_grid_thw,
        video_grid_thw=batch.video_grid_thw,
        second_per_grid_ts=batch.second_per_grid_ts,
        audio_grid_thw=batch.audio_grid_thw,
    )
    return dataclasses.replace(batch, position_ids=positions.ids)


def _batch(
    rows: Sequence[Sequence[Sample]], length: int, pad_id: int, padding: Literal["left", "right"]
) -> OmniBatch:
    samples = [sample for row in rows for sample in row]
    with_labels = sum(sample.labels is not None for sample in samples)
    if not samples or with_labels not in (0, len(samples)):
        raise RequestError(
            f"{len(samples)} samples, {with_labels} of them with labels; need at least one sample, "
            "and labels on all or none"
        )
    ids, mask = [], []
    labels: list[Tensor] = []
    for row in rows:
        numbers = [torch.full_like(s.input_ids, n) for n, s in enumerate(row, start=1)]
        ids.append(_padded([s.input_ids for s in row], length, pad_id, padding))
        mask.append(_padded(numbers, length, 0, padding))
        row_labels = [s.labels for s in row if s.labels is not None]
        labels.append(_padded(row_labels, length, IGNORED, padding))
    return OmniBatch(
        input_ids=torch.stack(ids),
        attention_mask=torch.stack(mask),
        labels=torch.stack(labels) if with_labels else None,
        **{name: _joined([getattr(s, name) for s in samples]) for name in _MEDIA_FIELDS},
    )


def _padded(
    parts: list[Tensor], length: int, value: int, padding: Literal["left", "right"]
) -> Int64[Tensor, " seq"]:
    filling = torch.full((length - sum(map(len, parts)),), value)
    return torch.cat([filling, *parts] if padding == "left" else [*parts, filling])


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
