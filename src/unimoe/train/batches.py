"""From sources of samples to the packed rows of a step: a mixture by tokens, exact to resume.

In:  sources, shares of the tokens.  Out: `TrainBatch`es of packed rows.
The next sample comes from the source that lags most behind its share; every source is shuffled
anew each time it has been gone through. A row takes the sample that has waited longest, then again
and again the longest waiting one that fits. All of it follows from the seed and `state()`.
Axes: batch = rows, seq = row_length tokens.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.errors import ConfigError, DataError
from unimoe.tokens.batch import OmniBatch, pack_rows
from unimoe.tokens.sequence import Sample
from unimoe.train.plan import Plan

log = logging.getLogger(__name__)

WAITING = 64
"""Samples a row can choose among: with these, rows of short samples are 97 % full and more."""


class TrainSample(NamedTuple):
    """A sample with labels, and what its loss is counted under."""

    sample: Sample
    task: str
    modalities: str
    """Such as "image+audio"."""


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


@dataclass(slots=True)
class _Place:
    """How far a source has been read."""

    epoch: int = 0
    position: int = 0
    tokens: int = 0


class Batches:
    """Endless rows of a mixture."""

    def __init__(self, sources: Mapping[str, SampleSource], plan: Plan, config: OmniConfig) -> None:
        """Take sources and shares.

        Raises:
            ConfigError: the mixture names a source that is not there.
            DataError: a source is empty or holds samples longer than a row.
        """
        missing = sorted(set(plan.mixture) - set(sources))
        if missing:
            raise ConfigError(
                f"train.mixture names {', '.join(missing)}; there are {', '.join(sorted(sources))}"
            )
        self._plan, self._config = plan, config
        self._sources = {name: sources[name] for name in plan.mixture}
        self._usable = {n: _usable(n, s, plan) for n, s in self._sources.items()}
        self._places = {name: _Place() for name in self._sources}
        self._waiting: list[tuple[str, int]] = []
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON."""
        places = {n: [p.epoch, p.position, p.tokens] for n, p in self._places.items()}
        return {"places": places, "waiting": [list(entry) for entry in self._waiting]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            ConfigError: it was taken of other sources.
        """
        if set(state["places"]) != set(self._places):
            raise ConfigError(
                f"the saved state reads {', '.join(sorted(state['places']))}, the mixture "
                f"{', '.join(sorted(self._places))}; resume with the same one"
            )
        self._places = {name: _Place(*state["places"][name]) for name in self._places}
        self._waiting = [(name, index) for name, index in state["waiting"]]

    def epochs(self) -> dict[str, float]:
        """How often each source has been gone through."""
        return {
            name: round(place.epoch + place.position / len(self._usable[name]), 3)
            for name, place in self._places.items()
        }

    def step_rows(self) -> list[list[TrainSample]]:
        """The rows of the next step."""
        return [
            [self._sources[name][index] for name, index in self._row()]
            for _ in range(self._plan.rows_per_step)
        ]

    def step_batches(self) -> list[TrainBatch]:
        """The batches of the next step, `rows_per_forward` rows each."""
        rows = self.step_rows()
        size = self._plan.rows_per_forward
        return [
            train_batch(rows[start : start + size], self._plan.row_length, self._config)
            for start in range(0, len(rows), size)
        ]

    def _row(self) -> list[tuple[str, int]]:
        room = self._plan.row_length
        row: list[tuple[str, int]] = []
        while True:
            while len(self._waiting) < WAITING:
                self._waiting.append(self._draw())
            lengths = [self._sources[name].lengths[index] for name, index in self._waiting]
            fitting = [place for place, length in enumerate(lengths) if length <= room]
            if not fitting:
                return row
            place = max(fitting, key=lengths.__getitem__) if row else 0
            row.append(self._waiting.pop(place))
            room -= lengths[place]

    def _draw(self) -> tuple[str, int]:
        """The next sample of the source that lags most behind its share."""
        share = self._plan.mixture
        name = min(self._places, key=lambda n: self._places[n].tokens / share[n])
        place, usable = self._places[name], self._usable[name]
        index = int(usable[self._order(name, place.epoch)[place.position]])
        place.tokens += int(self._sources[name].lengths[index])
        place.position += 1
        if place.position == len(usable):
            place.epoch, place.position = place.epoch + 1, 0
        return name, index

    def _order(self, name: str, epoch: int) -> np.ndarray:
        kept = self._orders.get(name)
        if kept is None or kept[0] != epoch:
            entropy = [self._plan.seed, zlib.crc32(name.encode()), epoch]
            order = np.random.default_rng(entropy).permutation(len(self._usable[name]))
            kept = self._orders[name] = (epoch, order)
        return kept[1]


def validation_batches(
    sources: Mapping[str, SampleSource], plan: Plan, config: OmniConfig
) -> Iterator[tuple[str, TrainBatch]]:
    """The same few samples of every source every time: its shortest prefix of enough tokens."""
    for name, source in sources.items():
        rows: list[list[TrainSample]] = [[]]
        room, budget = plan.row_length, plan.evaluate_tokens
        for index, length in enumerate(source.lengths):
            if length > plan.row_length:
                continue
            if length > room:
                rows.append([])
                room = plan.row_length
            rows[-1].append(source[index])
            room, budget = room - length, budget - length
            if budget <= 0:
                break
        size = plan.rows_per_forward
        for start in range(0, len(rows), size):
            if chosen := [row for row in rows[start : start + size] if row]:
                yield name, train_batch(chosen, plan.row_length, config)


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
    return TrainBatch(batch, tasks, modalities, task_names, modality_names)


def _usable(name: str, source: SampleSource, plan: Plan) -> np.ndarray:
    lengths = np.asarray(source.lengths, dtype=np.int64)
    usable = np.flatnonzero(lengths <= plan.row_length)
    num_long = len(lengths) - len(usable)
    if num_long and not plan.leave_out_long:
        raise DataError(
            f"{name}: {num_long} of {len(lengths)} samples are longer than a row of "
            f"{plan.row_length} tokens (the longest has {lengths.max()}). Take longer rows "
            "(--set train.row_length=...) or leave them out (--set train.leave_out_long=true)"
        )
    if num_long:
        log.warning("%s: %d of %d samples left out, too long", name, num_long, len(lengths))
    if not len(usable):
        raise DataError(f"{name}: no samples to train on. Build or prepare the set first")
    return usable
