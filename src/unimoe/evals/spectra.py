"""How far a sound is from another one of the same speech, and what both look like.

In:  waveforms at one rate.  Out: a distance in decibels; a picture of spectra side by side.
Axes: frames = 10 ms each; bins of mel, up to half the rate.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from unimoe.errors import RequestError
from unimoe.heads.mel import mel_filters
from unimoe.media.audio import Waveform

_HOP_SECONDS = 0.01
_WINDOW_SECONDS = 0.04
_BINS = 80
_FLOOR_DECIBELS = -80.0
_MOST_SHIFT = 10
"""Frames: a codec may be late by a tenth of a second."""

LogMel = Float32[np.ndarray, "_frames bins"]


def log_mel(sound: Waveform) -> LogMel:
    """In decibels; full scale is about 0, silence -80."""
    rate = sound.sample_rate_hz
    size, hop = round(_WINDOW_SECONDS * rate), round(_HOP_SECONDS * rate)
    samples = torch.from_numpy(np.pad(sound.samples, size // 2))
    window = torch.hann_window(size)
    amplitude = torch.fft.rfft(samples.unfold(0, size, hop) * window).abs() * 2 / window.sum()
    mel = amplitude @ mel_filters(_BINS, size, rate, (50.0, rate / 2))
    decibels: LogMel = (20 * mel.clamp_min(1e-9).log10()).clamp_min(_FLOOR_DECIBELS).numpy()
    return decibels


def log_mel_distance(one: Waveform, other: Waveform) -> float:
    """Mean difference of the decibels, both at one level, where they fit each other best.

    Raises:
        RequestError: their rates differ.
    """
    if one.sample_rate_hz != other.sample_rate_hz:
        raise RequestError(
            f"sounds of {one.sample_rate_hz} and {other.sample_rate_hz} Hz; resample one of them"
        )
    first, second = log_mel(_levelled(one)), log_mel(_levelled(other))
    shifts = range(-_MOST_SHIFT, _MOST_SHIFT + 1)
    return min(_shifted_distance(first, second, shift) for shift in shifts)


def _shifted_distance(first: LogMel, second: LogMel, shift: int) -> float:
    first, second = first[max(0, -shift) :], second[max(0, shift) :]
    shared = min(len(first), len(second))
    if shared == 0:
        return float("inf")
    return float(np.abs(first[:shared] - second[:shared]).mean())


def _levelled(sound: Waveform) -> Waveform:
    """At a root mean square of 0.1."""
    loudness = float(np.sqrt(np.square(sound.samples).mean()))
    return Waveform(sound.samples * np.float32(0.1 / max(loudness, 1e-6)), sound.sample_rate_hz)


def draw_spectra(sounds: Mapping[str, Waveform], path: Path) -> None:
    """Write a PNG: a panel a sound, under its name; time to the right, pitch upwards.

    Raises:
        RequestError: matplotlib is not installed.
    """
    try:
        # Not pyplot: that keeps every figure in global state.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError("pictures need matplotlib: pip install 'unimoe[eval]'") from error
    figure = Figure(figsize=(9, 1.3 * len(sounds)), layout="constrained")
    panels = figure.subplots(len(sounds), 1, squeeze=False)[:, 0]
    for panel, (name, sound) in zip(panels, sounds.items(), strict=True):
        extent = (0.0, sound.seconds, 0.0, float(_BINS))
        panel.imshow(
            log_mel(sound).T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-80,
            vmax=-20,
            extent=extent,
        )
        panel.set_title(name, fontsize=9, loc="left")
        panel.set_yticks([])
        panel.set_ylabel("pitch")
    panels[-1].set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70)
