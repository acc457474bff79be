"""Recordings with their text, in batches by number: what the codec learns from.

In:  a manifest of recordings of one or two sentences each.  Out: `Reading`s, and batches of them.
Axes: samples = at the rate asked for, of the longest recording of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unimoe.data.manifest import Manifest
from unimoe.errors import DataError
from unimoe.heads.speaker import spelt_out
from unimoe.media.audio import load_audio


class Reading(NamedTuple):
    """A recording and what is said in it, letter for letter."""

    path: Path
    text: str
    voice: str


class ReadingBatch(NamedTuple):
    """Recordings side by side, filled up with silence."""

    waveform: Float[Tensor, "batch samples"]
    lengths: Int[Tensor, " batch"]
    """Samples of each."""
    texts: tuple[str, ...]


def readings_of(manifest: Manifest, voices: Collection[str] | None = None) -> list[Reading]:
    """The recordings of a manifest of sentences read aloud, by some voices or by all.

    Raises:
        DataError: there is none.
    """
    found = [
        Reading(
            manifest.folder / sample.audios[0],
            spelt_out(sample.answers[0]),
            sample.traits["voice"],
        )
        for sample in manifest
        if voices is None or sample.traits["voice"] in voices
    ]
    if not found:
        raise DataError(f"{manifest.path}: holds no recording by {voices or 'anyone'}")
    return found


def loaded_batch(readings: Sequence[Reading], sample_rate_hz: int) -> ReadingBatch:
    """Load recordings.

    Raises:
        MediaError: one cannot be read.
    """
    sounds = [
        torch.from_numpy(load_audio(reading.path, sample_rate_hz=sample_rate_hz).samples)
        for reading in readings
    ]
    return ReadingBatch(
        pad_sequence(sounds, batch_first=True),
        torch.tensor([len(sound) for sound in sounds]),
        tuple(reading.text for reading in readings),
    )


def voice_shares(voices: Sequence[str]) -> Float64[np.ndarray, " recordings"]:
    """How often to draw each recording: a voice has its share by the root of their number.

    So a voice with a tenth of the recordings of another is heard a third as often.

    >>> voice_shares(["a", "a", "a", "a", "b"]).round(2).tolist()
    [0.17, 0.17, 0.17, 0.17, 0.33]
    """
    counts = Counter(voices)
    weights = np.array([counts[voice] ** -0.5 for voice in voices])
    shares: Float64[np.ndarray, " recordings"] = weights / weights.sum()
    return shares


class RandomReadings:
    """The recordings of a step: drawn anew for each, the same whenever it is asked for."""

    def __init__(
        self, readings: Sequence[Reading], batch_size: int, sample_rate_hz: int, seed: int
    ) -> None:
        self._readings, self._batch_size = readings, batch_size
        self._sample_rate_hz, self._seed = sample_rate_hz, seed
        self._shares = voice_shares([reading.voice for reading in readings])

    def __call__(self, step: int) -> ReadingBatch:
        """The batch of a step."""
        chooser = np.random.default_rng([self._seed, step])
        chosen = chooser.choice(len(self._readings), size=self._batch_size, p=self._shares)
        return loaded_batch([self._readings[index] for index in chosen], self._sample_rate_hz)
