"""What went wrong in a spoken sentence: it loops, falls silent, breaks off, or does not end.

In:  the codes of one sentence, their sound, the number of characters they say.
Out: `Faults`, in seconds of each kind.
The bounds are wide of all speech that was measured: 373 sentences of 11 voices (the test split of
mini's speech data, those over 20 characters) were read at 9.0 to 21.7 characters a second, and held
no silence over 0.46 s.
Axes: samples = at the speaker's rate.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

SLOWEST_CHARACTERS_PER_SECOND = 6.0
FASTEST_CHARACTERS_PER_SECOND = 30.0
SPARE_SECONDS = 1.5
"""Any sentence may take so much longer."""
MIN_LOOP_SECONDS = 1.0
"""So long a passage that repeats what stands up to a second before it is a loop."""
MAX_SILENCE_SECONDS = 0.8
_FRAME_SECONDS = 0.02
_SILENCE_DECIBELS = -40.0  # below the loudest frame
_FLOOR = 1e-4  # -80 dB of full scale: a sentence that never gets louder is silent as a whole


class Faults(NamedTuple):
    """Seconds of a sentence that are wrong, by kind; all zero: it is fine."""

    loop_seconds: float = 0.0
    silence_seconds: float = 0.0
    missing_seconds: float = 0.0
    """It is shorter than its text can be read."""
    excess_seconds: float = 0.0
    """It had not ended where its time was up: what it lasted."""

    @property
    def total_seconds(self) -> float:
        """How bad it is; the least of several attempts is kept."""
        return sum(self, 0.0)

    def __str__(self) -> str:
        """Such as "loop 1.2 s, silence 0.9 s"."""
        told = zip(self._fields, self, strict=True)
        return ", ".join(f"{name.removesuffix('_seconds')} {s:.1f} s" for name, s in told if s)


def max_seconds(num_characters: int, pace: float) -> float:
    """Time that a sentence has.

    Args:
        num_characters: of its spoken form.
        pace: 1 is usual; 2 is twice as fast.
    """
    return num_characters / (SLOWEST_CHARACTERS_PER_SECOND * pace) + SPARE_SECONDS


def sentence_faults(
    codes: Sequence[int],
    samples: Float32[np.ndarray, " samples"],
    *,
    num_characters: int,
    pace: float,
    codes_per_second: float,
    sample_rate_hz: int,
    has_ended: bool,
) -> Faults:
    """All that is wrong with a sentence.

    Args:
        codes: as written.
        samples: their sound.
        num_characters: of the text.
        pace: as asked for.
        codes_per_second: of the speaker.
        sample_rate_hz: of the sound.
        has_ended: False: it was stopped when its time was up.
    """
    seconds = len(codes) / codes_per_second
    least = num_characters / (FASTEST_CHARACTERS_PER_SECOND * pace)
    return Faults(
        loop_seconds=loop_length(codes, codes_per_second) / codes_per_second,
        silence_seconds=silence_seconds(samples, sample_rate_hz, pace),
        missing_seconds=max(0.0, least - seconds) if seconds else max_seconds(num_characters, pace),
        excess_seconds=0.0 if has_ended else seconds,
    )


def loop_length(codes: Sequence[int], codes_per_second: float) -> int:
    """Codes of the longest passage that repeats what stands up to a second before it.

    0 where that is less than `MIN_LOOP_SECONDS`.
    """
    row = np.asarray(codes, dtype=np.int64)
    second = round(MIN_LOOP_SECONDS * codes_per_second)
    longest = max(
        (_longest_run(row[period:] == row[:-period]) for period in range(1, second + 1)), default=0
    )
    return longest if longest >= second else 0


def silence_seconds(
    samples: Float32[np.ndarray, " samples"], sample_rate_hz: int, pace: float
) -> float:
    """All silence of a sentence in stretches that are too long; the whole of one without sound."""
    is_silent = silent_frames(samples, sample_rate_hz)
    allowed = MAX_SILENCE_SECONDS / min(pace, 1.0)
    runs = [length * _FRAME_SECONDS for length in _runs(is_silent)]
    if is_silent.all():
        return sum(runs, 0.0)
    return sum((run for run in runs if run > allowed), 0.0)


def without_silent_edges(
    samples: Float32[np.ndarray, " samples"], sample_rate_hz: int, *, kept_seconds: float
) -> Float32[np.ndarray, " kept"]:
    """The sound with at most so much silence before its first and after its last sound."""
    sounding = np.flatnonzero(~silent_frames(samples, sample_rate_hz))
    if not len(sounding):
        return samples
    frame, kept = round(_FRAME_SECONDS * sample_rate_hz), round(kept_seconds * sample_rate_hz)
    start = max(sounding[0] * frame - kept, 0)
    return samples[start : (sounding[-1] + 1) * frame + kept]


def silent_frames(samples: Float32[np.ndarray, " samples"], sample_rate_hz: int) -> np.ndarray:
    """Bool [frames of 20 ms], the last one filled up: 40 dB below the loudest."""
    frame = round(_FRAME_SECONDS * sample_rate_hz)
    padded = np.pad(samples, (0, -len(samples) % frame)).reshape(-1, frame)
    loudness = np.sqrt(np.square(padded, dtype=np.float64).mean(1))
    loudest = loudness.max(initial=0.0)
    threshold = max(loudest * 10 ** (_SILENCE_DECIBELS / 20), _FLOOR)
    silent: np.ndarray = loudness < threshold
    return silent


def _longest_run(is_one: np.ndarray) -> int:
    return max(_runs(is_one), default=0)


def _runs(is_one: np.ndarray) -> Iterator[int]:
    """Lengths of the stretches of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_one.astype(np.int8), [0]))))
    return (int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True))
