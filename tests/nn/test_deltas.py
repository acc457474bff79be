"""Experts as low-rank deltas of one shared block."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from unimoe.config import MoEConfig, RouterConfig
from unimoe.errors import ConfigError
from unimoe.nn.deltas import DeltaExperts
from unimoe.nn.moe import DynamicMoE

HIDDEN, WIDTH, SHARED = 24, 64, 8
CONFIG = MoEConfig(router=RouterConfig(), routed_width=WIDTH, shared_width=SHARED, delta_rank=3)


@pytest.fixture
def layer() -> DynamicMoE:
    torch.manual_seed(5)
    layer = DynamicMoE(HIDDEN, CONFIG)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def one_by_one(
    experts: DeltaExperts, hidden: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Every expert's merged matrices applied to one token after the other."""
    total = torch.zeros_like(hidden)
    gate_up, down = experts.base.gate_up_proj.weight, experts.base.down_proj.weight
    everything = torch.arange(WIDTH)
    for token, column in mask.nonzero().tolist():
        if column < 4:
            deltas, expert, channels = experts.routed, column, everything
        elif column >= 5:
            deltas, expert = experts.shared, column - 5
            channels = torch.arange(expert * SHARED, (expert + 1) * SHARED)
        else:
            continue  # null
        rows = torch.cat([channels, channels + WIDTH])
        first = gate_up[rows] + deltas.gate_up_out[expert] @ deltas.gate_up_in[expert]
        second = down[:, channels] + deltas.down_out[expert] @ deltas.down_in[expert]
        gate, up = (first @ hidden[token]).chunk(2)
        output = second @ (functional.silu(gate) * up)
        total[token] += weights[token, column] * output
    return total


@pytest.mark.parametrize(
    "columns", [[0], [0, 3], [4], [0, 4], []], ids=["one", "two", "null", "both", "shared_alone"]
)
def test_a_uniform_choice_equals_merged_matrices(layer: DynamicMoE, columns: list[int]) -> None:
    hidden = torch.randn(5, HIDDEN)
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[:, [*columns, 5, 6]] = True
    weights = torch.rand(5, 7) * mask
    assert layer.deltas is not None
    found = layer.deltas(hidden, mask, weights)
    torch.testing.assert_close(found, one_by_one(layer.deltas, hidden, mask, weights))


def mixed_mask() -> torch.Tensor:
    """Rows of 0, few, many and all tokens; the last ten take null experts alone."""
    mask = torch.zeros(200, 7, dtype=torch.bool)
    mask[torch.randperm(190)[:150], 1] = True
    mask[torch.randperm(190)[:30], 2] = True
    mask[:190, 3] = True
    mask[100:, 4:] = True
    mask[:, 5:] = True
    return mask


def everything() -> torch.Tensor:
    return torch.ones(70, 7, dtype=torch.bool)


def shared_alone() -> torch.Tensor:
    return torch.arange(7).ge(4).expand(20, 7)


@pytest.mark.parametrize("make_mask", [mixed_mask, everything, shared_alone])
def test_values_and_gradients_equal_merged_matrices(
    layer: DynamicMoE, make_mask: Callable[[], torch.Tensor]
) -> None:
    assert layer.deltas is not None
    experts, mask = layer.deltas.double(), make_mask()
    hidden = torch.randn(len(mask), HIDDEN, dtype=torch.double, requires_grad=True)
    # Weights of experts that are not taken must not matter, nor learn.
    weights = torch.rand(mask.shape, dtype=torch.double, requires_grad=True)
    leaves = [hidden, weights, *experts.parameters()]
    found = experts(hidden, mask, weights)
    wanted = one_by_one(experts, hidden, mask, weights)
    torch.testing.assert_close(found, wanted)
    direction = torch.randn_like(found)
    for ours, slow in zip(
        torch.autograd.grad(found, leaves, direction, materialize_grads=True),
        torch.autograd.grad(wanted, leaves, direction, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, slow)


def test_a_frozen_block_leaves_the_other_gradients_as_they_are(layer: DynamicMoE) -> None:
    assert layer.deltas is not None
    hidden, mask = torch.randn(200, HIDDEN), mixed_mask()
    weights = torch.rand(200, 7)
    learning = [*layer.deltas.routed.parameters(), *layer.deltas.shared.parameters()]
    wanted = torch.autograd.grad(layer.deltas(hidden, mask, weights).sum(), learning)
    layer.deltas.base.requires_grad_(False)
    found = torch.autograd.grad(layer.deltas(hidden, mask, weights).sum(), learning)
    torch.testing.assert_close(found, wanted)


def test_without_a_gradient_the_values_are_the_same(layer: DynamicMoE) -> None:
    assert layer.deltas is not None
    hidden, mask, weights = torch.randn(200, HIDDEN), mixed_mask(), torch.rand(200, 7)
    with torch.no_grad():
        found = layer.deltas(hidden, mask, weights)
    torch.testing.assert_close(found, layer.deltas(hidden, mask, weights))


def test_new_deltas_leave_the_dense_block_as_it_was() -> None:
    one = RouterConfig(num_routed=1, num_null=0, num_shared=0, top_p=None, top_k=1)
    layer = DynamicMoE(
        HIDDEN, MoEConfig(router=one, routed_width=WIDTH, shared_width=1, delta_rank=2)
    )
    assert layer.deltas is not None
    hidden = torch.randn(2, 3, HIDDEN)
    assert torch.equal(layer(hidden).hidden, layer.deltas.base(hidden))


def test_tokens_with_null_experts_alone_never_touch_the_whole_block(layer: DynamicMoE) -> None:
    assert layer.deltas is not None
    calls: list[int] = []
    layer.deltas.base.down_proj.register_forward_hook(lambda *of: calls.append(len(of[1][0])))
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[:, 4:] = True
    mask[:2, 1] = True
    with torch.no_grad():
        layer.deltas(torch.randn(6, HIDDEN), mask, torch.ones(6, 7))
    assert calls == [2]


def test_deltas_in_float32_learn_beside_a_bf16_block(layer: DynamicMoE) -> None:
    assert layer.deltas is not None
    layer.deltas.base.bfloat16()
    hidden = torch.randn(1, 9, HIDDEN, dtype=torch.bfloat16)
    layer(hidden).hidden.float().square().sum().backward()
    gradient = layer.deltas.shared.down_out.grad
    assert gradient is not None
    assert gradient.dtype == torch.float32
    assert gradient.abs().sum() > 0


def test_shared_slices_wider_than_the_block_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 shared experts of 40 channels do not fit"):
        MoEConfig(routed_width=64, shared_width=40, delta_rank=2)


def test_padding_gets_nothing_where_no_expert_is_shared() -> None:
    one = RouterConfig(num_routed=1, num_null=0, num_shared=0, top_p=None, top_k=1)
    moe = MoEConfig(router=one, routed_width=WIDTH, shared_width=1, delta_rank=2)
    layer = DynamicMoE(HIDDEN, moe)
    token_mask = torch.tensor([[True, True, False]])
    output = layer(torch.randn(1, 3, HIDDEN), token_mask=token_mask).hidden
    assert output[0, 2].abs().max() == 0
    assert output[0, :2].abs().min() > 0
