"""EfficientNet-Lite0, the judge of what drawings show: of no kin to any network of mini.

In:  pictures [batch, 3, side, side], 0 to 1.  Out: features [batch, 1280]; ImageNet scores are not
used, since drawings are no photos: a classifier on the features is fitted to real drawings.
Source: the part efficientnet-lite0, TensorFlow's weights (docs/sources.md#efficientnet).
Axes: width = channels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.errors import CheckpointError

SIDE = 224
FEATURES = 1280
_EPS, _EXPANSION = 1e-3, 6
_BATCH = 16


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    """Of its first block."""
    width: int


_STEM = 32
_STAGES = (
    _Stage(1, 3, 1, 16),
    _Stage(2, 3, 2, 24),
    _Stage(2, 5, 2, 40),
    _Stage(3, 3, 2, 80),
    _Stage(3, 5, 1, 112),
    _Stage(4, 5, 2, 192),
    _Stage(1, 3, 1, 320),
)


class _Convolution(nn.Conv2d):
    """Without bias, padded as TensorFlow does: the odd pixel goes to the right and the bottom."""

    def __init__(
        self, width: int, out_width: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(width, out_width, kernel, stride, groups=groups, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        sides = []
        for length in (pictures.shape[3], pictures.shape[2]):
            missing = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(pictures, sides))


class _Block(nn.Module):
    """Widen, convolve every channel alone, narrow; added to its input where shapes allow."""

    def __init__(self, width: int, out_width: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = width * factor
        self.adds = stride == 1 and width == out_width
        if factor > 1:
            self.expand_conv = _Convolution(width, wide, 1)
            self.bn0 = nn.BatchNorm2d(wide, _EPS)
        self.depthwise_conv = _Convolution(wide, wide, kernel, stride, groups=wide)
        self.bn1 = nn.BatchNorm2d(wide, _EPS)
        self.project_conv = _Convolution(wide, out_width, 1)
        self.bn2 = nn.BatchNorm2d(out_width, _EPS)

    def forward(self, given: Tensor) -> Tensor:
        hidden = given
        if hasattr(self, "expand_conv"):
            hidden = functional.relu6(self.bn0(self.expand_conv(hidden)))
        hidden = functional.relu6(self.bn1(self.depthwise_conv(hidden)))
        narrowed: Tensor = self.bn2(self.project_conv(hidden))
        return narrowed + given if self.adds else narrowed


class EfficientNetLite(nn.Module):
    """The network up to its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Convolution(3, _STEM, 3, 2)
        self.bn0 = nn.BatchNorm2d(_STEM, _EPS)
        blocks, width = [], _STEM
        for number, stage in enumerate(_STAGES):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                factor = _EXPANSION if number else 1
                blocks.append(_Block(width, stage.width, stage.kernel, stride, factor))
                width = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = _Convolution(width, FEATURES, 1)
        self.bn1 = nn.BatchNorm2d(FEATURES, _EPS)

    def forward(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 1280"]:
        """Features of pictures of any size, 0 to 1."""
        given = functional.interpolate(
            pictures, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
        hidden = functional.relu6(self.bn0(self.conv_stem(2 * given - 1)))
        for block in self.blocks:
            hidden = block(hidden)
        hidden = functional.relu6(self.bn1(self.conv_head(hidden)))
        return hidden.mean((2, 3))

    @torch.no_grad()
    def features(
        self, pictures: Float[Tensor, "pictures 3 height width"]
    ) -> Float[Tensor, "pictures 1280"]:
        """Features of many pictures, some at a time."""
        return torch.cat([self(part) for part in torch.split(pictures, _BATCH)])


def load_efficientnet(path: Path) -> EfficientNetLite:
    """The network of a file of the part.

    Raises:
        CheckpointError: the file is damaged or holds another network.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); fetch the part anew") from error
    tensors = {re.sub(r"(^|\.)_", r"\1", name): tensor for name, tensor in stored.items()}
    network = EfficientNetLite()
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    if own.keys() != network.state_dict().keys():
        differing = sorted(own.keys() ^ network.state_dict().keys())
        raise CheckpointError(f"{path}: no EfficientNet-Lite0; {differing[0]} differs")
    network.load_state_dict(own)
    return network.eval()
