"""Routing rules: literal examples, properties, and the expectation of the gate estimators."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from tests.oracles.moe import token_weights
from unimoe.config import RouterConfig
from unimoe.errors import RequestError
from unimoe.nn.router import (
    HEUN_FULL_STEP_PROBABILITY,
    HEUN_SHORT_STEP,
    RouterDraws,
    balance_loss,
    draw,
    estimated_gate,
    heun_factors,
    route,
    z_loss,
)

RELEASED = RouterConfig(rule="released")
PAPER = RouterConfig(rule="paper")


@pytest.mark.parametrize(
    ("logits", "num_selected", "weights"),
    [
        (
            [2, 1, 0.5, -1, 0.2, 0.3, 0.1],
            2,
            [0.402286, 0.402286, 0, 0, 0, 0.107453, 0.087975],
        ),
        (
            [1, 0.99, 0.985, -2, 0, 0.5, -0.5],
            3,
            [0.143044, 0.213321, 0.425579, 0, 0, 0.159411, 0.058644],
        ),
        ([-1, -1, -1, -1, 3, 0, 0], 1, [0, 0, 0, 0, 0.909442, 0.045279, 0.045279]),
    ],
    ids=["two experts share alike", "near ties: later picks weigh more", "null alone"],
)
def test_released_rule_gives_the_worked_examples(logits, num_selected, weights) -> None:
    routing = route(torch.tensor([logits], dtype=torch.float32), RELEASED)
    assert routing.num_selected.item() == num_selected
    expected = torch.tensor(weights, dtype=torch.float32)
    torch.testing.assert_close(routing.weights[0], expected, atol=2e-6, rtol=0)


def test_paper_rule_is_one_softmax_over_everything_selected() -> None:
    logits = [2.0, 1.0, 0.5, -1.0, 0.2, 0.3, 0.1]  # p = .54 .20 .12 | .03 .09, so two experts
    routing = route(torch.tensor([logits]), PAPER)
    kept = torch.tensor([2.0, 1.0, 0.3, 0.1]).softmax(0)
    expected = torch.tensor([kept[0], kept[1], 0, 0, 0, kept[2], kept[3]])
    torch.testing.assert_close(routing.weights[0], expected)


def test_fixed_top_k_takes_k_experts_whatever_the_logits() -> None:
    config = RouterConfig(top_p=None, top_k=3)
    routing = route(torch.randn(64, 7) * 5, config)
    assert routing.mask[:, :5].sum(-1).unique().tolist() == [3]


def test_request_threshold_replaces_the_configured_one() -> None:
    logits = torch.randn(200, 7)
    few = route(logits, PAPER, top_p=0.2).num_selected.float().mean()
    many = route(logits, PAPER, top_p=0.95).num_selected.float().mean()
    assert few < 1.5 < 3 < many


@pytest.mark.parametrize("top_p", [0.0, -0.5, 1.5])
def test_impossible_threshold_is_refused(top_p: float) -> None:
    with pytest.raises(RequestError, match=r"more than 0 and at most 1"):
        route(torch.randn(2, 7), PAPER, top_p=top_p)


def test_threshold_of_one_takes_every_expert_despite_rounding() -> None:
    routing = route(torch.randn(500, 7), PAPER, top_p=1.0)
    assert routing.num_selected.max() <= 5


@given(
    hypothesis_numpy.arrays("float32", (6, 7), elements=st.floats(-6, 6, width=32)),
    st.sampled_from(["paper", "released"]),
    st.sampled_from([0.3, 0.7, 0.95]),
)
def test_weights_equal_the_oracle(values, rule: str, top_p: float) -> None:
    config = RouterConfig(rule=rule, top_p=top_p)
    logits = torch.from_numpy(values)
    routing = route(logits, config)
    for row, weights in zip(logits.tolist(), routing.weights, strict=True):
        if _is_undecided(row[:5], top_p):
            continue
        torch.testing.assert_close(
            weights, torch.tensor(token_weights(config, row)), atol=2e-5, rtol=0
        )


def _is_undecided(dynamic: list[float], top_p: float) -> bool:
    """Whether float32 rounding alone may decide: a threshold, a tie or the near-tie border."""
    likely = torch.tensor(dynamic, dtype=torch.float64).softmax(0).sort(descending=True).values
    scores = torch.tensor(dynamic, dtype=torch.float64)
    gap = (scores[:, None] - scores[None]).abs()
    larger = torch.maximum(scores[:, None].abs(), scores[None].abs())
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    at_border = ((gap - 0.02 * larger).abs() < 1e-4)[off_diagonal].any()
    return bool((likely.cumsum(0) - top_p).abs().min() < 1e-5 or at_border or _has_tie(gap))


def _has_tie(gap: torch.Tensor) -> bool:
    return bool((gap[~torch.eye(5, dtype=torch.bool)] < 1e-6).any())


@given(st.permutations(range(8)), st.sampled_from(["paper", "released"]))
def test_order_of_tokens_does_not_matter(order: list[int], rule: str) -> None:
    logits = torch.randn(8, 7, generator=torch.Generator().manual_seed(0))
    config = RouterConfig(rule=rule)
    alone, shuffled = route(logits, config), route(logits[order], config)
    assert torch.equal(alone.weights[order], shuffled.weights)


def test_padding_takes_the_shared_experts_only() -> None:
    routing = route(torch.randn(2, 7), RELEASED, token_mask=torch.tensor([True, False]))
    assert routing.mask[1].tolist() == [False] * 5 + [True] * 2
    assert routing.weights[1, :5].abs().max() == 0
    torch.testing.assert_close(routing.weights[1].sum(), torch.tensor(1.0))


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_padding_without_shared_experts_is_no_nan(rule: str) -> None:
    config = RouterConfig(rule=rule, num_shared=0)
    routing = route(torch.randn(2, 5), config, token_mask=torch.tensor([True, False]))
    assert routing.weights.isfinite().all()
    assert not routing.mask[1].any()


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_same_draws_repeat_the_same_training_routing(rule: str) -> None:
    config = RouterConfig(rule=rule, gate_gradient="sampled", near_tie=0.2)
    logits = torch.randn(64, 7)
    draws = draw(64, config, torch.device("cpu"), hidden_size=4)
    first, second = (route(logits, config, draws=draws) for _ in range(2))
    other = route(logits, config, draws=draw(64, config, torch.device("cpu"), hidden_size=4))
    assert torch.equal(first.weights, second.weights)
    assert not torch.equal(first.weights, other.weights)


def test_paper_sampling_draws_the_first_expert_with_its_probability() -> None:
    config = RouterConfig(num_routed=4, num_null=0, num_shared=0, top_p=None, top_k=1)
    logits = torch.tensor([1.0, 0.5, 0.0, -1.0]).expand(40_000, 4)
    torch.manual_seed(0)
    routing = route(logits, config, draws=draw(40_000, config, logits.device, hidden_size=1))
    frequency = routing.selected.float().mean(0)
    torch.testing.assert_close(frequency, logits[0].softmax(0), atol=0.01, rtol=0)


def test_expectation_of_the_paper_estimator_is_the_exact_gradient_of_a_cubic() -> None:
    """Sum over every draw and coin, against autograd through sum_i p_i f(p_i E_i).

    This is the Heun step for every draw; the shipped hybrid steps fully for the best one.
    """
    torch.manual_seed(0)
    logits = torch.randn(4, dtype=torch.float64, requires_grad=True)
    outputs = torch.randn(4, dtype=torch.float64) * 3

    def objective(o: torch.Tensor) -> torch.Tensor:
        return 0.7 * o**3 - 1.3 * o**2 + 0.4 * o + 2.0

    probability = logits.softmax(0)
    (exact,) = torch.autograd.grad((probability * objective(probability * outputs)).sum(), logits)

    expectation = torch.zeros(4, dtype=torch.float64)
    for expert in range(4):
        for factor, chance in _coin_sides():
            gate = estimated_gate(logits.softmax(0)[expert], factor)
            (estimate,) = torch.autograd.grad(objective(gate * outputs[expert]), logits)
            expectation += probability[expert].detach() * chance * estimate
    torch.testing.assert_close(expectation, exact, atol=1e-7, rtol=0)


def _coin_sides() -> list[tuple[torch.Tensor, float]]:
    """Factor and chance of either side, from the constants the router itself uses."""
    chance = HEUN_FULL_STEP_PROBABILITY
    full, short = (torch.tensor(step, dtype=torch.float64) for step in (1.0, HEUN_SHORT_STEP))
    return [(full, chance), (short, 1 - chance)]


def test_a_pick_that_is_not_the_best_left_takes_the_step_its_coin_says() -> None:
    scores, order = torch.tensor([[0.0, 1.0]]), torch.tensor([[0, 1]])
    below, above = HEUN_FULL_STEP_PROBABILITY - 1e-3, HEUN_FULL_STEP_PROBABILITY + 1e-3
    full = heun_factors(scores, order, torch.full((1, 2), below))[0, 0]
    short = heun_factors(scores, order, torch.full((1, 2), above))[0, 0]
    torch.testing.assert_close(full, torch.tensor(1.0))
    torch.testing.assert_close(short, torch.tensor(HEUN_SHORT_STEP))


def test_best_expert_left_always_takes_the_full_step() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    order = torch.tensor([[1, 0, 2]])  # the second best first, then the best, then the last
    factors = heun_factors(scores, order, torch.ones(1, 3))
    torch.testing.assert_close(factors, torch.tensor([[1 / 3, 1.0, 1.0]]))


def test_released_estimator_keeps_the_gradient_of_the_drawn_softmax() -> None:
    """A second expert not the best of its near ties: value a third, gradient whole."""
    config = replace(RELEASED, gate_gradient="sampled", near_tie=0.3, top_p=None, top_k=2)
    logits = torch.tensor([[1.0, 0.9, -3.0, -3.0, -3.0, 0.0, 0.0]])
    gumbel = torch.zeros(1, 5, 5)
    gumbel[0, 0, 1] = 10.0  # draws the second best first
    routing = route(logits, config, draws=RouterDraws(gumbel, torch.zeros(1, 5)))
    second_best = torch.tensor([1.0, 0.9]).softmax(0)[1] * 0.3333
    expected = second_best / (second_best + 1.0)  # then the best, alone: gate 1
    ratio = routing.weights[0, 1] / routing.weights[0, :2].sum()
    torch.testing.assert_close(ratio, expected, atol=1e-5, rtol=0)


def test_balance_loss_is_least_when_experts_share_the_load() -> None:
    config = RouterConfig(top_p=None, top_k=1, num_shared=0)
    even = route(torch.eye(5) * 4, config)
    skewed = route(torch.eye(5)[:1].expand(5, 5) * 4, config)
    assert balance_loss(even, config) < balance_loss(skewed, config)
    torch.testing.assert_close(balance_loss(even, config), torch.tensor(1.0))


def test_balance_loss_counts_tokens_by_weight_and_null_by_its_own() -> None:
    config = RouterConfig(top_p=None, top_k=1, num_shared=0)
    routing = route(torch.eye(5)[[0, 4]] * 9, config)  # one token on expert 0, one on null
    only_first = balance_loss(routing, config, torch.tensor([1, 0]))
    torch.testing.assert_close(only_first, torch.tensor(5.0))
    cheap_null = replace(config, null_balance=0.0)
    torch.testing.assert_close(
        balance_loss(routing, cheap_null), 0.5 * balance_loss(routing, config)
    )


def test_z_loss_grows_with_the_logits() -> None:
    small, large = (z_loss(route(torch.ones(3, 7) * scale, PAPER)) for scale in (0.1, 10.0))
    torch.testing.assert_close(small, (torch.tensor(7.0).log() + 0.1) ** 2)
    assert large > small


def test_z_loss_leaves_padding_out() -> None:
    routing = route(torch.tensor([[1.0] * 7, [50.0] * 7]), PAPER)
    masked = z_loss(routing, torch.tensor([True, False]))
    torch.testing.assert_close(masked, (torch.tensor(7.0).log() + 1.0) ** 2)


def test_balance_loss_of_no_token_at_all_is_zero() -> None:
    routing = route(torch.randn(4, 7), PAPER)
    assert balance_loss(routing, PAPER, torch.zeros(4)) == 0


@pytest.mark.parametrize("num_shared", [0, 2])
def test_position_dropping_never_leaves_a_real_token_nothing_in_silence(num_shared: int) -> None:
    config = RouterConfig(
        rule="released",
        num_shared=num_shared,
        drop_policy="position",
        capacity_factor=0.1,
        min_capacity=1,
    )
    with pytest.raises(RequestError, match="without any expert"):
        route(torch.zeros(20, config.num_columns), config)


@pytest.mark.compile
@pytest.mark.parametrize("rule", ["paper", "released"])
def test_routing_is_one_graph_without_a_look_at_any_value(rule: str) -> None:
    """A host sync would break the graph, and `fullgraph` refuses that."""
    config = RouterConfig(rule=rule)
    logits = torch.randn(16, 7)
    traced = torch.compile(lambda x: route(x, config).weights, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(logits), route(logits, config).weights)
