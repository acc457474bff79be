import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tests.heads.made_codecs import RECORDED
from unimoe.heads.seanet import PaddedConv, SEANetEncoder


@given(num_samples=st.integers(1, 400))
def test_every_started_hop_has_a_frame(num_samples: int) -> None:
    encoder = SEANetEncoder(RECORDED)
    with torch.no_grad():
        frames = encoder(torch.zeros(1, 1, num_samples))
    assert frames.shape == (1, RECORDED.code_width, math.ceil(num_samples / 60))


@pytest.mark.parametrize(
    ("kernel", "stride", "signal", "padded"),
    [
        (3, 1, [1, 2, 3], [2, 1, 2, 3, 2]),
        (4, 2, [1, 2, 3, 4], [2, 1, 2, 3, 4, 3]),
        (4, 2, [1, 2, 3], [2, 1, 2, 3, 2, 1]),  # one sample short of two strides
        (6, 3, [1, 2, 3], [3, 2, 1, 2, 3, 2]),  # two before, one behind
        (7, 1, [1, 2], [0, 0, 2, 1, 2, 0, 0, 0]),  # too short to mirror: silence behind it first
        (1, 1, [1, 2], [1, 2]),
    ],
)
def test_ends_are_mirrored(
    kernel: int, stride: int, signal: list[float], padded: list[float]
) -> None:
    torch.manual_seed(0)
    layer = PaddedConv(1, 2, kernel, stride)
    inputs = torch.tensor([[padded]], dtype=torch.float32)
    wanted = functional.conv1d(inputs, layer.conv.weight, layer.conv.bias, stride)
    actual = layer(torch.tensor([[signal]], dtype=torch.float32))
    torch.testing.assert_close(actual, wanted)
