"""Where prepared data stand: states of frozen towers, found by the hash of what they were made of.

In:  tiles or clips, and what encodes them.  Out: append-only files in a folder named by a key.

    towers-<key of the towers>/vision.f16      float16 [rows, patches, width], one row a tile
                               vision.keys     16 bytes a row: hash of the pixels it was made of
                               audio.f16, audio.keys
    samples-<key of the sequence rules>/       see `features`

A tile or clip that occurs in many samples, or in many sets, is encoded once.
Axes: rows = tiles or clips, steps = patches or audio frames.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor, nn

from unimoe.config import OmniConfig, to_dict
from unimoe.encoders.audio import AudioEncoder
from unimoe.encoders.vision import VisionEncoder
from unimoe.errors import DataError
from unimoe.model.omni import OmniModel
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.lock import held_lock

_ROWS_PER_CALL = 16
"""A writer needs about as long for 16 clips as for 4."""
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
    "reads_class_state",
    "colour_levels",
    "detail_side",
)
_AUDIO_TOWER = ("hidden_size", "encoder_layers", "num_heads", "max_source_positions")
# Those that decide what a connector makes of the states, but not how many tokens.
_VISION_CONNECTOR = ("aligner_layers", "speaks_words")
_AUDIO_CONNECTOR = (
    "decoder_layers",
    "max_target_positions",
    "vocab_size",
    "projector_layers",
    "timed_queries",
    "speaks_words",
    "ffn_width",
)


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
        (model.vision, config.vision, _VISION_TOWER, _VISION_CONNECTOR),
        (model.audio, config.audio, _AUDIO_TOWER, _AUDIO_CONNECTOR),
    ):
        if encoder is None or settings is None:
            continue
        values = to_dict(settings)
        towers.update(json.dumps([values[name] for name in of_tower]).encode())
        if (writer := values.pop("writer", None)) is not None:
            towers.update(json.dumps(writer).encode())
        for name, parameter in _frozen(encoder):
            towers.update(name.encode())
            towers.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        rules.append({n: v for n, v in values.items() if n not in (*of_tower, *of_connector)})
    samples = hashlib.blake2b(json.dumps(rules, sort_keys=True).encode(), digest_size=_KEY_BYTES)
    samples.update(towers.digest())
    samples.update(vocabulary.fingerprint().encode())
    return PreparedFolder(root, config, towers.hexdigest()[:16], samples.hexdigest()[:16])


def _frozen(encoder: VisionEncoder | AudioEncoder) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that make the states."""
    yield from encoder.tower.named_parameters()
    if isinstance(encoder, AudioEncoder) and encoder.writer is not None:
        yield from encoder.writer.named_parameters("writer")


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
        self,
        signals: Float[Tensor, "rows ..."] | Int[Tensor, "rows ..."],
        encode: Callable[[Tensor], Tensor],
    ) -> list[int]:
        """The row of every signal; those not seen before are encoded and added.

        Raises:
            DataError: some are new, and another process is writing.
        """
        keys = [_signal_key(signal) for signal in signals]
        if self._lock is None and not self._places.keys() >= set(keys):
            self.begin_writing()  # not sooner: one process may add pictures, another one sounds
        new = {key: n for n, key in enumerate(keys) if key not in self._places}
        fresh = list(new.items())
        for start in range(0, len(fresh), _ROWS_PER_CALL):
            chunk = fresh[start : start + _ROWS_PER_CALL]
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


def tower_stores(folder: PreparedFolder) -> dict[str, StateStore]:
    """The store of every tower of a folder's model, `vision` and `audio`."""
    vision, audio = folder.config.vision, folder.config.audio
    stores = {}
    if vision is not None:
        shape = (vision.states_per_tile, vision.state_width)
        stores["vision"] = StateStore(folder.towers, "vision", shape)
    if audio is not None:
        shape = (audio.states_per_clip, audio.hidden_size)
        stores["audio"] = StateStore(folder.towers, "audio", shape)
    return stores


def _signal_key(signal: Tensor) -> bytes:
    return hashlib.blake2b(signal.contiguous().numpy().data, digest_size=_KEY_BYTES).digest()
