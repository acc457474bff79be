"""Pixels of patches, and what convolutions see in them."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from unimoe.config import VisionConfig
from unimoe.encoders.detail import DETAIL_WIDTH, DetailReader, detail_pixels
from unimoe.encoders.vision import VisionEncoder
from unimoe.errors import ConfigError

VISION = VisionConfig(
    tower="dinov2",
    hidden_size=32,
    num_layers=1,
    num_heads=4,
    ffn_width=64,
    image_side=16,
    patch_side=4,
    pool_side=2,
    tokens_per_window=3,
    aligner_layers=1,
    reads_class_state=True,
    colour_levels=2,
    detail_side=2,
    max_tile_grid=(1, 1),
)


def test_every_patch_has_its_own_pixels_averaged() -> None:
    tile = torch.arange(3 * 8 * 8.0).view(1, 3, 8, 8)
    found = detail_pixels(tile, 2, 2).view(4, 3, 2, 2)
    for patch, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        own = tile[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = own.reshape(3, 2, 2, 2, 2).mean((2, 4))
        torch.testing.assert_close(found[patch], expected)


@torch.no_grad()
def test_patches_are_read_as_the_tile_they_were_cut_from() -> None:
    torch.manual_seed(0)
    reader = DetailReader(2)
    tile = torch.randn(2, 3, 8, 8)
    (halving,) = reader.halvings
    seen = reader.first(functional.avg_pool2d(tile, 2))
    halved = halving.halve(functional.gelu(halving.norm(seen)))
    whole = halved + halving.look(functional.gelu(halving.halved_norm(halved)))
    expected = reader.norm(whole.flatten(2).transpose(1, 2))

    found = reader(detail_pixels(tile, 2, 2))

    assert found.shape == (2, 4, DETAIL_WIDTH)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_halving_more_for_twice_the_pixels() -> None:
    assert [len(DetailReader(side).halvings) for side in (2, 4, 8)] == [1, 2, 3]
    assert DetailReader(8)(torch.randn(1, 9, 192)).shape == (1, 9, DETAIL_WIDTH)


@torch.no_grad()
def test_pixels_stand_beside_every_patch_and_none_beside_the_class_state() -> None:
    torch.manual_seed(0)
    encoder = VisionEncoder(VISION, hidden_size=48, vocab_size=64).eval()
    tile = torch.randn(2, 3, 16, 16)
    states = encoder.states(tile)
    assert states.shape == (2, 17, VISION.state_width) == (2, 17, 32 + 8 + 12)
    assert VISION.described_width == 40
    torch.testing.assert_close(states[:, :-1, 40:], detail_pixels(tile, 4, 2))
    assert not states[:, -1, 40:].any()


@torch.no_grad()
def test_states_of_pixels_alone_are_those_of_the_tower_without_what_it_says() -> None:
    torch.manual_seed(0)
    encoder = VisionEncoder(VISION, hidden_size=48, vocab_size=64).eval()
    tile = torch.randn(2, 3, 16, 16)
    expected = encoder.states(tile)
    assert expected[..., :32].any()
    expected[..., :32] = 0
    torch.testing.assert_close(encoder.pixel_states(tile), expected, rtol=0, atol=0)


@torch.no_grad()
def test_detail_is_added_to_windows_and_to_their_tokens() -> None:
    torch.manual_seed(0)
    aligner = VisionEncoder(VISION, hidden_size=48, vocab_size=64).eval().aligner
    plain_config = dataclasses.replace(VISION, detail_side=0)
    plain = VisionEncoder(plain_config, hidden_size=48, vocab_size=64).eval().aligner
    plain.load_state_dict(aligner.state_dict(), strict=False)
    states = torch.randn(1, 17, VISION.state_width)
    detail = aligner.detail(states[:, :-1, 40:]).view(1, 2, 2, 2, 2, -1).transpose(2, 3)
    windows = detail.reshape(1, 4, -1)  # 2 x 2 windows of 2 x 2 patches

    aligner.window_detail.weight.zero_()
    added = (windows @ aligner.token_detail.weight.T).view(1, 12, 48)
    torch.testing.assert_close(aligner(states), plain(states[..., :40]) + added)

    aligner.token_detail.weight.zero_()
    aligner.window_detail.weight.normal_()
    plain.places += windows[0] @ aligner.window_detail.weight.T
    torch.testing.assert_close(aligner(states), plain(states[..., :40]))


@pytest.mark.parametrize("side", [1, 3, 6])
def test_a_side_that_no_halving_ends_is_refused(side: int) -> None:
    with pytest.raises(ConfigError, match="detail_side"):
        dataclasses.replace(VISION, detail_side=side)


def test_detail_without_an_aligner_of_windows_is_refused() -> None:
    with pytest.raises(ConfigError, match="detail_side needs aligner_layers"):
        dataclasses.replace(
            VISION,
            aligner_layers=0,
            reads_class_state=False,
            colour_levels=0,
            tokens_per_window=1,
        )
