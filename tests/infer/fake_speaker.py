"""A speaker without networks: every character is three codes, every code a tone of 25 ms."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

RATE_HZ = 24_000
SAMPLES_PER_CODE = 600
SILENT_CODE = 4095


class Said(NamedTuple):
    """What `write` was asked for."""

    text: str
    voice: str
    pace: float
    context: tuple[int, ...]
    seed: int | None


class FakeSpeaker(torch.nn.Module):
    """Says everything well, but what it is told to say badly.

    Args:
        faults: by a word of a sentence, what goes wrong in its first attempts, in order: "loop",
            "silence", "endless", "short" or "" for nothing.
    """

    voices = ("woman", "man", "robot")
    sample_rate_hz = RATE_HZ
    codes_per_second = 40.0

    def __init__(self, faults: dict[str, list[str]] | None = None) -> None:
        super().__init__()
        self.faults = {word: list(each) for word, each in (faults or {}).items()}
        self.said: list[Said] = []
        self.num_closed = 0

    def write(
        self,
        text: str,
        *,
        voice: str,
        pace: float = 1.0,
        context: Sequence[int] = (),
        seed: int | None = None,
    ) -> Iterator[int]:
        self.said.append(Said(text, voice, pace, tuple(context), seed))
        return self._codes(text, pace, seed or 0)

    def _codes(self, text: str, pace: float, seed: int) -> Iterator[int]:
        good = [
            (ord(letter) * 31 + place * 17 + seed * 7) % 4000
            for place, letter in enumerate(text)
            for _ in range(1)
        ]
        # 40 / 2.5 = 16 characters a second, as people speak.
        good = [
            (code + part * 5) % 4000 for code in good for part in range(round(2.5 / pace + 0.1))
        ]
        try:
            yield from self._spoilt(good, text)
        finally:
            self.num_closed += 1

    def _spoilt(self, good: list[int], text: str) -> Iterator[int]:
        fault = next(
            (each.pop(0) for word, each in self.faults.items() if word in text and each), ""
        )
        if fault == "loop":
            yield from [*good, *([11, 22, 33] * 30)]
        elif fault == "silence":
            yield from [*good[: len(good) // 2], *self._silence(), *good[len(good) // 2 :]]
        elif fault == "endless":
            place = 0
            while True:
                place += 1
                yield place * place % 3989
        elif fault == "short":
            yield from good[:1]
        else:
            yield from good

    def _silence(self) -> list[int]:
        # Silence may have many codes.
        return [SILENT_CODE - place % 39 for place in range(38)]

    def sound(self, codes: Iterable[int]) -> Iterator[Float32[np.ndarray, " samples"]]:
        time = np.arange(SAMPLES_PER_CODE) / RATE_HZ
        for code in codes:
            loudness = 0.0 if code > 4000 else 0.3
            tone = loudness * np.sin(2 * np.pi * (200 + code % 50 * 40) * time)
            yield tone.astype(np.float32)
