"""Sound as rooms, microphones and lines make it: noise, echo, pace, bands and levels.

In:  float32 [samples] at 16 kHz and a random generator.  Out: the same, changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import soxr
from jaxtyping import Float32

from unimoe.config import AUDIO_RATE_HZ

Samples = Float32[np.ndarray, "_samples"]
Effect = Callable[[Samples, np.random.Generator], Samples]

_TELEPHONE_RATE_HZ = 8_000
_MIN_PACE, _MAX_PACE = 0.84, 1.2
_MIN_SIGNAL_DECIBELS, _MAX_SIGNAL_DECIBELS = 6.0, 30.0


def augmented(
    samples: Samples,
    rng: np.random.Generator,
    *,
    share: float = 0.5,
    effects: Sequence[Effect] | None = None,
) -> Samples:
    """With one or more effects, or, the rest of the time, as it is.

    Args:
        samples: a clean recording.
        rng: chooses.
        share: of recordings that are changed.
        effects: to choose from, in the order in which they happen; None: all.
    """
    if rng.random() >= share:
        return samples
    effects = EFFECTS if effects is None else effects
    num_effects = rng.integers(1, len(effects))
    for index in sorted(rng.choice(len(effects), num_effects, replace=False)):
        samples = effects[index](samples, rng)
    return limited(samples)


def repaced(samples: Samples, rng: np.random.Generator) -> Samples:
    """Faster and higher or slower and lower, as another speaker sounds."""
    pace = rng.uniform(_MIN_PACE, _MAX_PACE)
    changed: Samples = soxr.resample(samples, AUDIO_RATE_HZ * pace, AUDIO_RATE_HZ)
    return changed


def reverberant(samples: Samples, rng: np.random.Generator) -> Samples:
    """In a room: decaying noise after the direct sound."""
    decay_seconds = rng.uniform(0.15, 0.6)
    times = np.arange(round(decay_seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay_seconds)
    tail *= rng.uniform(0.1, 0.5) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = len(samples) + len(tail)
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(tail, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def tilted(samples: Samples, rng: np.random.Generator) -> Samples:
    """Through a microphone that favours low or high sounds."""
    slope_decibels = rng.uniform(-4, 4)  # an octave around 1 kHz
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / AUDIO_RATE_HZ)
    octaves = np.log2(np.clip(hertz, 125, None) / 1000)
    changed = np.fft.irfft(spectrum * 10 ** (slope_decibels * octaves / 20), len(samples))
    return changed.astype(np.float32)


def telephoned(samples: Samples, rng: np.random.Generator) -> Samples:
    """Over a telephone: nothing above 4 kHz."""
    narrow = soxr.resample(samples, AUDIO_RATE_HZ, _TELEPHONE_RATE_HZ)
    changed: Samples = soxr.resample(narrow, _TELEPHONE_RATE_HZ, AUDIO_RATE_HZ)
    return changed


def noisy(samples: Samples, rng: np.random.Generator) -> Samples:
    """With noise, between hissing and rumbling, or a hum."""
    if rng.random() < 0.15:
        times = np.arange(len(samples)) / AUDIO_RATE_HZ
        base = rng.choice([50, 60]) * rng.choice([1, 2, 3])
        waves = [np.sin(2 * np.pi * base * k * times) / k for k in (1, 2, 3)]
        noise = np.sum(waves, axis=0).astype(np.float32)
    else:
        noise = coloured_noise(len(samples), rng.uniform(0, 1), rng)
    signal_decibels = rng.uniform(_MIN_SIGNAL_DECIBELS, _MAX_SIGNAL_DECIBELS)
    gain = loudness(samples) / max(loudness(noise), 1e-9) * 10 ** (-signal_decibels / 20)
    changed: Samples = samples + np.float32(gain) * noise
    return changed


def quieter(samples: Samples, rng: np.random.Generator) -> Samples:
    """At another level, peak from 0.05 to 0.95."""
    peak = float(np.abs(samples).max(initial=1e-9))
    changed: Samples = samples * np.float32(np.exp(rng.uniform(np.log(0.05), np.log(0.95))) / peak)
    return changed


EFFECTS: tuple[Effect, ...] = (repaced, reverberant, tilted, telephoned, noisy, quieter)
"""In the order in which they happen to a sound."""


def coloured_noise(num_samples: int, colour: float | int, rng: np.random.Generator) -> Samples:
    """Noise from white (0) over pink (0.5) to brown (1), of variance about 1."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    hertz = np.fft.rfftfreq(num_samples, 1 / AUDIO_RATE_HZ)
    noise = np.fft.irfft(spectrum / np.clip(hertz, 20, None) ** colour, num_samples)
    levelled: Samples = (noise / max(float(noise.std()), 1e-9)).astype(np.float32)
    return levelled


def loudness(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def limited(samples: Samples) -> Samples:
    """Not above full scale."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples if peak <= 1 else samples / np.float32(peak)
