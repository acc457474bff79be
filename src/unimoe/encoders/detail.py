"""Detail: strokes and edges of a tile, read from its pixels beside what the tower says of them.

In:  pixels of every patch [tiles, patches, 3 * side**2], as `detail_pixels` cuts them.
Out: [tiles, patches, DETAIL_WIDTH].
DINOv2 was taught what things are, and drops what letters are told apart by: a linear map from nine
of its patches names 71 % of letters (docs/log.md). Some convolutions see them in the pixels.
Source: ours, for mini (docs/architecture.md); as released there is none.
Axes: patches = (tile side / patch side) squared, row by row; side = pixels along a patch, averaged
from its own.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

DETAIL_WIDTH = 128
_FIRST_WIDTH = 32


def detail_pixels(
    pixels: Float[Tensor, "tiles 3 side side"], patches_across: int, detail_side: int
) -> Float[Tensor, "tiles patches values"]:
    """The tile with `detail_side` pixels along every patch, patch by patch."""
    seen = functional.adaptive_avg_pool2d(pixels.float(), patches_across * detail_side)
    cut = seen.reshape(-1, 3, patches_across, detail_side, patches_across, detail_side)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).to(pixels.dtype)


class DetailReader(nn.Module):
    """Convolutions that halve the tile until a patch is one place.

    Args:
        detail_side: pixels along a patch, a power of two.
    """

    def __init__(self, detail_side: int) -> None:
        super().__init__()
        self.detail_side = detail_side
        num_halvings = detail_side.bit_length() - 1
        widths = [min(_FIRST_WIDTH << n, DETAIL_WIDTH) for n in range(num_halvings)]
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = zip(widths, [*widths[1:], DETAIL_WIDTH], strict=True)
        self.halvings = nn.ModuleList(_Halving(narrow, wide) for narrow, wide in pairs)
        self.norm = nn.LayerNorm(DETAIL_WIDTH)

    def forward(
        self, patches: Float[Tensor, "tiles patches values"]
    ) -> Float[Tensor, "tiles patches detail"]:
        """What is seen in every patch, and around it."""
        across, side = math.isqrt(patches.shape[1]), self.detail_side
        cut = patches.reshape(-1, across, across, 3, side, side)
        seen = cut.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), 3, across * side, -1)
        seen = self.first(seen.contiguous(memory_format=torch.channels_last))
        for halving in self.halvings:
            seen = halving(seen)
        read: Tensor = self.norm(seen.flatten(2).transpose(1, 2))
        return read


class _Halving(nn.Module):
    """Half as many places along each side, and a look at their neighbours."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, in_width)
        self.halve = nn.Conv2d(in_width, width, 3, stride=2, padding=1)
        self.halved_norm = nn.GroupNorm(1, width)
        self.look = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, seen: Float[Tensor, "tiles in_width rows columns"]) -> Tensor:
        """[tiles, width, rows / 2, columns / 2]."""
        halved = self.halve(functional.gelu(self.norm(seen)))
        looked: Tensor = halved + self.look(functional.gelu(self.halved_norm(halved)))
        return looked
