"""Everyday sounds, made from their physics: what rings, beats, blows, drips and chirps.

In:  a `Dice`, which draws pitch, pace and colour.  Out: float32 [samples] at 16 kHz, peak 0.7.
A dice of the test draws from bands of each range that the dice of training leaves out: a sound of
the test has pitches and paces that were never trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from unimoe.config import AUDIO_RATE_HZ
from unimoe.data.build.augment import coloured_noise

Samples = Float32[np.ndarray, "_samples"]
Wave: TypeAlias = NDArray[np.float64]
Number: TypeAlias = float | int

_PEAK = 0.7
# Parts of every range that belong to the test.
_TEST_BANDS = ((0.15, 0.25), (0.45, 0.55), (0.75, 0.85))


class Dice:
    """Draws numbers; those of training and of the test never meet.

    Args:
        rng: chooses.
        is_test: draw from the bands that training leaves out.
    """

    def __init__(self, rng: np.random.Generator, *, is_test: bool = False) -> None:
        self.rng = rng
        self.is_test = is_test

    def between(self, low: Number, high: Number) -> float:
        """A number of the range, on a logarithmic scale if both ends are positive."""
        share = self.rng.random()
        while is_test_share(share) != self.is_test:
            share = self.rng.random()
        if low > 0:
            return float(low * (high / low) ** share)
        return float(low + (high - low) * share)

    def seconds(self, low: Number, high: Number) -> float:
        """A length of time; lengths are the same in training and test."""
        return float(self.rng.uniform(low, high))

    def jitter(self, size: int, around: Number) -> Wave:
        """Factors about 1: no two drops or steps are the same."""
        return np.exp(self.rng.normal(0, around, size))


def is_test_share(share: Number) -> bool:
    """Whether a place in a range, from 0 to 1, belongs to the test."""
    return any(low <= share < high for low, high in _TEST_BANDS)


class Effect(NamedTuple):
    """A class of sounds."""

    name: str
    phrase: str
    """What is heard."""
    make: Callable[[Dice], Wave]


def make_effect(effect: Effect, dice: Dice) -> Samples:
    """One sound of the class."""
    return leveled(effect.make(dice))


def repeated(stroke: Effect, count: int, dice: Dice) -> Samples:
    """A stroke several times, each time the same, 0.35 to 0.7 seconds apart."""
    once = stroke.make(dice)
    starts: Wave = np.arange(count, dtype=np.float64) * dice.between(0.35, 0.7) + 0.05
    return leveled(_placed([once] * count, starts, starts[-1] + 0.6))


def leveled(samples: Wave | Samples) -> Samples:
    """At one level, about zero."""
    samples = samples - samples.mean()
    return (samples * (_PEAK / max(float(np.abs(samples).max()), 1e-9))).astype(np.float32)


def _times(seconds: Number) -> Wave:
    return np.arange(round(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ


def _sine(hertz: Wave | Number, times: Wave) -> Wave:
    """A tone whose frequency may change."""
    steps = np.broadcast_to(np.asarray(hertz, np.float64), times.shape) / AUDIO_RATE_HZ
    return np.sin(2 * np.pi * np.cumsum(steps))


def _band_noise(num_samples: int, low_hz: Number, high_hz: Number, dice: Dice) -> Wave:
    """Noise between two frequencies with soft edges, of variance about 1."""
    spectrum = np.fft.rfft(dice.rng.standard_normal(num_samples))
    hertz = np.fft.rfftfreq(num_samples, 1 / AUDIO_RATE_HZ)
    gain = 1 / (1 + (low_hz / np.clip(hertz, 1, None)) ** 6) / (1 + (hertz / high_hz) ** 6)
    noise = np.fft.irfft(spectrum * gain, num_samples)
    return noise / max(float(noise.std()), 1e-9)


def _decay(times: Wave, seconds: Number) -> Wave:
    """Falls by 60 decibels in that time."""
    return 10 ** (-3 * times / seconds)


def _soft_ends(times: Wave, seconds: Number) -> Wave:
    """Rises from and falls to silence in that time."""
    shape: Wave = np.minimum(1, np.minimum(times, times[-1] - times) / seconds)
    return shape


def _placed(sounds: list[Wave], starts: Wave, seconds: Number) -> Wave:
    """Sounds laid over one another from their times on, cut at the end."""
    mixed = np.zeros(round(seconds * AUDIO_RATE_HZ))
    for sound, start in zip(sounds, starts, strict=True):
        at = round(start * AUDIO_RATE_HZ)
        kept = sound[: max(0, len(mixed) - at)]
        mixed[at : at + len(kept)] += kept
    return mixed


def _beats(dice: Dice, per_second: Number, seconds: Number, unevenness: Number) -> Wave:
    """Times of a regular beat that a hand or foot keeps."""
    gaps = dice.jitter(int(seconds * per_second * 2) + 2, unevenness) / per_second
    times = np.cumsum(gaps) - gaps[0] + 0.05
    return np.asarray(times[times < seconds - 0.08])


def _bell(dice: Dice) -> Wave:
    return _bell_once(dice, dice.seconds(1.5, 2.8))


def _bell_once(dice: Dice, seconds: Number = 1.5) -> Wave:
    times = _times(seconds)
    base, decay = dice.between(350, 1400), dice.between(1.2, 3.0)
    partials = [(0.5, 0.4, 1.2), (1, 1, 1), (1.19, 0.6, 0.8), (2, 0.8, 0.6), (2.74, 0.4, 0.4)]
    return sum(
        (a * _sine(base * ratio, times) * _decay(times, decay * d) for ratio, a, d in partials),
        np.zeros(len(times)),
    )


def _alarm(dice: Dice) -> Wave:
    seconds, per_second = dice.seconds(1.5, 3), dice.between(2.2, 6)
    times = _times(seconds)
    tone = _sine(dice.between(900, 3200), times)
    if dice.rng.random() < 0.5:
        tone = np.clip(tone * 4, -1, 1)
    return tone * ((times * per_second) % 1 < 0.5)


def _beep_once(dice: Dice) -> Wave:
    times = _times(0.2)
    tone = _sine(dice.between(900, 3200), times)
    return tone * _soft_ends(times, 0.01)


def _siren(dice: Dice) -> Wave:
    times = _times(dice.seconds(2.2, 3))
    pace, low, wide = dice.between(0.4, 2.2), dice.between(450, 800), dice.between(1.6, 2.4)
    phase = (times * pace + dice.rng.random()) % 1
    height = (phase < 0.5) if dice.rng.random() < 0.4 else 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    tone = _sine(low * wide ** np.asarray(height, np.float64), times)
    return tone + 0.3 * tone**3


def _telephone(dice: Dice) -> Wave:
    times = _times(dice.seconds(2, 3))
    high = dice.between(1100, 1900)
    warble = (times * dice.between(16, 26)) % 1 < 0.5
    tone = _sine(np.where(warble, high, high * 0.8), times)
    tone = tone + 0.4 * _sine(np.where(warble, high, high * 0.8) * 2, times)
    ring = dice.between(0.4, 1.0)
    return tone * ((times % (ring * 1.6)) < ring)


def _clap_once(dice: Dice, low: Number) -> Wave:
    times = _times(0.16)
    return _band_noise(len(times), low, low * 3.2, dice) * _decay(times, 0.11)


def _clapping(dice: Dice) -> Wave:
    seconds, low = dice.seconds(1.8, 3), dice.between(700, 1500)
    starts = _beats(dice, dice.between(2.2, 5.5), seconds, 0.06)
    return _placed([_clap_once(dice, low) * dice.jitter(1, 0.2) for _ in starts], starts, seconds)


def _applause(dice: Dice) -> Wave:
    seconds = dice.seconds(2, 3)
    starts = dice.rng.uniform(0, seconds, round(dice.between(60, 200) * seconds))
    claps = [_clap_once(dice, dice.between(600, 1700)) * dice.jitter(1, 0.6) for _ in range(12)]
    return _placed([claps[i % 12] for i in range(len(starts))], starts, seconds)


def _whistle(dice: Dice) -> Wave:
    times = _times(dice.seconds(1.2, 2.6))
    base, bend = dice.between(900, 2300), dice.between(1.15, 1.9)
    knots = np.interp(
        times, np.linspace(0, times[-1], 5), np.log2(bend) * dice.rng.uniform(-1, 1, 5)
    )
    tone = _sine(base * 2**knots * (1 + 0.008 * _sine(5.5, times)), times)
    breath = _band_noise(len(times), base * 0.8, base * 1.4, dice)
    return (tone + 0.06 * breath) * _soft_ends(times, 0.05)


def _drum_once(dice: Dice, base: Number) -> Wave:
    times = _times(0.5)
    skin = _sine(base * (1 + 0.8 * np.exp(-times * 40)), times) * _decay(times, 0.45)
    stick = _band_noise(len(times), 200, 2500, dice) * _decay(times, 0.06)
    return skin + 0.25 * stick


def _drum(dice: Dice) -> Wave:
    seconds, base = dice.seconds(1.8, 3), dice.between(65, 190)
    starts = _beats(dice, dice.between(1.5, 4.5), seconds, 0.02)
    return _placed([_drum_once(dice, base) * dice.jitter(1, 0.15) for _ in starts], starts, seconds)


def _clock(dice: Dice) -> Wave:
    seconds, pitch = dice.seconds(2.2, 3), dice.between(1500, 4500)
    starts = np.arange(0.1, seconds - 0.05, 1 / dice.between(1, 4))
    times = _times(0.05)
    ticks = [
        _sine(pitch * (1 if i % 2 else 0.8), times) * _decay(times, 0.03)
        + 0.5 * _band_noise(len(times), 2000, 6000, dice) * _decay(times, 0.015)
        for i in range(len(starts))
    ]
    return _placed(ticks, starts, seconds)


def _rain(dice: Dice) -> Wave:
    seconds = dice.seconds(2, 3)
    num_samples = round(seconds * AUDIO_RATE_HZ)
    drops = np.zeros(num_samples)
    hits = dice.rng.integers(0, num_samples, round(dice.between(150, 900) * seconds))
    np.add.at(drops, hits, dice.jitter(len(hits), 0.7))
    ring = _times(0.012)
    ring = _sine(dice.between(2500, 5500), ring) * _decay(ring, 0.012)
    pattering = np.convolve(drops, ring)[:num_samples]
    hiss = _band_noise(num_samples, 800, 7000, dice)
    return pattering + hiss * dice.between(0.1, 0.35)


def _wind(dice: Dice) -> Wave:
    times = _times(dice.seconds(2.3, 3))
    base, pace = dice.between(180, 600), dice.between(0.25, 0.9)
    gust = 0.55 + 0.45 * np.sin(2 * np.pi * (pace * times + dice.rng.random()))
    low = _band_noise(len(times), base * 0.4, base, dice)
    howl = _band_noise(len(times), base * 1.5, base * 2.1, dice)
    return low * gust + 0.6 * howl * gust**3


def _thunder(dice: Dice) -> Wave:
    times = _times(dice.seconds(2.4, 3))
    rumble = coloured_noise(len(times), 1.0, dice.rng) * _decay(times, dice.between(2.5, 6))
    cracks = _beats(dice, dice.between(3, 9), 0.9, 0.5)
    burst = _times(0.25)
    sounds = [
        _band_noise(len(burst), 60, dice.between(900, 2500), dice) * _decay(burst, 0.25)
        for _ in cracks
    ]
    return 0.8 * rumble + _placed(sounds, cracks, times[-1] + 1 / AUDIO_RATE_HZ)


def _engine(dice: Dice) -> Wave:
    times = _times(dice.seconds(2, 3))
    base, lift = dice.between(28, 85), dice.rng.uniform(-0.4, 0.7)
    speed = base * (1 + lift * times / times[-1]) * (1 + 0.02 * _sine(7, times))
    phase = 2 * np.pi * np.cumsum(speed) / AUDIO_RATE_HZ
    tone = sum((np.sin(k * phase + k * k) / k**0.7 for k in range(1, 14)), np.zeros(len(times)))
    return tone + 0.5 * _band_noise(len(times), 100, 900, dice) * (0.6 + 0.4 * np.sin(phase))


def _horn(dice: Dice) -> Wave:
    times = _times(dice.seconds(1.0, 2.2))
    base = dice.between(290, 520)
    tone = sum(
        (_sine(base * chord * k, times) / k for chord in (1, 1.26) for k in range(1, 9)),
        np.zeros(len(times)),
    )
    is_on = (times % dice.seconds(0.5, 3)) < dice.seconds(0.3, 2.5)
    return tone * is_on * np.minimum(1, times / 0.02)


def _step_once(dice: Dice, pitch: Number) -> Wave:
    times = _times(0.2)
    heel = _sine(pitch * np.exp(-times * 4), times) * _decay(times, 0.12)
    scuff = _band_noise(len(times), 900, 4500, dice) * _decay(times, 0.09)
    return heel + 0.35 * scuff


def _footsteps(dice: Dice) -> Wave:
    seconds, pitch = dice.seconds(2.3, 3), dice.between(85, 170)
    starts = _beats(dice, dice.between(1.4, 2.8), seconds, 0.04)
    steps = [_step_once(dice, pitch * (1.1 if i % 2 else 0.95)) for i in range(len(starts))]
    return _placed([step * dice.jitter(1, 0.2) for step in steps], starts, seconds)


def _knock_once(dice: Dice, pitch: Number) -> Wave:
    times = _times(0.15)
    wood = _sine(pitch, times) + 0.6 * _sine(pitch * 2.3, times) + 0.3 * _sine(pitch * 3.9, times)
    return wood * _decay(times, 0.09) + _band_noise(len(times), 300, 1500, dice) * _decay(
        times, 0.03
    )


def _knocking(dice: Dice) -> Wave:
    pitch, per_second = dice.between(190, 480), dice.between(3.2, 6.5)
    starts = 0.08 + np.arange(dice.rng.integers(2, 6)) / per_second
    knocks = [_knock_once(dice, pitch) * dice.jitter(1, 0.15) for _ in starts]
    return _placed(knocks, starts, starts[-1] + 0.4)


def _bird(dice: Dice) -> Wave:
    seconds, base = dice.seconds(1.6, 3), dice.between(2300, 4800)
    starts = _beats(dice, dice.between(2.2, 6), seconds, 0.15)
    length, bend, pace = dice.between(0.07, 0.2), dice.between(1.2, 1.7), dice.between(18, 45)
    times = _times(length)
    turn = dice.rng.choice([-1, 1])
    sweep = base * bend ** (turn * (times / length - 0.5)) * (1 + 0.06 * _sine(pace, times))
    chirp = _sine(sweep, times) * np.sin(np.pi * times / length) ** 0.7
    return _placed([chirp * dice.jitter(1, 0.2) for _ in starts], starts, seconds)


def _cricket(dice: Dice) -> Wave:
    times = _times(dice.seconds(2, 3))
    wing = 0.5 - 0.5 * np.cos(2 * np.pi * dice.between(28, 60) * times)
    chirp = (times * dice.between(1.4, 3.2)) % 1 < 0.55
    return _sine(dice.between(3900, 5600), times) * wing**2 * chirp


def _dripping(dice: Dice) -> Wave:
    seconds, base = dice.seconds(2, 3), dice.between(500, 1400)
    starts = _beats(dice, dice.between(1.5, 4.5), seconds, 0.25)
    times = _times(0.09)
    drops = [
        _sine(base * factor * (1 + 9 * times), times) * _decay(times, 0.08)
        for factor in dice.jitter(len(starts), 0.15)
    ]
    return _placed(drops, starts, seconds)


def _heart(dice: Dice) -> Wave:
    seconds, pitch = dice.seconds(2.2, 3), dice.between(42, 80)
    beats = np.arange(0.1, seconds - 0.1, 1 / dice.between(0.9, 2.1))
    times = _times(0.14)
    thump = _sine(pitch, times) * np.sin(np.pi * times / 0.14)
    starts = np.concatenate([beats, beats + 0.24])
    sounds = [thump] * len(beats) + [0.7 * thump] * len(beats)
    return _placed(sounds, starts, seconds)


EFFECTS: tuple[Effect, ...] = (
    Effect("bell", "a bell ringing", _bell),
    Effect("alarm", "an alarm beeping", _alarm),
    Effect("siren", "a siren", _siren),
    Effect("telephone", "a telephone ringing", _telephone),
    Effect("clapping", "someone clapping", _clapping),
    Effect("applause", "applause", _applause),
    Effect("whistle", "someone whistling", _whistle),
    Effect("drum", "a drum", _drum),
    Effect("clock", "a clock ticking", _clock),
    Effect("rain", "rain", _rain),
    Effect("wind", "wind", _wind),
    Effect("thunder", "thunder", _thunder),
    Effect("engine", "an engine running", _engine),
    Effect("horn", "a car horn", _horn),
    Effect("footsteps", "footsteps", _footsteps),
    Effect("knocking", "someone knocking", _knocking),
    Effect("bird", "a bird singing", _bird),
    Effect("cricket", "a cricket chirping", _cricket),
    Effect("dripping", "water dripping", _dripping),
    Effect("heart", "a heart beating", _heart),
)

STROKES: tuple[Effect, ...] = (
    Effect("bell", "the bell ring", _bell_once),
    Effect("drum", "the drum sound", lambda dice: _drum_once(dice, dice.between(65, 190))),
    Effect("knocking", "someone knock", lambda dice: _knock_once(dice, dice.between(190, 480))),
    Effect("clapping", "someone clap", lambda dice: _clap_once(dice, dice.between(700, 1500))),
    Effect("alarm", "the alarm beep", _beep_once),
)
"""Single strokes, which can be counted."""
