"""Prepared sets: samples read back with the states of the towers in place of their signals.

In:  the files that `prepare` wrote.  Out: `TrainSample`s, one at a time, from memory-mapped files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unimoe.errors import DataError
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.sequence import Sample, count_tokens
from unimoe.train.batches import Told, TrainSample
from unimoe.train.store import PreparedFolder, tower_stores


class PreparedSet:
    """The usable samples of one set, read one at a time."""

    def __init__(self, folder: PreparedFolder, name: str) -> None:
        """Open what `prepare` has made.

        Raises:
            DataError: the set is not prepared, or only in part, or holds nothing usable.
        """
        self.name = name
        self._path = folder.samples(name)
        self._config = folder.config
        if not self._path.exists():
            raise DataError(f"{name}: not prepared for this model ({self._path} is not there)")
        self._starts: list[int] = []
        self.lengths: list[int] = []
        self.tasks: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()
        """Reasons why samples are left out, with how many."""
        self.tokens: Counter[str] = Counter()
        """By modality, and `answer`."""
        self._index()
        self._states = _mapped(folder)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int, /) -> TrainSample:
        with self._path.open("rb") as stream:
            stream.seek(self._starts[index])
            record = json.loads(stream.readline())
        ids = torch.tensor(record["ids"], dtype=torch.int64)
        labels = torch.full_like(ids, IGNORED)
        for start, stop in record["answers"]:
            labels[start:stop] = ids[start:stop]
        sample = Sample(
            input_ids=ids,
            labels=labels,
            image_states=self._rows("vision", record.get("images")),
            image_grid_thw=_tensor(record.get("image_grid")),
            video_states=self._rows("vision", record.get("videos")),
            video_grid_thw=_tensor(record.get("video_grid")),
            second_per_grid_ts=_tensor(record.get("frame_seconds")),
            audio_states=self._rows("audio", record.get("audios")),
            audio_grid_thw=_tensor(record.get("audio_clips")),
            token_counts=count_tokens(ids, self._config.special_tokens),
        )
        told = tuple(Told(*told) for told in record.get("told", ()))
        return TrainSample(sample, record["task"], record["modalities"], told)

    def __iter__(self) -> Iterator[TrainSample]:
        return (self[index] for index in range(len(self)))

    def report(self) -> str:
        """Counts, and the commonest reasons for samples left out."""
        share = self.tokens["answer"] / max(sum(self.lengths), 1)
        text = (
            f"{self.name}: {len(self)} samples, {sum(self.lengths):,} tokens, {share:.0%} answers"
        )
        for reason, count in self.bad.most_common(5):
            text += f"\n  left out: {count} x {reason}"
        return text

    def _index(self) -> None:
        start = 0
        with self._path.open("rb") as stream:
            header = json.loads(stream.readline())
            start = stream.tell()
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # half-written when the preparation was killed
                record = json.loads(line)
                if "bad" in record:
                    self.bad[record["bad"]] += 1
                else:
                    self._starts.append(start)
                    self.lengths.append(len(record["ids"]))
                    self.tasks[record["task"]] += 1
                    self.tokens["answer"] += sum(b - a for a, b in record["answers"])
                start += len(line)
        found = len(self._starts) + self.bad.total()
        if found != header["samples"]:
            raise DataError(
                f"{self.name}: {found} of {header['samples']} samples are prepared; go on with it"
            )
        if not self._starts:
            worst = self.bad.most_common(1)
            raise DataError(
                f"{self.name}: no usable sample of {found}"
                + (f"; {worst[0][1]} times: {worst[0][0]}" if worst else "")
            )

    def _rows(self, tower: str, rows: list[int] | None) -> Tensor | None:
        if not rows:
            return None
        return torch.from_numpy(self._states[tower][rows].astype(np.float32))


def _mapped(folder: PreparedFolder) -> dict[str, np.ndarray]:
    """The states of every tower as one array on disk."""
    found: dict[str, np.ndarray] = {}
    for name, store in tower_stores(folder).items():
        if len(store):
            found[name] = store.mapped()
    return found


def _tensor(values: Iterable[Any] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values)
