"""Mel filters: triangles evenly spaced in pitch.

In:  window and rate of a spectrum.  Out: a matrix [bins, mel_bins] that sums it up.
Source: the HTK formula of the mel scale.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def mel_filters(
    num_mel_bins: int, window_samples: int, sample_rate_hz: int, range_hz: tuple[float, float]
) -> Float[Tensor, "bins mel_bins"]:
    """Triangles of unit sum; of one narrower than a bin all are zero.

    Args:
        num_mel_bins: how many.
        window_samples: of the spectrum, which has half as many bins and one.
        sample_rate_hz: of the sound.
        range_hz: lowest and highest corner.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in range_hz)
    corners_hz = 700 * (10 ** (torch.linspace(low, high, num_mel_bins + 2) / 2595) - 1)
    hz = torch.linspace(0, sample_rate_hz / 2, window_samples // 2 + 1)[:, None]
    left, peak, right = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    rising, falling = (hz - left) / (peak - left), (right - hz) / (right - peak)
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return triangles / triangles.sum(0).clamp_min(1e-6)
