"""What an edit did not mean to touch stays as it was.

In:  a source picture and what was drawn of it, uint8 [height, width, 3].  Out: a picture.
A picture that went through latents and back differs a little everywhere. Where a block differs no
more than that, the edit was about other places; if most blocks differ more, it was about the
whole picture (a repair, another style), and all of it is taken as drawn.
Source: ours (docs/log.md).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torch.nn import functional

_BLOCK = 8
"""Pixels a side."""
_TOUCHED = 0.06
"""Mean difference of a block's channels, of the whole range."""
_MOST_TOUCHED = 0.45
"""Share of the blocks."""


def keep_untouched(
    drawn: UInt8[np.ndarray, "height width 3"], source: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The drawn picture with the source's blocks where these hardly differ, softly between both."""
    height, width, _ = source.shape
    difference = np.abs(drawn.astype(np.float32) - source).mean(-1) / 255
    grid = (max(1, height // _BLOCK), max(1, width // _BLOCK))
    blocks = functional.adaptive_avg_pool2d(torch.from_numpy(difference)[None, None], grid)
    touched = (blocks > _TOUCHED).float()
    if float(touched.mean()) > _MOST_TOUCHED:
        return drawn
    weight = functional.interpolate(touched, (height, width), mode="bilinear")[0, 0, :, :, None]
    share = weight.numpy()
    return np.asarray((share * drawn + (1 - share) * source).round(), dtype=np.uint8)
