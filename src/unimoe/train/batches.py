"""From sources of samples to the packed rows of a step: a mixture by tokens, exact to resume.

In:  sources, shares of the tokens.  Out: `TrainBatch`es of packed rows.
What comes next follows from the plan's seed and `state()` alone.
Axes: batch = rows, seq = row_length tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.data.mixture import Mixture
from unimoe.data.packing import PackedRows
from unimoe.errors import DataError
from unimoe.tokens.batch import OmniBatch, pack_rows
from unimoe.tokens.sequence import Sample
from unimoe.train.plan import Plan


class Told(NamedTuple):
    """What is said of a place in a picture or a moment of a sound, as tokens."""

    positions: list[int]
    """Of the sample's tokens that show the place or sound at the moment."""
    token_ids: list[int]
    is_once: bool = False
    """Said by one of the positions alone, after whatever is told before: a letter of a line."""


class TrainSample(NamedTuple):
    """A sample with labels, and what its loss is counted under."""

    sample: Sample
    task: str
    modalities: str
    """Such as "image+audio"."""
    told: tuple[Told, ...] = ()


@runtime_checkable
class SampleSource(Protocol):
    """Samples by number, their lengths known beforehand."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of every sample."""
        ...

    def __getitem__(self, index: int, /) -> TrainSample:
        """One sample."""
        ...


class TrainBatch(NamedTuple):
    """Rows for one forward."""

    batch: OmniBatch
    tasks: Int64[Tensor, "batch seq"]
    """Place in `task_names` of every token's sample; 0 on padding."""
    modalities: Int64[Tensor, "batch seq"]
    task_names: tuple[str, ...]
    modality_names: tuple[str, ...]
    told: tuple[tuple[Told, ...], ...]
    """Of every sample, in the order of the rows."""


class Batches:
    """Endless batches of a mixture, packed into rows."""

    def __init__(self, sources: Mapping[str, SampleSource], plan: Plan, config: OmniConfig) -> None:
        """Take sources and shares.

        Raises:
            ConfigError: the mixture names a source that is not there.
            DataError: a source is empty or holds samples longer than a row.
        """
        self._plan, self._config, self._sources = plan, config, sources
        lengths = {
            name: _usable_lengths(name, sources[name], plan)
            for name in plan.mixture
            if name in sources
        }
        self._mixture = Mixture(lengths, plan.mixture, seed=plan.seed)
        self._rows = PackedRows(self._mixture, plan.row_length)

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON."""
        return self._rows.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            DataError: it was taken of other sources.
        """
        self._rows.load_state_dict(state)

    @property
    def epochs(self) -> dict[str, float]:
        """How often each source has been gone through."""
        return {name: round(epochs, 4) for name, epochs in self._mixture.epochs.items()}

    def step_batches(self, rank: int = 0, world: int = 1) -> list[TrainBatch]:
        """The batches of the next step, `rows_per_forward` rows each: every world-th of them."""
        size = self._plan.rows_per_forward
        rows = [next(self._rows) for _ in range(self._plan.rows_per_step)]
        starts = range(0, len(rows), size)[rank::world]
        return [
            train_batch(
                [[self._sources[draw.source][draw.number] for draw in row] for row in chosen],
                self._plan.row_length,
                self._config,
            )
            for chosen in (rows[start : start + size] for start in starts)
        ]


def validation_batches(
    source: SampleSource, plan: Plan, config: OmniConfig, rank: int = 0, world: int = 1
) -> Iterator[TrainBatch]:
    """A few samples, drawn at random but the same every time: every world-th batch of them."""
    rows: list[list[int]] = [[]]
    room, budget = plan.row_length, plan.evaluate_tokens
    for index in np.random.default_rng(0).permutation(len(source.lengths)).tolist():
        length = source.lengths[index]
        if length > plan.row_length:
            continue
        if budget <= 0:
            break
        if length > room:
            rows.append([])
            room = plan.row_length
        rows[-1].append(index)
        room, budget = room - length, budget - length
    filled = [row for row in rows if row]
    for start in range(0, len(filled), plan.rows_per_forward)[rank::world]:
        chosen = filled[start : start + plan.rows_per_forward]
        yield train_batch(
            [[source[index] for index in row] for row in chosen], plan.row_length, config
        )


def train_batch(
    rows: Sequence[Sequence[TrainSample]], row_length: int, config: OmniConfig
) -> TrainBatch:
    """Packed rows, and what every token is counted under."""
    batch = pack_rows(
        [[entry.sample for entry in row] for row in rows],
        row_length=row_length,
        pad_id=config.special_tokens.pad,
        config=config,
    )
    task_names = tuple(sorted({entry.task for row in rows for entry in row}))
    modality_names = tuple(sorted({entry.modalities for row in rows for entry in row}))
    tasks, modalities = torch.zeros_like(batch.input_ids), torch.zeros_like(batch.input_ids)
    for number, row in enumerate(rows):
        start = 0
        for entry in row:
            span = slice(start, start + len(entry.sample.input_ids))
            tasks[number, span] = task_names.index(entry.task)
            modalities[number, span] = modality_names.index(entry.modalities)
            start = span.stop
    told = tuple(entry.told for row in rows for entry in row)
    return TrainBatch(batch, tasks, modalities, task_names, modality_names, told)


def _usable_lengths(name: str, source: SampleSource, plan: Plan) -> Int64[np.ndarray, " samples"]:
    """Lengths of all samples, 0 for those that are left out."""
    lengths = np.array(source.lengths, dtype=np.int64)
    is_long = lengths > plan.row_length
    if is_long.any() and not plan.leave_out_long:
        raise DataError(
            f"{name}: {is_long.sum()} of {len(lengths)} samples are longer than a row of "
            f"{plan.row_length} tokens (the longest has {lengths.max()}). Take longer rows "
            "(--set train.row_length=...) or leave them out (--set train.leave_out_long=true)"
        )
    return np.where(is_long, 0, lengths)
