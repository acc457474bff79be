"""What a drawing changed of its source picture: what it did not mean to touch, and whether at all.

In:  a source picture and what was drawn of it, uint8 [height, width, 3].
A picture that went through latents and back differs a little everywhere. Where a block differs no
more than that, the edit was about other places; if most blocks differ more, it was about the
whole picture, and all of it is taken as drawn. Where no block is of another colour on the whole,
the picture was to be repaired.
Source: ours (docs/log.md).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

_BLOCK = 8
"""Pixels a side."""
_TOUCHED = 0.08
"""Mean difference of a block's values, of the whole range."""
_CLEARLY = 0.15
"""Difference of a pixel beside a touched block: the edge of a thing that reaches into it."""
_MOST_TOUCHED = 0.45
"""Share of the blocks."""
_OTHER_COLOUR = 0.18
"""Difference of a block's mean colour, mean of the channels: of repairs at most 0.25, mostly less
than this, of edits that change something 0.3 and more."""


def keep_untouched(
    drawn: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The drawn picture with the source's blocks where these hardly differ, softly between both."""
    difference = _difference(drawn, source).abs()
    touched = (_blocks(difference).mean(0) > _TOUCHED).float()[None, None]
    if float(touched.mean()) > _MOST_TOUCHED:
        return drawn
    height, width, _ = source.shape
    inside = functional.interpolate(touched, (height, width), mode="bilinear")
    beside = functional.interpolate(functional.max_pool2d(touched, 3, 1, 1), (height, width))
    weight = torch.maximum(inside, beside * (difference.mean(0) > _CLEARLY))
    share = weight[0, 0, :, :, None].numpy()
    return np.asarray((share * drawn + (1 - share) * source).round(), dtype=np.uint8)


def is_repaired(
    drawn: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]
) -> bool:
    """Whether every block has kept its colour on the whole, as noise, blur and rain leave it."""
    return bool(_blocks(_difference(drawn, source)).abs().mean(0).max() < _OTHER_COLOUR)


def _difference(
    drawn: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]
) -> Float[Tensor, "3 height width"]:
    """Of the whole range."""
    difference = (drawn.astype(np.float32) - source) / 255
    return torch.from_numpy(difference).permute(2, 0, 1)


def _blocks(values: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 rows columns"]:
    """Their means."""
    rows, columns = (max(1, side // _BLOCK) for side in values.shape[1:])
    return functional.adaptive_avg_pool2d(values, (rows, columns))
