import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unimoe.nn.attention import (
    Attention,
    attention_pattern,
    grouped_attention,
    packed_attention,
    sample_lengths,
)
from unimoe.nn.rope import rotary_angles, rotation

CPU = torch.device("cpu")


def pattern(mask: list[list[int]] | None, num_new: int, num_stored: int = 0) -> Tensor | None:
    tensor = None if mask is None else torch.tensor(mask)
    return attention_pattern(tensor, num_new=num_new, num_stored=num_stored, device=CPU)


def drawn(seen: Tensor) -> list[str]:
    return ["".join("x" if value else "." for value in row) for row in seen[0, 0].tolist()]


def test_rows_that_see_alike_share_one_pattern_behind_what_is_stored() -> None:
    seen = pattern([[1, 1, 1]] * 2, num_new=2, num_stored=1)
    assert seen is not None
    assert len(seen) == 1
    assert drawn(seen) == ["xx.", "xxx"]


def test_two_samples_of_a_row_do_not_see_each_other() -> None:
    assert drawn(pattern([[1, 1, 2, 2, 0]], 5)) == [
        "x....",
        "xx...",
        "..x..",
        "..xx.",
        "....x",
    ]


def test_padding_on_the_left_sees_only_padding() -> None:
    assert drawn(pattern([[0, 0, 1, 1]], 4)) == [
        "x...",
        "xx..",
        "..x.",
        "..xx",
    ]


def test_new_tokens_see_the_stored_ones_of_their_sample() -> None:
    assert drawn(pattern([[0, 1, 1, 1, 1]], 2, num_stored=3)) == [
        ".xxx.",
        ".xxxx",
    ]


def test_new_tokens_after_a_store_are_causal_among_themselves() -> None:
    assert drawn(pattern(None, 2, num_stored=3)) == [
        "xxxx.",
        "xxxxx",
    ]


@pytest.mark.parametrize("mask", [None, [[1, 1, 1], [1, 1, 1]]])
def test_a_mask_of_ones_costs_no_mask_tensor(mask: list[list[int]] | None) -> None:
    assert pattern(mask, 3) is None
    assert pattern(mask, 1, num_stored=2) is None


def repeated_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Slow and obvious: repeat keys, softmax, sum."""
    group = queries.shape[2] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = torch.einsum("bnhd,bhtd->bhnt", queries, keys) / queries.shape[-1] ** 0.5
    shares = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.einsum("bhnt,bhtd->bnhd", shares, values).flatten(2)


@given(
    batch=st.integers(1, 3),
    num_new=st.integers(1, 4),
    num_stored=st.integers(0, 4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
)
def test_grouped_attention_equals_attention_with_repeated_keys(
    batch: int, num_new: int, num_stored: int, kv_heads: int, group: int
) -> None:
    generator = torch.manual_seed(num_new + 10 * num_stored)
    total = num_new + num_stored
    queries = torch.randn(batch, num_new, kv_heads * group, 8, generator=generator)
    keys, values = torch.randn(2, batch, kv_heads, total, 8, generator=generator).unbind(0)
    causal = torch.ones(num_new, total, dtype=torch.bool).tril(num_stored)[None, None]
    output = grouped_attention(queries, keys, values, pattern(None, num_new, num_stored))
    torch.testing.assert_close(output, repeated_attention(queries, keys, values, causal))


def test_packed_rows_fall_into_samples_and_padding() -> None:
    assert sample_lengths(torch.tensor([[1, 1, 2, 0], [0, 0, 1, 1]])) == (2, 1, 1, 2, 2)


def test_a_sample_with_padding_in_its_midst_has_no_length() -> None:
    assert sample_lengths(torch.tensor([[1, 0, 1]])) is None


@given(samples=st.lists(st.integers(1, 5), min_size=1, max_size=4), group=st.integers(1, 3))
def test_packed_attention_and_its_gradients_equal_attention_under_the_pattern(
    samples: list[int], group: int
) -> None:
    generator = torch.manual_seed(sum(samples))
    mask = torch.repeat_interleave(torch.arange(1, len(samples) + 1), torch.tensor(samples))
    mask = torch.stack([mask, mask.flip(0), torch.zeros_like(mask)])
    queries = torch.randn(*mask.shape, 2 * group, 8, generator=generator, requires_grad=True)
    keys, values = (
        torch.randn(3, 2, mask.shape[1], 8, generator=generator, requires_grad=True)
        for _ in range(2)
    )
    lengths = sample_lengths(mask)
    assert lengths is not None
    fast = packed_attention(queries, keys, values, lengths)
    seen = attention_pattern(mask, num_new=mask.shape[1], num_stored=0, device=CPU)
    assert seen is not None  # the third row is padding
    slow = repeated_attention(queries, keys, values, seen)
    torch.testing.assert_close(fast, slow)
    direction = torch.randn(slow.shape, generator=generator)
    for ours, wanted in zip(
        torch.autograd.grad((fast * direction).sum(), (queries, keys, values)),
        torch.autograd.grad((slow * direction).sum(), (queries, keys, values)),
        strict=True,
    ):
        torch.testing.assert_close(ours, wanted)


def test_rows_of_one_batch_may_have_different_padding_at_decode() -> None:
    generator = torch.manual_seed(3)
    queries = torch.randn(2, 1, 4, 8, generator=generator)
    keys, values = torch.randn(2, 2, 2, 5, 8, generator=generator).unbind(0)
    mask = [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    output = grouped_attention(queries, keys, values, pattern(mask, 1, num_stored=4))
    alone = grouped_attention(queries[:1], keys[:1, :, 2:], values[:1, :, 2:], None)
    torch.testing.assert_close(output[:1], alone)


def test_rows_of_padding_alone_stay_finite_and_so_do_their_gradients() -> None:
    layer = Attention(
        hidden_size=16, num_heads=4, num_kv_heads=2, head_dim=8, has_qkv_bias=True, layer=0
    )
    hidden = torch.randn(2, 3, 16, requires_grad=True)
    turn = rotation(rotary_angles(torch.ones(3, 2, 3).long(), (2, 1, 1), 1e4), torch.float32)
    output = layer(hidden, turn, pattern([[0, 0, 0], [0, 0, 1]], 3), None)
    output.sum().backward()
    assert output.isfinite().all()
    assert hidden.grad.isfinite().all()


def attention_with(delta_rank: int | None) -> Attention:
    torch.manual_seed(4)
    return Attention(
        hidden_size=24,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        has_qkv_bias=True,
        layer=0,
        delta_rank=delta_rank,
    )


@torch.no_grad()
def test_attention_deltas_are_a_matrix_of_low_rank_added_to_each_map() -> None:
    plain, changed = attention_with(None), attention_with(3)
    plain.load_state_dict(changed.state_dict(), strict=False)
    deltas = changed.deltas
    assert deltas is not None
    hidden = torch.randn(2, 5, 24)
    turn = rotation(rotary_angles(torch.arange(5).expand(3, 2, 5), (2, 1, 1), 1e4), torch.float32)
    before = plain(hidden, turn, None, None)
    assert torch.equal(changed(hidden, turn, None, None), before)  # new ones change nothing
    for out in (deltas.qkv_out, deltas.o_out):
        out.normal_()
    plain.qkv_proj.weight += deltas.qkv_out @ deltas.qkv_in
    plain.o_proj.weight += deltas.o_out @ deltas.o_in
    after = plain(hidden, turn, None, None)
    assert not torch.allclose(after, before, atol=0.1)
    torch.testing.assert_close(changed(hidden, turn, None, None), after, rtol=1e-4, atol=1e-4)
