"""The MoE layer against the slow oracle, and what skipping an expert must not cost."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.oracles.moe import moe_oracle
from unimoe.config import MoEConfig, RouterConfig
from unimoe.nn.experts import dispatch, grouped_experts, routed_experts
from unimoe.nn.moe import DynamicMoE

HIDDEN, INNER, SHARED_INNER = 16, 24, 8


def _layer(seed: int = 0, **router: object) -> DynamicMoE:
    torch.manual_seed(seed)
    config = MoEConfig(router=RouterConfig(**router), routed_width=INNER, shared_width=SHARED_INNER)
    layer = DynamicMoE(HIDDEN, config).eval()
    torch.nn.init.normal_(layer.router.weight, std=0.5)
    return layer


def _choose_always(layer: DynamicMoE, column: int) -> torch.Tensor:
    """Make every token of the returned batch prefer one column."""
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[column] = 5.0
    return torch.rand(1, 6, HIDDEN) + 0.5


@given(
    st.integers(1, 5),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from(["paper", "released"]),
    st.sampled_from([None, 0.4, 0.8]),
)
def test_layer_equals_the_oracle_for_any_number_of_experts(
    num_routed: int, num_null: int, num_shared: int, rule: str, top_p: float | None
) -> None:
    layer = _layer(
        num_routed=num_routed,
        num_null=num_null,
        num_shared=num_shared,
        rule=rule,
        top_p=top_p,
        top_k=None if top_p else 1,
    )
    hidden = torch.randn(2, 5, HIDDEN)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)
    with torch.no_grad():
        actual = layer(hidden, token_mask=mask).hidden
        torch.testing.assert_close(actual, moe_oracle(layer, hidden, mask), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_a_decode_step_equals_the_same_token_in_a_prompt(rule: str) -> None:
    layer = _layer(rule=rule)
    hidden = torch.randn(1, 9, HIDDEN)
    with torch.no_grad():
        whole = layer(hidden).hidden
        steps = [layer(hidden[:, place : place + 1]).hidden for place in range(9)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_gradients_equal_the_oracle(rule: str) -> None:
    layer = _layer(rule=rule)
    hidden = torch.randn(2, 5, HIDDEN, requires_grad=True)
    upstream = torch.randn(2, 5, HIDDEN)
    experts = {name: p for name, p in layer.named_parameters() if "router" not in name}

    fast = torch.autograd.grad(
        (layer(hidden).hidden * upstream).sum(), list(experts.values()), retain_graph=False
    )
    slow = torch.autograd.grad((moe_oracle(layer, hidden) * upstream).sum(), list(experts.values()))
    for name, actual, expected in zip(experts, fast, slow, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4, msg=name)


def test_routed_gradients_pass_finite_differences() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=torch.bool)
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in [(4, 6), (4, 3), (3, 10, 6), (3, 6, 5)]
    ]

    def routed(hidden, weights, gate_up, down):
        return routed_experts(hidden, mask, weights, gate_up, down)

    assert torch.autograd.gradcheck(routed, inputs)


def test_grouped_products_equal_the_loop() -> None:
    torch.manual_seed(0)
    mask = torch.rand(12, 4) < 0.4
    mask[:, 2] = False  # an expert without rows
    weights, hidden = torch.rand(12, 4), torch.randn(12, HIDDEN)
    gate_up, down = torch.randn(4, 2 * INNER, HIDDEN), torch.randn(4, HIDDEN, INNER)
    plan = dispatch(mask)
    gates = weights[plan.tokens, plan.experts]
    grouped = grouped_experts(hidden, plan, gates, gate_up, down)
    torch.testing.assert_close(
        grouped, routed_experts(hidden, mask, weights, gate_up, down), atol=1e-4, rtol=1e-5
    )


def test_dispatch_sorts_pairs_by_expert_and_keeps_token_order() -> None:
    #                     expert 0  1  2
    mask = torch.tensor([[True, False, True], [False, False, False], [True, False, False]])
    plan = dispatch(mask)
    assert plan.experts.tolist() == [0, 0, 2]
    assert plan.tokens.tolist() == [0, 2, 0]
    assert plan.counts.tolist() == [2, 0, 1]


def test_null_expert_returns_zero_and_costs_no_expert_flops() -> None:
    layer = _layer(num_shared=0)
    hidden = _choose_always(layer, column=4)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = layer(hidden).hidden
    router_flops = 2 * 6 * HIDDEN * 5
    assert counter.get_total_flops() == router_flops
    assert torch.equal(output, torch.zeros_like(output))


def test_flops_are_those_of_the_rows_really_routed() -> None:
    layer = _layer(num_shared=0)
    hidden = torch.randn(3, 7, HIDDEN)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        routing = layer(hidden).routing
    rows = int(routing.mask[:, :4].sum())
    expected = 2 * 21 * HIDDEN * 5 + rows * 2 * 3 * HIDDEN * INNER
    assert counter.get_total_flops() == expected


def test_null_expert_gives_routed_experts_no_gradient() -> None:
    layer = _layer()
    hidden = _choose_always(layer, column=4)
    layer(hidden).hidden.sum().backward()
    assert layer.routed_gate_up.grad.abs().max() == 0
    assert layer.routed_down.grad.abs().max() == 0
    assert layer.shared_down.grad.abs().max() > 0


def test_unused_expert_gets_zero_gradient_and_used_one_learns() -> None:
    layer = _layer()
    hidden = _choose_always(layer, column=2)
    layer(hidden).hidden.sum().backward()
    per_expert = layer.routed_down.grad.abs().amax((1, 2))
    assert per_expert.nonzero().flatten().tolist() == [2]


def test_frozen_experts_leave_the_router_learning() -> None:
    layer = _layer(rule="paper")
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_("router" in name)
    layer(torch.randn(2, 5, HIDDEN)).hidden.square().sum().backward()
    assert layer.router.weight.grad.abs().max() > 0
    assert layer.routed_gate_up.grad is None


def test_larger_threshold_takes_more_experts() -> None:
    layer = _layer(seed=3)
    hidden = torch.randn(4, 50, HIDDEN)
    taken = [
        layer(hidden, top_p=top_p).routing.mask[:, :4].sum().item() for top_p in (0.3, 0.6, 0.95)
    ]
    assert all(fewer < more for fewer, more in pairwise(taken))


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_sampling_happens_in_training_only(rule: str) -> None:
    layer = _layer(rule=rule, gate_gradient="sampled", near_tie=0.3)
    hidden = torch.randn(1, 40, HIDDEN)
    assert torch.equal(layer(hidden).hidden, layer(hidden).hidden)
    layer.train()
    assert not torch.equal(layer(hidden).hidden, layer(hidden).hidden)


def test_input_jitter_moves_the_router_but_not_the_experts_under_the_paper_rule() -> None:
    layer = _layer(rule="paper", input_jitter=0.3, top_p=None, top_k=5).train()
    hidden = torch.randn(1, 8, HIDDEN)
    first, second = layer(hidden), layer(hidden)
    assert not torch.equal(first.routing.logits, second.routing.logits)
    assert torch.equal(first.routing.mask, second.routing.mask)


def test_empty_batch_passes_through() -> None:
    assert _layer()(torch.randn(0, 3, HIDDEN)).hidden.shape == (0, 3, HIDDEN)


def test_training_under_autocast_gives_gradients_of_the_parameters_type() -> None:
    layer = _layer().train()
    hidden = torch.randn(2, 5, HIDDEN)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(hidden).hidden
    output.float().sum().backward()
    exact = _layer().train()
    exact(hidden).hidden.sum().backward()
    assert layer.routed_down.grad.dtype == torch.float32
    torch.testing.assert_close(layer.routed_down.grad, exact.routed_down.grad, atol=5e-2, rtol=5e-2)


@pytest.mark.compile
def test_grouped_products_are_one_graph_without_a_look_at_any_value() -> None:
    """The borders of the experts stay on the device: no host sync per expert."""
    mask = torch.rand(12, 4) < 0.4
    plan = dispatch(mask)
    hidden, gates = torch.randn(12, HIDDEN).bfloat16(), torch.rand(len(plan.tokens)).bfloat16()
    gate_up = torch.randn(4, 2 * INNER, HIDDEN).bfloat16()
    inputs = (hidden, plan, gates, gate_up, torch.randn(4, HIDDEN, INNER).bfloat16())
    traced = torch.compile(grouped_experts, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(*inputs), grouped_experts(*inputs))


@pytest.mark.gpu
def test_grouped_products_on_a_gpu_equal_the_loop() -> None:
    layer = _layer().cuda().bfloat16()
    hidden = torch.randn(2, 40, HIDDEN, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        grouped = layer(hidden).hidden.cpu()
        looped = layer.cpu()(hidden.cpu()).hidden
    torch.testing.assert_close(grouped, looped, atol=5e-2, rtol=5e-2)
