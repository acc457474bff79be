"""Specialists of deltas and routers aimed at their tokens."""

import dataclasses

import pytest
import torch

from unimoe.config import MoEConfig, RouterConfig
from unimoe.errors import ConfigError
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import (
    aim_routers,
    mixtures,
    specialist_moe,
    take_expert,
    wanted_logits,
    with_deltas,
)
from unimoe.recipes.tiny import tiny_config

MIXTURE = MoEConfig(router=RouterConfig(), routed_width=128, shared_width=16, delta_rank=2)
PROMPT = torch.arange(30, 42)[None]


@pytest.fixture(scope="module")
def dense() -> OmniModel:
    config = dataclasses.replace(tiny_config(), vision=None, audio=None)
    core = dataclasses.replace(config.core, moe=None)
    torch.manual_seed(1)
    return OmniModel(dataclasses.replace(config, core=core)).eval()


def test_a_new_specialist_is_the_dense_model_to_the_bit(dense: OmniModel) -> None:
    specialist = with_deltas(dense, specialist_moe(128, rank=4))
    assert torch.equal(specialist(PROMPT).logits, dense(PROMPT).logits)


def test_the_dense_tensors_are_shared_not_copied(dense: OmniModel) -> None:
    specialist = with_deltas(dense, specialist_moe(128, rank=4))
    ours = dict(specialist.named_parameters())["core.layers.1.ffn.deltas.base.down_proj.weight"]
    theirs = dict(dense.named_parameters())["core.layers.1.ffn.down_proj.weight"]
    assert ours.data_ptr() == theirs.data_ptr()


def test_deltas_stay_float32_beside_a_bf16_core(dense: OmniModel) -> None:
    half = with_deltas(dense, MIXTURE)
    for name, parameter in half.named_parameters():
        if ".deltas.base." not in name:
            assert parameter.dtype == torch.float32, name


def test_an_expert_of_a_mixture_does_what_its_specialist_does(dense: OmniModel) -> None:
    specialist = with_deltas(dense, specialist_moe(128, rank=2))
    for name, parameter in specialist.named_parameters():
        if ".deltas.routed." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    mixture = with_deltas(dense, MIXTURE)
    take_expert(mixture, 2, dict(specialist.named_parameters()))
    for _, block in mixtures(mixture):
        weight = torch.zeros_like(block.router.weight)
        block.router.weight = torch.nn.Parameter(weight)
    alone = torch.tensor([[False, False, True, False, False, True, True]]).expand(5, 7)
    hidden = torch.randn(5, 64)
    for (_, one), (_, many) in zip(mixtures(specialist), mixtures(mixture), strict=True):
        assert one.deltas is not None
        assert many.deltas is not None
        wanted = one.deltas(hidden, torch.ones(5, 1, dtype=torch.bool), torch.ones(5, 1))
        torch.testing.assert_close(many.deltas(hidden, alone, alone * torch.eye(7)[2]), wanted)


def test_aimed_routers_know_the_tokens_they_were_shown(dense: OmniModel) -> None:
    mixture = with_deltas(dense, MIXTURE)
    experts = torch.arange(200) % 3
    centres = torch.randn(3, 64)
    states = {
        layer: centres[experts] + 0.3 * torch.randn(200, 64) for layer, _ in mixtures(mixture)
    }
    wanted = wanted_logits(experts, MIXTURE.router, margin=3.0, shared=0.0)
    agreement = aim_routers(mixture, dict.fromkeys(states, wanted), states)
    assert min(agreement.values()) > 0.99
    for _, block in mixtures(mixture):
        routing = block(states[0][None]).routing
        assert torch.equal(routing.logits[:, :5].argmax(-1), experts)
        assert routing.num_selected.float().mean() < 1.2  # sure enough to take one expert


def test_wanted_logits_name_one_column() -> None:
    logits = wanted_logits(torch.tensor([3, 4]), RouterConfig(), margin=3.0, shared=-1.0)
    assert logits.tolist() == [[0, 0, 0, 3, 0, -1, -1], [0, 0, 0, 0, 3, -1, -1]]


def test_deltas_of_another_width_are_refused(dense: OmniModel) -> None:
    with pytest.raises(ConfigError, match="routed_width 128"):
        with_deltas(dense, dataclasses.replace(MIXTURE, routed_width=64))
