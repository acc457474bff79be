"""The pitch of recordings, frame by frame: what the codec learns to hear and to give back.

In:  waveform float32 [batch, samples].  Out: Hz of every frame, and whether it has a pitch at all.
Source: Boersma 1993: autocorrelation of a windowed piece over that of its window.
Axes: frames = one a hop, its middle in the middle of the hop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

LOWEST_HZ, HIGHEST_HZ = 65.0, 420.0
_WINDOW_SECONDS = 0.0427
_LEAST_LIKENESS = 0.55
"""Of a piece with itself a period later, to have a pitch."""
_LEAST_LOUDNESS = 0.01
_SHORTER_IS_LIKELIER = 0.03
"""An octave of period costs this much likeness: a period repeats after two of them as well."""
_MEDIAN_FRAMES = 5


class Pitch(NamedTuple):
    """What is sung."""

    hz: Float[Tensor, "batch frames"]
    """Anything where nothing is voiced."""
    is_voiced: Bool[Tensor, "batch frames"]


@torch.no_grad()
def pitch_of(
    waveform: Float[Tensor, "batch samples"], hop_samples: int, sample_rate_hz: int
) -> Pitch:
    """The pitch of every whole hop."""
    window_samples = 2 * round(_WINDOW_SECONDS * sample_rate_hz / 2)
    window_samples += (window_samples - hop_samples) % 2
    edge = (window_samples - hop_samples) // 2
    pieces = functional.pad(waveform, (edge, edge)).unfold(-1, window_samples, hop_samples)
    window = torch.hann_window(window_samples)
    likeness = _autocorrelation(pieces * window) / _autocorrelation(window[None, None])
    shortest = int(sample_rate_hz / HIGHEST_HZ)
    longest = int(sample_rate_hz / LOWEST_HZ)
    lags = torch.arange(shortest, longest + 1)
    score = likeness[..., lags] - _SHORTER_IS_LIKELIER * (lags / shortest).log2()
    best = score.argmax(-1)
    hz = _median(sample_rate_hz / lags[best])
    is_loud = pieces.square().mean(-1).sqrt() > _LEAST_LOUDNESS
    is_alike = likeness[..., lags].gather(-1, best[..., None])[..., 0] > _LEAST_LIKENESS
    return Pitch(hz, _median((is_loud & is_alike).float()) > 0)


def _autocorrelation(pieces: Float[Tensor, "batch frames window"]) -> Tensor:
    """Of every piece, over its own energy; lags up to the window."""
    length = pieces.shape[-1]
    spectrum = torch.fft.rfft(pieces, 2 * length).abs().square()
    found: Tensor = torch.fft.irfft(spectrum)[..., :length]
    return found / found[..., :1].clamp_min(1e-6)


def _median(values: Float[Tensor, "batch frames"]) -> Float[Tensor, "batch frames"]:
    """Of each and its neighbours; single slips go."""
    half = _MEDIAN_FRAMES // 2
    padded = functional.pad(values[:, None], (half, half), mode="replicate")[:, 0]
    return padded.unfold(-1, _MEDIAN_FRAMES, 1).median(-1).values
