"""Speech as a value: how it is asked for, a piece of it, all of it.

In:  options of a request.  Out: float32 [samples] at the speaker's rate, one channel; sound files.
Axes: samples = one channel, full scale at -1 and 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from unimoe.infer.sampling import check_number
from unimoe.infer.voices import PACES
from unimoe.media.encode import encode_speech
from unimoe.tokens.sentences import DEFAULT_MAX_CHARACTERS, LEAST_CHARACTERS


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechOptions:
    """How a text is spoken.

    Raises:
        RequestError: a value is out of range.
    """

    voice: str | None = None
    """Name of a voice, or a description (`unimoe.infer.voices`); None: the speaker's first."""
    pace: float = 1.0
    """2 is twice as fast; it multiplies the pace of the description."""
    sentence_split_threshold: int = DEFAULT_MAX_CHARACTERS
    """Characters that are spoken at once at most; longer sentences are cut."""
    long_form: bool = True
    """False refuses a text that is more than one such piece."""

    def __post_init__(self) -> None:
        check_number("pace", self.pace, low=PACES[0], high=PACES[1])
        check_number(
            "sentence_split_threshold",
            self.sentence_split_threshold,
            low=float(LEAST_CHARACTERS),
            whole=True,
        )


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """The next piece of speech."""

    samples: Float32[np.ndarray, " samples"]
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class Speech:
    """All that was said."""

    samples: Float32[np.ndarray, " samples"]
    """One channel, full scale at -1 and 1."""
    sample_rate_hz: int

    @classmethod
    def of_chunks(cls, chunks: Sequence[SpeechChunk]) -> "Speech":
        """Chunks in their order, one at least."""
        return cls(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].sample_rate_hz)

    @property
    def seconds(self) -> float:
        """Length in time."""
        return len(self.samples) / self.sample_rate_hz

    def save(self, path: str | Path) -> None:
        """Write a file; its ending tells the container: .wav, .flac, .mp3, .ogg, .opus or .m4a.

        Raises:
            MediaError: another ending, or there is nothing to hear.
        """
        Path(path).write_bytes(encode_speech(self.samples, self.sample_rate_hz, Path(path).suffix))
