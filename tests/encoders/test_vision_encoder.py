import dataclasses

import pytest
import torch
from transformers.models.dinov2 import Dinov2Config, Dinov2Model
from transformers.models.siglip import SiglipVisionConfig, SiglipVisionModel

from unimoe.config import VisionConfig
from unimoe.encoders import vision
from unimoe.encoders.vision import VisionEncoder, colour_shares
from unimoe.errors import ConfigError

SIGLIP = VisionConfig(
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    ffn_width=64,
    image_side=23,
    patch_side=4,
    pool_side=3,
)
DINOV2 = dataclasses.replace(SIGLIP, tower="dinov2", hidden_act="gelu")


def encoder_of(config: VisionConfig) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(config, hidden_size=48, vocab_size=64).eval()


def tiles(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 23, 23, generator=torch.manual_seed(seed))


@pytest.mark.parametrize("config", [SIGLIP, DINOV2], ids=["siglip", "dinov2"])
def test_a_tile_becomes_its_tokens(config: VisionConfig) -> None:
    assert encoder_of(config)(tiles(2)).shape == (2, 9, 48)


@torch.no_grad()
def test_siglip_states_are_those_before_the_final_norm() -> None:
    encoder = encoder_of(SIGLIP)
    eager = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=23,
            patch_size=4,
            vision_use_head=False,
            attn_implementation="eager",
        )
    ).eval()
    eager.load_state_dict(encoder.tower.state_dict())
    states = eager(tiles(2), output_hidden_states=True)
    ours = encoder._siglip_patches(tiles(2))
    torch.testing.assert_close(ours, states.hidden_states[-1], rtol=0, atol=2e-6)
    torch.testing.assert_close(
        encoder.tower.post_layernorm(ours), states.last_hidden_state, rtol=0, atol=1e-5
    )


@torch.no_grad()
def test_dinov2_states_are_normed_and_without_the_class_token() -> None:
    encoder = encoder_of(DINOV2)
    eager = Dinov2Model(
        Dinov2Config(
            hidden_size=32,
            mlp_ratio=2,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=23,
            patch_size=4,
            attn_implementation="eager",
        )
    ).eval()
    eager.load_state_dict(encoder.tower.state_dict())
    ours = encoder._dinov2_patches(tiles(2))
    torch.testing.assert_close(ours, eager(tiles(2)).last_hidden_state[:, 1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_class_state_that_is_read_stands_beside_every_window() -> None:
    config = dataclasses.replace(DINOV2, pool_side=1, aligner_layers=1, reads_class_state=True)
    encoder = encoder_of(config)
    aligner = encoder.aligner
    aligner.places.data.normal_()
    states = encoder.states(tiles(2))
    whole = encoder.tower(tiles(2)).last_hidden_state
    assert states.shape[1] == config.states_per_tile == whole.shape[1]
    torch.testing.assert_close(states[:, -1], whole[:, 0], rtol=0, atol=1e-6)
    joined = torch.cat([whole[:, 1:].flatten(1), whole[:, 0]], dim=-1)[:, None]
    mixed = aligner.layers[0](aligner.window(joined) + aligner.places)
    by_hand = aligner.projector(aligner.norm(mixed))
    torch.testing.assert_close(encoder(tiles(2)), by_hand, rtol=0, atol=1e-5)


@torch.no_grad()
def test_colours_that_are_read_stand_beside_every_state() -> None:
    config = dataclasses.replace(
        DINOV2, pool_side=5, aligner_layers=1, reads_class_state=True, colour_levels=3
    )
    encoder = encoder_of(config)
    pixels = torch.full((2, 3, 23, 23), 1.0)  # white, where mean and deviation are a half
    pixels[1, :, 4:8, 12:14] = torch.tensor([1.0, 0.0, -1.0])[:, None, None]
    states = encoder.states(pixels)
    assert states.shape == (2, config.states_per_tile, config.state_width) == (2, 26, 32 + 27)
    plain = encoder_of(dataclasses.replace(config, colour_levels=0))
    plain.load_state_dict(encoder.tower.state_dict(prefix="tower."), strict=False)
    torch.testing.assert_close(states[..., :32], plain.states(pixels), rtol=0, atol=1e-6)
    white, orange = 27 * torch.eye(27)[26], 27 * torch.eye(27)[2 * 9 + 1 * 3 + 0]
    of_patch = states[1, 5 + 3, 32:]  # row 1, column 3: its left half is orange
    torch.testing.assert_close(of_patch, (white + orange) / 2)
    torch.testing.assert_close(states[1, 5 + 2, 32:], white)
    torch.testing.assert_close(states[1, -1, 32:], white + (orange - white) / 50)
    assert encoder(pixels).shape[:2] == (2, 25)


@torch.no_grad()
def test_colours_of_a_window_and_of_the_tile_are_added_to_its_embedding() -> None:
    config = dataclasses.replace(DINOV2, pool_side=1, aligner_layers=1, reads_class_state=True)
    aligner = encoder_of(dataclasses.replace(config, colour_levels=2)).aligner
    plain = encoder_of(config).aligner
    plain.load_state_dict(aligner.state_dict(), strict=False)
    states = torch.randn(2, config.states_per_tile, 32 + 8)
    torch.testing.assert_close(aligner(states), plain(states[..., :32]))  # they begin with nothing
    aligner.colours.weight.normal_()
    window, tile = states[:, :-1, 32:].mean(1), states[:, -1, 32:]
    added = torch.cat([window, tile], dim=-1) @ aligner.colours.weight.T
    torch.testing.assert_close(aligner(states), plain(states[..., :32]) + added[:, None])


def test_a_pixel_between_levels_counts_for_both() -> None:
    pixels = torch.tensor([[[0.75, 0.5, 1.2]]])
    shares = colour_shares(pixels, 3)[0].view(3, 3, 3)
    assert shares[1, 1, 2] == shares[2, 1, 2] == 27 / 2
    assert shares.sum() == 27


@torch.no_grad()
def test_tokens_of_windows_are_of_their_own_tile_and_know_the_others_of_it() -> None:
    config = dataclasses.replace(DINOV2, pool_side=5, aligner_layers=1)
    encoder = encoder_of(config)
    states = torch.randn(2, 25, 32)
    changed = states.clone()
    changed[0, 24] += 1
    before, after = encoder.connect(states), encoder.connect(changed)
    assert bool((before[0] != after[0]).any(-1).all())
    torch.testing.assert_close(before[1], after[1])


@torch.no_grad()
def test_tokens_of_a_window_stand_side_by_side() -> None:
    config = dataclasses.replace(
        DINOV2, pool_side=5, aligner_layers=1, reads_class_state=True, colour_levels=2
    )
    three = encoder_of(dataclasses.replace(config, tokens_per_window=3)).aligner
    three.colours.weight.normal_()
    states = torch.randn(2, config.states_per_tile, 32 + 8)
    found = three(states)
    assert found.shape[1] == dataclasses.replace(config, tokens_per_window=3).tokens_per_tile == 75
    for number in range(3):  # each as if it were the only one
        alone = encoder_of(config).aligner
        own = slice(number * 48, (number + 1) * 48)
        weights = {
            name: value[own] if name.startswith(("projector.", "colours.")) else value
            for name, value in three.state_dict().items()
        }
        alone.load_state_dict(weights)
        torch.testing.assert_close(found[:, number::3], alone(states))


@torch.no_grad()
def test_a_picture_in_every_prompt_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = encoder_of(SIGLIP), []
    encoder.tower.encoder.register_forward_pre_hook(
        lambda _, __, named: seen.append(len(named["inputs_embeds"])), with_kwargs=True
    )
    monkeypatch.setattr(vision, "TILES_PER_CHUNK", 2)
    pictures = tiles(3)
    features = encoder(torch.cat([pictures, pictures, pictures[:1]]))
    assert seen == [2, 1]
    alone = torch.cat([encoder(picture[None]) for picture in pictures])
    torch.testing.assert_close(features[:3], alone, rtol=0, atol=1e-6)
    assert torch.equal(features[:3], features[3:6])
    assert torch.equal(features[0], features[6])


def test_pixels_are_cast_to_the_weights() -> None:
    assert encoder_of(SIGLIP).bfloat16()(tiles(1)).dtype == torch.bfloat16


@pytest.mark.parametrize("config", [SIGLIP, DINOV2], ids=["siglip", "dinov2"])
def test_an_encoder_on_the_meta_device_holds_nothing_but_parameters(config: VisionConfig) -> None:
    with torch.device("meta"):
        encoder = VisionEncoder(config, hidden_size=48, vocab_size=64)
    assert {parameter.device.type for parameter in encoder.parameters()} == {"meta"}
    assert list(encoder.buffers()) == []


def test_a_frozen_tower_still_lets_the_aligner_learn() -> None:
    encoder = encoder_of(SIGLIP)
    encoder.tower.requires_grad_(False)
    encoder(tiles(2)).sum().backward()
    assert all(parameter.grad is None for parameter in encoder.tower.parameters())
    assert all(parameter.grad.any() for parameter in encoder.aligner.parameters())


def test_dinov2_refuses_a_width_that_is_no_multiple() -> None:
    with pytest.raises(ConfigError, match="ffn_width 65 is no multiple of hidden_size 32"):
        dataclasses.replace(DINOV2, ffn_width=65)
