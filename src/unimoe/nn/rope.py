"""Rotary position embedding over (time, height, width).

In:  position ids int64 [3, batch, seq], queries and keys [batch, seq, heads, head_dim].
Out: the same queries and keys, every channel pair (i, i + head_dim / 2) turned by its phase.
Source: paper "Omni-Modality 3D RoPE"; released decoder layer (docs/sources.md#rope).
Axes: 3 = (t, h, w), seq = tokens, head_dim = channels of one head.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Rotation(NamedTuple):
    """What turns queries and keys; made once per forward and shared by all layers."""

    cos: Float[Tensor, "batch seq 1 head_dim"]
    sin: Float[Tensor, "batch seq 1 head_dim"]
    """Negated in the first half of the channels, so that a swap of halves needs no sign."""


def rotary_angles(
    position_ids: Int[Tensor, "3 batch seq"], sections: tuple[int, int, int], theta: float
) -> Float[Tensor, "batch seq half"]:
    """Phase of every channel pair in radians, float32: bf16 cannot count beyond 256.

    Args:
        position_ids: equal on all three axes for text, which then is plain 1-D RoPE.
        sections: channel pairs that follow t, h and w, in this order; their sum is half.
        theta: base period, in positions.
    """
    half = sum(sections)
    exponents = torch.arange(half, device=position_ids.device, dtype=torch.float32) / half
    phases = position_ids.float().unsqueeze(-1) / theta**exponents  # [3, batch, seq, half]
    own_axis = [part[axis] for axis, part in enumerate(phases.split_with_sizes(sections, dim=-1))]
    return torch.cat(own_axis, dim=-1)


def rotation(angles: Float[Tensor, "batch seq half"], dtype: torch.dtype) -> Rotation:
    """Cosine and signed sine of the angles, taken in float32 and then cast, as released."""
    cos = angles.cos().to(dtype)
    sin = angles.sin().to(dtype)
    return Rotation(
        cos=torch.cat((cos, cos), dim=-1).unsqueeze(2),
        sin=torch.cat((-sin, sin), dim=-1).unsqueeze(2),
    )


def rotate(
    heads: Float[Tensor, "batch seq heads head_dim"], turn: Rotation
) -> Float[Tensor, "batch seq heads head_dim"]:
    """Turn every channel pair of every head by the angle of its token."""
    swapped = heads.roll(heads.shape[-1] // 2, dims=-1)
    return heads * turn.cos + swapped * turn.sin
