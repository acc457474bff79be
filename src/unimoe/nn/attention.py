"""Causal grouped-query attention, with or without stored keys and values.

In:  hidden states [batch, new, hidden], the rotation of their positions, who sees whom, a store.
Out: [batch, new, hidden].
Source: Qwen2 decoder (docs/sources.md#attention).
Axes: new = tokens of this call, total = stored tokens + new ones, heads = kv_heads x group.
"""

from itertools import groupby
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.nn.layers import thin
from unimoe.nn.rope import Rotation, rotate

SampleLengths: TypeAlias = tuple[int, ...]
"""Tokens of the samples of all rows, one behind the other."""


@runtime_checkable
class KeyValueStore(Protocol):
    """Keys and values of the tokens seen so far, layer by layer."""

    @property
    def length(self) -> int:
        """Tokens stored before this forward."""
        ...

    def extend(
        self,
        layer: int,
        keys: Float[Tensor, "batch kv_heads new head_dim"],
        values: Float[Tensor, "batch kv_heads new head_dim"],
    ) -> tuple[
        Float[Tensor, "batch kv_heads total head_dim"],
        Float[Tensor, "batch kv_heads total head_dim"],
    ]:
        """Append to one layer; return all its keys and values."""
        ...

    def advance(self, num_tokens: int) -> None:
        """Count the new tokens as stored, once all layers have been extended."""
        ...


def attention_pattern(
    attention_mask: Int[Tensor, "batch total"] | None,
    *,
    num_new: int,
    num_stored: int,
    device: torch.device,
) -> Bool[Tensor, "#batch 1 new total"] | None:
    """Who sees whom; None where plain causal attention says it all.

    One pattern stands for all rows that see alike. A token sees itself and earlier tokens of the
    same number. Padding (0) sees padding, so no row is empty. Two samples and one padding token in
    a row, 1 = seen:

        attention_mask  1 1 2 2 0
                        1 . . . .
                        1 1 . . .
                        . . 1 . .
                        . . 1 1 .
                        . . . . 1

    Args:
        attention_mask: 0 for padding, n > 0 for tokens of the row's n-th sample; None: all 1.
        num_new: queries; they are the last of the total.
        num_stored: tokens before them.
        device: where the pattern is wanted.
    """
    total = num_stored + num_new
    # One look at the values a forward buys all layers the kernel that needs no mask.
    if attention_mask is not None and not bool((attention_mask == 1).all()):
        same_sample = attention_mask[:, -num_new:, None] == attention_mask[:, None, :]
        return (same_sample & _lower_right(num_new, total, attention_mask.device)).unsqueeze(1)
    if num_stored == 0 or num_new == 1:
        return None
    return _lower_right(num_new, total, device)[None, None]


def sample_lengths(attention_mask: Int[Tensor, "batch total"]) -> SampleLengths | None:
    """The same for rows that hold all there is to see: how they fall into samples and padding.

    None where the tokens of a sample are no neighbours, as those of 1 in `1 0 1`.
    """
    lengths: list[int] = []
    for row in attention_mask.tolist():
        runs = [(number, len(list(run))) for number, run in groupby(row)]
        samples = [number for number, _ in runs if number > 0]
        if len(set(samples)) < len(samples):
            return None
        lengths += [length for _, length in runs]
    return tuple(lengths)


def _lower_right(num_new: int, total: int, device: torch.device) -> Bool[Tensor, "new total"]:
    """Causal triangle whose last row sees everything."""
    return torch.ones(num_new, total, dtype=torch.bool, device=device).tril(total - num_new)


class AttentionDeltas(nn.Module):
    """Low-rank additions to the two maps of attention; new ones change nothing."""

    def __init__(self, hidden_size: int, num_rows: int, width: int, rank: int) -> None:
        super().__init__()
        self.qkv_in = nn.Parameter(torch.empty(rank, hidden_size))
        self.qkv_out = nn.Parameter(torch.zeros(num_rows, rank))
        self.o_in = nn.Parameter(torch.empty(rank, width))
        self.o_out = nn.Parameter(torch.zeros(hidden_size, rank))
        for matrix in (self.qkv_in, self.o_in):
            nn.init.normal_(matrix, std=matrix.shape[-1] ** -0.5)


class Attention(nn.Module):
    """Grouped-query attention of one layer; query, key and value maps are one matrix."""

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        has_qkv_bias: bool,
        layer: int,
        delta_rank: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.layer = layer
        num_rows = (num_heads + 2 * num_kv_heads) * head_dim
        self.qkv_proj = nn.Linear(hidden_size, num_rows, bias=has_qkv_bias)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size, bias=False)
        self.deltas = (
            None
            if delta_rank is None
            else AttentionDeltas(hidden_size, num_rows, num_heads * head_dim, delta_rank)
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch new hidden"],
        turn: Rotation,
        mask: Bool[Tensor, "#batch 1 new total"]
        | Float[Tensor, "#batch 1 new total"]
        | SampleLengths
        | None,
        store: KeyValueStore | None,
    ) -> Float[Tensor, "batch new hidden"]:
        """Attend from the new tokens to all.

        `mask` as `attention_pattern` or `sample_lengths` make it, or in numbers that are added to
        the scores.
        """
        projected = self.qkv_proj(hidden)
        if self.deltas is not None:
            projected = projected + thin(hidden, self.deltas.qkv_in, self.deltas.qkv_out)
        heads = projected.unflatten(-1, (-1, self.head_dim))
        num_turning = self.num_heads + self.num_kv_heads
        turning, values = heads.split_with_sizes((num_turning, self.num_kv_heads), 2)
        turned = rotate(turning, turn)
        queries, keys = turned.split_with_sizes((self.num_heads, self.num_kv_heads), 2)
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # [batch, kv_heads, new, dim]
        if store is not None:
            keys, values = store.extend(self.layer, keys, values)
        mixed = (
            packed_attention(queries, keys, values, mask)
            if isinstance(mask, tuple)
            else grouped_attention(queries, keys, values, mask)
        )
        output: Tensor = self.o_proj(mixed)
        if self.deltas is not None:
            output = output + thin(mixed, self.deltas.o_in, self.deltas.o_out)
        return output


def grouped_attention(
    queries: Float[Tensor, "batch new heads head_dim"],
    keys: Float[Tensor, "batch kv_heads total head_dim"],
    values: Float[Tensor, "batch kv_heads total head_dim"],
    mask: Bool[Tensor, "#batch 1 new total"] | Float[Tensor, "#batch 1 new total"] | None,
) -> Float[Tensor, "batch new width"]:
    """Attention in which a group of neighbouring query heads shares one key and value head."""
    num_new = queries.shape[1]
    if num_new == 1:
        # The heads of a group stand in for queries: no key is repeated, and no kernel is as fast.
        grouped = queries.view(queries.shape[0], keys.shape[1], -1, queries.shape[-1])
        return (
            functional.scaled_dot_product_attention(grouped, keys, values, mask)
            .flatten(1)
            .unsqueeze(1)
        )
    mixed = functional.scaled_dot_product_attention(
        queries.transpose(1, 2), keys, values, mask, is_causal=mask is None, enable_gqa=True
    )
    return mixed.transpose(1, 2).flatten(2)  # [batch, new, heads x head_dim]


def packed_attention(
    queries: Float[Tensor, "batch new heads head_dim"],
    keys: Float[Tensor, "batch kv_heads new head_dim"],
    values: Float[Tensor, "batch kv_heads new head_dim"],
    lengths: SampleLengths,
) -> Float[Tensor, "batch new width"]:
    """Grouped attention of every sample by itself: nothing is scored only to be masked."""
    # float32: on a CPU the backward pass in bf16 takes two and a half times as long
    precise = torch.promote_types(queries.dtype, torch.float32)
    samples = (
        heads.to(precise).flatten(0, 1).split_with_sizes(lengths)  # [tokens, heads, head_dim]
        for heads in (queries, keys.transpose(1, 2), values.transpose(1, 2))
    )
    mixed = [
        functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        ).transpose(1, 2)
        for query, key, value in (
            [heads.transpose(0, 1).unsqueeze(0) for heads in sample]
            for sample in zip(*samples, strict=True)
        )
    ]
    whole = torch.cat(mixed, dim=1).to(queries.dtype)  # [1, tokens, heads, head_dim]
    return whole.view(*queries.shape[:2], -1)
