"""Preparing data: samples laid out once, the frozen towers asked once.

In:  manifests, a model with its towers, a vocabulary.  Out: the states in the `StateStore`s, and

    samples-<key of the sequence rules>/<name>.jsonl
        {"manifest": ..., "samples": 1000}                            first line
        {"id", "task", "modalities", "ids", "answers": [[start, stop], ...], "images": [row, ...],
         "image_grid": [[1, r, c], ...], "videos", ..., "audios", ...,
         "told": [[[position, ...], ids, is_once], ...]}                 a usable sample
        {"id", "bad": "why"}                                             one that is not

A killed preparation goes on where it was: half-written ends are cut off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unimoe.config import OmniConfig
from unimoe.data.manifest import Manifest
from unimoe.data.sample import OmniSample
from unimoe.errors import DataError, MediaError, RequestError
from unimoe.model.omni import OmniModel
from unimoe.tokens.conversation import messages_of
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.message import Message
from unimoe.tokens.sequence import Sample, encode_chat
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import Told
from unimoe.train.lock import held_lock
from unimoe.train.prepared import PreparedSet
from unimoe.train.store import PreparedFolder, StateStore, prepared_folder, tower_stores
from unimoe.train.told import told_of

__all__ = [
    "PreparedFolder",
    "PreparedSet",
    "Progress",
    "StateStore",
    "lay_out",
    "prepare",
    "prepared_folder",
]

SAMPLES_PER_CHUNK = 16
"""Samples between two writes: what a kill costs."""


class Progress(NamedTuple):
    """How far a preparation is."""

    name: str
    done: int
    total: int
    bad: int
    seconds: float
    """Since this call began."""
    seconds_left: float


def prepare(
    manifests: dict[str, Manifest],
    folder: PreparedFolder,
    model: OmniModel,
    vocabulary: Vocabulary,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, PreparedSet]:
    """Prepare whatever of these sets is not prepared yet.

    Raises:
        DataError: not one sample of a set is usable, or another process prepares there.
    """
    with contextlib.closing(_Towers(folder, model)) as towers:
        for name, manifest in manifests.items():
            _prepare_set(name, manifest, folder, towers, vocabulary, on_progress)
    return {name: PreparedSet(folder, name) for name in manifests}


class _Towers:
    """The frozen towers of a model, and the stores of what they see and hear."""

    def __init__(self, folder: PreparedFolder, model: OmniModel) -> None:
        self.model = model.eval()
        self.stores = tower_stores(folder)

    def close(self) -> None:
        """Let others write."""
        for store in self.stores.values():
            store.close()

    def rows(self, tower: str, signals: Sequence[Tensor | None]) -> list[list[int]]:
        """For every sample, the rows of the states of its tiles or clips."""
        present = [signal for signal in signals if signal is not None]
        if not present:
            return [[] for _ in signals]
        encoder = self.model.audio if tower == "audio" else self.model.vision
        assert encoder is not None  # encode_chat refuses media the model has no encoder for
        model = self.model

        def states(chunk: Tensor) -> Tensor:
            return encoder.states(chunk.to(model.device, model.dtype)).float().cpu()

        with torch.inference_mode():
            rows = iter(self.stores[tower].rows_of(torch.cat(present), states))
        return [[] if s is None else [next(rows) for _ in range(len(s))] for s in signals]


def _prepare_set(
    name: str,
    manifest: Manifest,
    folder: PreparedFolder,
    towers: _Towers,
    vocabulary: Vocabulary,
    on_progress: Callable[[Progress], None],
) -> None:
    path = folder.samples(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(manifest.path.read_bytes(), digest_size=16).hexdigest()
    header = {"manifest": digest, "samples": len(manifest)}
    if _is_whole(path, header):
        return
    with held_lock(path.with_suffix(".lock"), DataError):  # two would write in turns
        done, bad = _written(path, header)
        if done is None:
            path.write_text(json.dumps(header) + "\n", "utf-8")
            done = bad = 0
        began, first = time.monotonic(), done
        for start in range(done, len(manifest), SAMPLES_PER_CHUNK):
            stop = min(start + SAMPLES_PER_CHUNK, len(manifest))
            laid = [
                _laid_out(manifest, index, vocabulary, folder.config)
                for index in range(start, stop)
            ]
            lines = _lines(laid, towers)
            bad += sum("bad" in line for line in lines)
            with path.open("a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            seconds = time.monotonic() - began
            left = seconds / (stop - first) * (len(manifest) - stop)
            on_progress(Progress(name, stop, len(manifest), bad, seconds, left))


def _is_whole(path: Path, header: dict[str, Any]) -> bool:
    """Whether every sample is there; whoever writes is not disturbed."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    is_same = lines[0] == json.dumps(header).encode()
    return is_same and len(lines) == header["samples"] + 2 and not lines[-1]


def _written(path: Path, header: dict[str, Any]) -> tuple[int | None, int]:
    """Samples that are there, and the bad ones among them; None: begin anew."""
    if not path.exists():
        return None, 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    lines = data[:whole].splitlines()
    if not lines or json.loads(lines[0]) != header:
        return None, 0
    return len(lines) - 1, sum("bad" in json.loads(line) for line in lines[1:])


class _Laid(NamedTuple):
    """A usable sample as one sequence."""

    omni: OmniSample
    sample: Sample
    told: list[Told]


def _lines(laid: Sequence[_Laid | dict[str, Any]], towers: _Towers) -> list[dict[str, Any]]:
    """The records of a chunk of samples; its new tiles and clips go through the towers together."""
    samples = [entry.sample for entry in laid if isinstance(entry, _Laid)]
    images = towers.rows("vision", [sample.pixel_values for sample in samples])
    videos = towers.rows("vision", [sample.pixel_values_videos for sample in samples])
    audios = towers.rows("audio", [sample.audio_features for sample in samples])
    rows = zip(images, videos, audios, strict=True)
    return [_record(entry, *next(rows)) if isinstance(entry, _Laid) else entry for entry in laid]


def _laid_out(
    manifest: Manifest, index: int, vocabulary: Vocabulary, config: OmniConfig
) -> _Laid | dict[str, Any]:
    """One sample as a sequence, or the record of why it cannot be used."""
    name = f"{manifest.path.name}:{index + 1}"
    try:
        omni = manifest[index]
        name = omni.id
        messages = messages_of(omni, manifest.folder)
        return _Laid(omni, *lay_out(omni, messages, vocabulary, config))
    except (DataError, MediaError, RequestError) as error:
        return {"id": name, "bad": str(error)}


def lay_out(
    omni: OmniSample, messages: Sequence[Message], vocabulary: Vocabulary, config: OmniConfig
) -> tuple[Sample, list[Told]]:
    """A sample as a sequence with labels, its media not yet encoded, and what is told of them.

    Args:
        omni: the sample.
        messages: its conversation, with its media.
        vocabulary: of the model's directory.
        config: of the model.

    Raises:
        DataError: it has no answer to learn from, or moments beside videos.
        MediaError: a medium cannot be used.
        RequestError: the model has no encoder for a medium, or takes no sequence as long.
    """
    sample = encode_chat(
        messages, vocabulary, config, with_labels="assistant", spells_answers=omni.is_spelt
    )
    _require_answer(sample)
    told = [
        Told(positions, _tokens_told(words, vocabulary), is_once)
        for positions, words, is_once in told_of(omni, sample, config)
    ]
    return sample, told


def _tokens_told(words: str, vocabulary: Vocabulary) -> list[int]:
    """With a blank before it, as a word stands within a sentence.

    Before a digit the blank is a token of its own, which says nothing.
    """
    blanks = vocabulary.encode(" ")
    return [token for token in vocabulary.encode(f" {words}") if [token] != blanks]


def _record(laid: _Laid, images: list[int], videos: list[int], audios: list[int]) -> dict[str, Any]:
    omni, sample, told = laid
    record: dict[str, Any] = {
        "id": omni.id,
        "task": omni.task,
        "modalities": omni.modalities,
        "ids": sample.input_ids.tolist(),
        "answers": _spans(sample),
    }
    media = {
        "images": images,
        "image_grid": _listed(sample.image_grid_thw),
        "videos": videos,
        "video_grid": _listed(sample.video_grid_thw),
        "frame_seconds": _listed(sample.second_per_grid_ts),
        "audios": audios,
        "audio_clips": _listed(sample.audio_grid_thw),
        "told": told,
    }
    return record | {key: value for key, value in media.items() if value}


def _require_answer(sample: Sample) -> None:
    if sample.labels is None or not bool((sample.labels[1:] != IGNORED).any()):
        raise DataError("no turn of the assistant to learn from; give it an answer")


def _spans(sample: Sample) -> list[list[int]]:
    """Where the labelled tokens are, as [start, stop] pairs."""
    assert sample.labels is not None
    marked = np.concatenate([[False], sample.labels.numpy() != IGNORED, [False]])
    edges = np.flatnonzero(marked[1:] != marked[:-1])
    return [[int(start), int(stop)] for start, stop in edges.reshape(-1, 2)]


def _listed(values: Tensor | None) -> list[Any]:
    return [] if values is None else values.tolist()
