import torch
from hypothesis import given
from hypothesis import strategies as st

from unimoe.encoders.connector import join_patches, mlp, pool_patches


def test_windows_overlap_where_the_side_does_not_divide() -> None:
    # Patch rows 0-1 and 1-2 make the two token rows of a side of three.
    patches = torch.arange(9.0).view(1, 9, 1)
    assert pool_patches(patches, 2).flatten().tolist() == [2.0, 3.0, 5.0, 6.0]


def test_tokens_run_row_by_row() -> None:
    patches = torch.arange(16.0).view(1, 16, 1)
    assert pool_patches(patches, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@given(side=st.integers(1, 6))
def test_pooling_to_the_same_side_changes_nothing(side: int) -> None:
    patches = torch.randn(2, side * side, 3, generator=torch.manual_seed(side))
    torch.testing.assert_close(pool_patches(patches, side), patches)


def test_mlp_has_one_gelu_between_two_linear_maps() -> None:
    connector = mlp(4, 6, num_layers=2)
    states = torch.randn(3, 4)
    inner = states @ connector[0].weight.T + connector[0].bias
    exact_gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    expected = exact_gelu @ connector[2].weight.T + connector[2].bias
    torch.testing.assert_close(connector(states), expected)
    assert set(connector.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_joined_patches_keep_every_window_in_reading_order() -> None:
    patches = torch.arange(16.0).view(1, 16, 1)  # 4 x 4, numbered row by row
    assert join_patches(patches, pool_side=2)[0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]
