import pytest
import torch
from torch import nn

from unimoe.errors import RequestError
from unimoe.model.merge import Medium, merge

PAD = 9


class Doubled(nn.Module):
    """Two features a row: the row, and twice the row."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.stack([rows, 2 * rows], dim=1)


def pictures(*values: float, encoder: nn.Module | None = None) -> Medium:
    rows = torch.tensor(values)[:, None].expand(-1, 3) if values else None
    return Medium("image", PAD, encoder or Doubled(), rows, None, tokens_per_row=2)


def test_features_fill_the_places_in_order_across_rows() -> None:
    ids = torch.tensor([[1, PAD, PAD, 2], [PAD, 1, PAD, 1]])
    merged = merge(torch.zeros(2, 4, 3), ids, pictures(5.0, 7.0))
    assert merged[..., 0].tolist() == [[0, 5, 10, 0], [7, 0, 14, 0]]


@pytest.mark.parametrize(
    ("num_places", "rows", "message"),
    [
        (3, (1.0,), "image: 3 placeholder tokens in the prompt, but 2 features"),
        (1, (1.0,), "image: 1 placeholder tokens in the prompt, but 2 features"),
        (2, (), "image: 2 placeholder tokens in the prompt, but 0 features"),
        (0, (1.0,), "image: 0 placeholder tokens in the prompt, but 2 features"),
    ],
)
def test_a_mismatch_names_both_counts(
    num_places: int, rows: tuple[float, ...], message: str
) -> None:
    ids = torch.tensor([[1] + [PAD] * num_places])
    with pytest.raises(RequestError, match=message):
        merge(torch.zeros(1, 1 + num_places, 3), ids, pictures(*rows))


def test_counts_are_checked_before_anything_is_encoded() -> None:
    class Untouchable(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            raise AssertionError("encoded")

    with pytest.raises(RequestError):
        merge(torch.zeros(1, 1, 3), torch.tensor([[1]]), pictures(1.0, encoder=Untouchable()))


def test_a_model_without_the_encoder_says_so() -> None:
    blind = Medium("image", PAD, None, torch.zeros(1, 3), None, 0)
    with pytest.raises(RequestError, match="brings image input, but this model has no encoder"):
        merge(torch.zeros(1, 1, 3), torch.tensor([[1]]), blind)


def test_a_model_without_the_placeholder_says_so() -> None:
    wordless = Medium("audio", None, Doubled(), torch.zeros(1, 3), None, 2)
    with pytest.raises(RequestError, match="no placeholder token"):
        merge(torch.zeros(1, 1, 3), torch.tensor([[1]]), wordless)


def test_features_and_text_both_get_their_gradient() -> None:
    text = torch.zeros(1, 3, 3, requires_grad=True)
    rows = torch.ones(1, 3, requires_grad=True)
    medium = pictures(1.0)._replace(signals=rows)
    merge(text, torch.tensor([[1, PAD, PAD]]), medium).sum().backward()
    assert text.grad[0, :, 0].tolist() == [1, 0, 0]
    assert rows.grad[0].tolist() == [3, 3, 3]


def test_features_take_the_dtype_of_the_text() -> None:
    ids = torch.tensor([[PAD, PAD]])
    assert merge(torch.zeros(1, 2, 3).bfloat16(), ids, pictures(1.0)).dtype == torch.bfloat16


def test_states_of_a_tower_skip_it_and_enter_the_connector() -> None:
    def connect(states: torch.Tensor) -> torch.Tensor:
        return states[:, :2]

    states = torch.arange(18.0).view(2, 3, 3)
    medium = Medium("image", PAD, connect, None, states, tokens_per_row=2)
    merged = merge(torch.zeros(1, 4, 3), torch.full((1, 4), PAD), medium)
    assert torch.equal(merged[0], states[:, :2].reshape(4, 3))


def test_signals_and_states_at_once_are_refused() -> None:
    medium = pictures(1.0)._replace(states=torch.zeros(1, 2, 3))
    with pytest.raises(RequestError, match="both as signals and as states"):
        merge(torch.zeros(1, 2, 3), torch.full((1, 2), PAD), medium)
