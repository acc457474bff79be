import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unimoe.encoders.rows import distinct_rows, encode_rows


class Watched:
    """An encoder of two tokens a row that remembers how many rows each call brought."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.calls.append(len(rows))
        return torch.stack([rows.flatten(1).sin(), rows.flatten(1).cos()], dim=1)


@given(
    order=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    rows_per_chunk=st.integers(1, 5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_repeated_rows_are_encoded_once_and_the_result_is_equal(
    order: list[int], rows_per_chunk: int, dtype: torch.dtype
) -> None:
    rows = torch.randn(5, 2, 3, generator=torch.manual_seed(0)).to(dtype)[order]
    encoder = Watched()
    features = encode_rows(encoder, rows, rows_per_chunk=rows_per_chunk)
    assert torch.equal(features, Watched()(rows))
    assert sum(encoder.calls) == len(set(order))
    assert max(encoder.calls) <= rows_per_chunk


def test_rows_that_differ_in_one_value_are_distinct() -> None:
    rows = torch.zeros(3, 4)
    rows[1, 2] = 1e-30
    assert distinct_rows(rows).first == [0, 1]
    assert distinct_rows(rows).source == [0, 1, 0]


def test_rows_whose_checksums_collide_are_told_apart() -> None:
    rows = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    assert distinct_rows(rows).first == [0, 1]


def test_every_occurrence_of_a_row_sends_its_gradient_back() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    encode_rows(lambda chunk: (2 * chunk)[:, None], rows, rows_per_chunk=2).sum().backward()
    assert rows.grad.sum() == pytest.approx(2.0 * rows.numel())
