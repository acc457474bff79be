import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from tests.heads.made_talkers import TINY
from unimoe.heads.top2 import Top2MoE, expert_capacity, gumbel_noise, route_top2


def logits_for(*choices: tuple[int, int]) -> torch.Tensor:
    """Two experts a token, the first of 60 %, the second of 30 %, of four."""
    logits = torch.full((len(choices), 4), math.log(0.05))
    for token, (first, second) in enumerate(choices):
        logits[token, first], logits[token, second] = math.log(0.6), math.log(0.3)
    return logits


def test_a_token_takes_two_experts_in_proportion_to_their_probabilities() -> None:
    routing = route_top2(logits_for((2, 0)), capacity=None)
    assert routing.mask.tolist() == [[True, False, True, False]]
    torch.testing.assert_close(routing.weights, torch.tensor([[1 / 3, 0.0, 2 / 3, 0.0]]))


def test_first_choices_take_their_places_before_second_ones() -> None:
    routing = route_top2(logits_for((0, 1), (0, 1), (1, 0)), capacity=1)
    assert routing.mask[:, :2].tolist() == [[True, False], [False, False], [False, True]]
    assert routing.selected[:, :2].all()
    kept_alone = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(routing.weights, kept_alone)


def test_second_choices_take_what_first_ones_left() -> None:
    routing = route_top2(logits_for((1, 0), (0, 1), (2, 0)), capacity=2)
    # expert 0: the first of token 1, then the second of token 0; that of token 2 is one too many
    assert routing.mask[:, 0].tolist() == [True, True, False]


def test_noise_moves_the_second_choice_and_no_weight() -> None:
    noise = torch.tensor([[0.0, 0.0, 0.0, 9.0]])
    routing = route_top2(logits_for((2, 0)), capacity=None, noise=noise)
    assert routing.mask.tolist() == [[False, False, True, True]]
    torch.testing.assert_close(routing.weights[0, 3], torch.tensor(0.05 / 0.65))


def test_noise_never_moves_the_first_choice() -> None:
    noise = torch.tensor([[99.0, 0.0, 0.0, 0.0]])
    assert route_top2(logits_for((2, 1)), capacity=None, noise=noise).mask[0, 2]


def test_padding_takes_no_expert_and_no_place() -> None:
    is_real = torch.tensor([False, True])
    routing = route_top2(logits_for((0, 1), (0, 1)), capacity=1, is_real=is_real)
    assert routing.mask.sum(-1).tolist() == [0, 2]
    assert routing.weights[0].tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("num_tokens", "factor", "capacity"),
    [(70, 1.0, 35), (70, 1.5, 53), (6, 1.0, 4), (70, None, None)],
)
def test_capacity_is_rounded_up_and_never_below_the_least(
    num_tokens: int, factor: float | None, capacity: int | None
) -> None:
    assert (
        expert_capacity(num_tokens, dataclasses.replace(TINY, capacity_factor=factor)) == capacity
    )


def test_output_is_the_weighted_sum_of_both_experts() -> None:
    torch.manual_seed(0)
    layer, hidden = Top2MoE(TINY), torch.randn(2, 3, TINY.hidden_size)
    wanted = torch.zeros(6, TINY.hidden_size)
    for token, row in enumerate(hidden.flatten(0, 1)):
        probabilities = (layer.gate.weight @ row).softmax(-1)
        best = probabilities.topk(2)
        for expert, share in zip(best.indices, best.values / best.values.sum(), strict=True):
            gate, up = (layer.gate_up[expert] @ row).chunk(2)
            wanted[token] += share * (layer.down[expert] @ (functional.silu(gate) * up))
    torch.testing.assert_close(layer(hidden, capacity=None).flatten(0, 1), wanted)


def test_the_gate_decides_in_float32_whatever_the_weights_are() -> None:
    torch.manual_seed(0)
    layer = Top2MoE(TINY).to(torch.bfloat16)
    hidden = torch.randn(1, 400, TINY.hidden_size, dtype=torch.bfloat16)
    exact = route_top2(hidden[0].float() @ layer.gate.weight.float().t(), capacity=None)
    rounded = route_top2((hidden[0] @ layer.gate.weight.t()).float(), capacity=None)
    outputs = layer(hidden, capacity=None)[0]
    layer.down.data[0] = 0  # moves the tokens that take expert 0, and those only
    moved = (layer(hidden, capacity=None)[0] != outputs).any(-1)
    assert torch.equal(moved, exact.mask[:, 0])
    assert not torch.equal(exact.mask[:, 0], rounded.mask[:, 0])


def test_noise_is_gumbel() -> None:
    torch.manual_seed(0)
    noise = gumbel_noise(20_000, TINY, torch.device("cpu"))
    assert noise.shape == (2, 20_000, TINY.num_experts)
    # Euler's constant and pi^2 / 6; 160,000 draws stray by less than 0.02 from either
    assert abs(noise.mean().item() - 0.5772) < 0.02
    assert abs(noise.var().item() - math.pi**2 / 6) < 0.04
