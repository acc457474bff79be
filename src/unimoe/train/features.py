"""Prepared data: samples laid out once, the states of the frozen towers computed once.

In:  manifests, a model with its towers, a vocabulary.  Out: folders of two kinds of append-only
files, and `PreparedSet`, which reads them.

    towers-<key of the towers>/vision.f16      float16 [rows, patches, width], one row a tile
                               vision.keys     16 bytes a row: hash of the pixels it was made of
                               audio.f16, audio.keys
    samples-<key of the sequence rules>/<name>.jsonl
        {"manifest": ..., "samples": 1000}                            first line
        {"id", "task", "modalities", "ids", "answers": [[start, stop], ...], "images": [row, ...],
         "image_grid": [[1, r, c], ...], "videos", ..., "audios", ...}   a usable sample
        {"id", "bad": "why"}                                             one that is not

A tile or clip that occurs in many samples, or in many sets, is encoded once. A killed preparation
goes on where it was: half-written ends are cut off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from unimoe.config import OmniConfig, to_dict
from unimoe.data.manifest import Manifest
from unimoe.data.sample import OmniSample
from unimoe.errors import DataError, MediaError, RequestError
from unimoe.model.omni import OmniModel
from unimoe.tokens.conversation import messages_of
from unimoe.tokens.labels import IGNORED
from unimoe.tokens.sequence import Sample, count_tokens, encode_chat
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.batches import TrainSample
from unimoe.train.lock import held_lock

SAMPLES_PER_CHUNK = 16
"""Samples between two writes: what a kill costs."""
ROWS_PER_CALL = 8
_KEY_BYTES = 16

# Settings that, beside its weights, decide what a tower makes of a tile or a clip.
_VISION_TOWER = (
    "tower",
    "hidden_size",
    "num_layers",
    "num_heads",
    "image_side",
    "patch_side",
    "layer_norm_eps",
    "hidden_act",
)
_AUDIO_TOWER = ("hidden_size", "encoder_layers", "num_heads", "max_source_positions")
# Those that decide what a connector makes of the states, but not how many tokens.
_AUDIO_CONNECTOR = (
    "decoder_layers",
    "max_target_positions",
    "vocab_size",
    "projector_layers",
    "timed_queries",
    "ffn_width",
)


class Progress(NamedTuple):
    """How far a preparation is."""

    name: str
    done: int
    total: int
    bad: int
    seconds: float
    """Since this call began."""
    seconds_left: float


@dataclasses.dataclass(frozen=True, slots=True)
class PreparedFolder:
    """Where the prepared data of one model and one set of sequence rules stand."""

    root: Path
    config: OmniConfig
    towers_key: str
    samples_key: str

    @property
    def towers(self) -> Path:
        """Folder of the states."""
        return self.root / f"towers-{self.towers_key}"

    def samples(self, name: str) -> Path:
        """File of one set."""
        return self.root / f"samples-{self.samples_key}" / f"{name}.jsonl"


def prepared_folder(root: Path, model: OmniModel, vocabulary: Vocabulary) -> PreparedFolder:
    """The folder for this model.

    Other towers mean other states; another tokenizer, other tilings, clips or token counts mean
    other samples. What only connectors are made of changes neither.
    """
    config = model.config
    towers = hashlib.blake2b(digest_size=_KEY_BYTES)
    rules: list[object] = [to_dict(config.video), to_dict(config.special_tokens)]
    for encoder, settings, of_tower, of_connector in (
        (model.vision, config.vision, _VISION_TOWER, ()),
        (model.audio, config.audio, _AUDIO_TOWER, _AUDIO_CONNECTOR),
    ):
        if encoder is None or settings is None:
            continue
        values = to_dict(settings)
        towers.update(json.dumps([values[name] for name in of_tower]).encode())
        for name, parameter in encoder.tower.named_parameters():
            towers.update(name.encode())
            towers.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        rules.append({n: v for n, v in values.items() if n not in (*of_tower, *of_connector)})
    samples = hashlib.blake2b(json.dumps(rules, sort_keys=True).encode(), digest_size=_KEY_BYTES)
    samples.update(towers.digest())
    samples.update(vocabulary.fingerprint().encode())
    return PreparedFolder(root, config, towers.hexdigest()[:16], samples.hexdigest()[:16])


class StateStore:
    """States of one tower: rows that are only ever added, found by the hash of their signal."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int]) -> None:
        self._rows, self._keys = folder / f"{name}.f16", folder / f"{name}.keys"
        self._shape = shape
        self._row_bytes = 2 * shape[0] * shape[1]
        self._lock: IO[bytes] | None = None
        self._places: dict[bytes, int] = {}
        self._read_places()

    def _read_places(self) -> None:
        keys = b""
        if self._keys.exists():
            whole = self._rows.stat().st_size // self._row_bytes
            keys = self._keys.read_bytes()[: whole * _KEY_BYTES]
            keys = keys[: len(keys) // _KEY_BYTES * _KEY_BYTES]
        self._places = {
            keys[start : start + _KEY_BYTES]: start // _KEY_BYTES
            for start in range(0, len(keys), _KEY_BYTES)
        }

    def __len__(self) -> int:
        return len(self._places)

    def begin_writing(self) -> None:
        """Make the files, or cut off what a kill left half-written; until `close` they are ours.

        Raises:
            DataError: another process is writing.
        """
        self._rows.parent.mkdir(parents=True, exist_ok=True)
        self._lock = held_lock(self._rows.with_suffix(".lock"), DataError)
        self._read_places()  # of what others wrote since
        for path, size in ((self._rows, self._row_bytes), (self._keys, _KEY_BYTES)):
            path.touch()
            os.truncate(path, len(self) * size)

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def rows_of(
        self, signals: Float[Tensor, "rows ..."], encode: Callable[[Tensor], Tensor]
    ) -> list[int]:
        """The row of every signal; those not seen before are encoded and added."""
        keys = [_signal_key(signal) for signal in signals]
        new = {key: n for n, key in enumerate(keys) if key not in self._places}
        fresh = list(new.items())
        for start in range(0, len(fresh), ROWS_PER_CALL):
            chunk = fresh[start : start + ROWS_PER_CALL]
            self._append([key for key, _ in chunk], encode(signals[[n for _, n in chunk]]))
        return [self._places[key] for key in keys]

    def mapped(self) -> Float16[np.ndarray, "rows steps width"]:
        """All rows, on disk."""
        return np.memmap(self._rows, np.float16, "r", shape=(len(self), *self._shape))

    def _append(self, keys: Sequence[bytes], states: Tensor) -> None:
        if tuple(states.shape[1:]) != self._shape or not bool(states.isfinite().all()):
            raise DataError(
                f"{self._rows}: a tower gave states of {tuple(states.shape[1:])}, or such that are "
                f"no numbers; need finite ones of {self._shape}"
            )
        half = states.detach().to(torch.float16).cpu().contiguous()
        if not bool(half.isfinite().all()):
            raise DataError(f"{self._rows}: states too large for float16; scale them down")
        # The rows first: a key without its row would be found by the next run.
        with self._rows.open("ab") as stream:
            stream.write(half.numpy().tobytes())
        with self._keys.open("ab") as stream:
            stream.write(b"".join(keys))
        for key in keys:
            self._places[key] = len(self._places)


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
        self.stores = _stores(folder)
        for store in self.stores.values():
            store.begin_writing()

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


def _stores(folder: PreparedFolder) -> dict[str, StateStore]:
    vision, audio = folder.config.vision, folder.config.audio
    stores = {}
    if vision is not None:
        patches = (vision.image_side // vision.patch_side) ** 2
        shape = (patches, vision.hidden_size)
        stores["vision"] = StateStore(folder.towers, "vision", shape)
    if audio is not None:
        shape = (audio.max_source_positions, audio.hidden_size)
        stores["audio"] = StateStore(folder.towers, "audio", shape)
    return stores


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
    digest = hashlib.blake2b(manifest.path.read_bytes(), digest_size=_KEY_BYTES).hexdigest()
    header = {"manifest": digest, "samples": len(manifest)}
    done, bad = _written(path, header)
    if done is None:
        path.write_text(json.dumps(header) + "\n", "utf-8")
        done = bad = 0
    began, first = time.monotonic(), done
    for start in range(done, len(manifest), SAMPLES_PER_CHUNK):
        stop = min(start + SAMPLES_PER_CHUNK, len(manifest))
        laid = [
            _laid_out(manifest, index, vocabulary, folder.config) for index in range(start, stop)
        ]
        lines = _lines(laid, towers)
        bad += sum("bad" in line for line in lines)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        seconds = time.monotonic() - began
        left = seconds / (stop - first) * (len(manifest) - stop)
        on_progress(Progress(name, stop, len(manifest), bad, seconds, left))


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
        sample = encode_chat(
            messages_of(omni, manifest.folder), vocabulary, config, with_labels="assistant"
        )
        _require_answer(sample)
    except (DataError, MediaError, RequestError) as error:
        return {"id": name, "bad": str(error)}
    return _Laid(omni, sample)


def _record(laid: _Laid, images: list[int], videos: list[int], audios: list[int]) -> dict[str, Any]:
    omni, sample = laid
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
        return TrainSample(sample, record["task"], record["modalities"])

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
    for name, store in _stores(folder).items():
        if len(store):
            found[name] = store.mapped()
    return found


def _signal_key(signal: Tensor) -> bytes:
    return hashlib.blake2b(signal.contiguous().numpy().data, digest_size=_KEY_BYTES).digest()


def _tensor(values: Iterable[Any] | None) -> Tensor | None:
    return None if values is None else torch.tensor(values)
