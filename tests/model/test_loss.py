import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unimoe.config import RouterConfig
from unimoe.model.loss import mean_balance_loss, text_loss
from unimoe.nn.router import route

HEAD = torch.randn(11, 6, generator=torch.manual_seed(0))


def logits_of(hidden: Tensor) -> Tensor:
    return hidden @ HEAD.T


def states(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, 6, generator=torch.manual_seed(length))


def test_a_token_is_scored_by_the_state_before_it() -> None:
    hidden, labels = states(1, 4), torch.tensor([[-100, -100, 7, -100]])
    expected = functional.cross_entropy(logits_of(hidden[:, 1]), torch.tensor([7]))
    torch.testing.assert_close(text_loss(hidden, labels, None, logits_of), expected)


def test_the_first_label_of_a_row_is_predicted_by_nothing() -> None:
    labels = torch.tensor([[7, -100, -100]])
    assert text_loss(states(1, 3), labels, None, logits_of) == 0.0


def test_nothing_labelled_is_a_loss_of_zero_that_can_be_differentiated() -> None:
    hidden = states(2, 3).requires_grad_(True)
    loss = text_loss(hidden, torch.full((2, 3), -100), None, logits_of)
    loss.backward()
    assert loss == 0.0
    assert not hidden.grad.any()


def test_no_label_crosses_the_border_of_two_packed_samples() -> None:
    hidden, labels = states(1, 5), torch.tensor([[1, 2, 3, 4, 5]])
    packed = text_loss(hidden, labels, torch.tensor([[1, 1, 2, 2, 2]]), logits_of)
    scores = logits_of(hidden[0, [0, 2, 3]])
    torch.testing.assert_close(packed, functional.cross_entropy(scores, labels[0, [1, 3, 4]]))


def test_only_scored_rows_go_through_the_head() -> None:
    seen = []

    def watched(hidden: Tensor) -> Tensor:
        seen.append(hidden.shape)
        return logits_of(hidden)

    labels = torch.full((2, 50), -100)
    labels[1, 20:23] = 4
    text_loss(states(2, 50), labels, None, watched)
    assert seen == [(3, 6)]


def test_the_loss_of_a_bf16_model_is_summed_in_float32() -> None:
    hidden, labels = states(1, 40).bfloat16(), torch.arange(40)[None] % 11
    loss = text_loss(hidden, labels, None, lambda rows: rows @ HEAD.T.bfloat16())
    assert loss.dtype == torch.float32


@given(padding=st.integers(0, 6))
def test_padding_counts_nothing_in_the_balance_loss(padding: int) -> None:
    config = RouterConfig()
    logits = torch.randn(9 + padding, 7, generator=torch.manual_seed(padding))
    is_real = torch.arange(9 + padding) < 9
    padded = mean_balance_loss(
        [route(logits, config, token_mask=is_real)], config, is_real.long()[None], None
    )
    alone = mean_balance_loss([route(logits[:9], config)], config, None, None)
    torch.testing.assert_close(padded, alone)


def test_a_token_of_weight_zero_leaves_the_balance_loss() -> None:
    config = RouterConfig()
    logits = torch.randn(6, 7, generator=torch.manual_seed(1))
    weights = torch.tensor([[2.0, 2.0, 2.0, 2.0, 0.0, 0.0]])
    weighed = mean_balance_loss([route(logits, config)], config, None, weights)
    alone = mean_balance_loss([route(logits[:4], config)], config, None, None)
    torch.testing.assert_close(weighed, alone)


def test_layers_are_averaged() -> None:
    config = RouterConfig()
    layers = [
        route(torch.randn(5, 7, generator=torch.manual_seed(seed)), config) for seed in (0, 1)
    ]
    each = [mean_balance_loss([layer], config, None, None) for layer in layers]
    both = mean_balance_loss(layers, config, None, None)
    assert both.item() == pytest.approx((each[0] + each[1]).item() / 2)
