"""Attention of the DiT: image tokens to each other, to the source image, and to the prompt.

In:  tokens of the image being drawn [batch, seq, hidden], kept source-image tokens
     [batch, kept, hidden], prompt [batch, prompt, prompt_width] with its mask.
Out: [batch, seq, hidden] = self + tanh(image gate) * image cross + tanh(text gate) * text cross.
One query, turned by its place in the image, asks all three; only the keys of the image being drawn
are turned.  Queries and keys are normalised over their whole width, before heads are split.
Source: PixWizard (docs/sources.md#dit).
Axes: seq = rows x columns of patches, pairs = head_dim / 2, heads = kv_heads x group.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import DiTConfig

ROPE_THETA = 10_000.0


class AttentionInput(NamedTuple):
    """What the attention of every layer of one forward shares."""

    turn: Complex[Tensor, "seq pairs"]
    scale: float
    """Of the products of self-attention, before the softmax."""
    prompt_mask: Bool[Tensor, "batch prompt"]


def grid_turns(
    rows: int, columns: int, head_dim: int, device: torch.device
) -> Complex[Tensor, "seq pairs"]:
    """The turn of every channel pair at every place of a grid, row by row.

    Pairs take turns, one by the row and one by the column, at frequencies that fall together:
    row * f0, column * f0, row * f1, column * f1, ... with f_i = 10000^(-4i / head_dim).
    """
    exponents = torch.arange(0, head_dim, 4, device=device, dtype=torch.float32) / head_dim
    frequencies = 1.0 / ROPE_THETA**exponents
    by_row = torch.outer(torch.arange(rows, device=device).float(), frequencies)
    by_column = torch.outer(torch.arange(columns, device=device).float(), frequencies)
    angles = torch.stack(
        [
            by_row[:, None].expand(rows, columns, -1),
            by_column[None].expand(rows, columns, -1),
        ],
        dim=-1,
    ).reshape(rows * columns, head_dim // 2)
    return torch.polar(torch.ones_like(angles), angles)


def softmax_scale(num_tokens: int, head_dim: int, base_tokens: int | None) -> float:
    """Scale of self-attention: the usual one, or sharper the more tokens there are.

    Args:
        num_tokens: of the image being drawn.
        head_dim: channels of a head.
        base_tokens: number of tokens whose scale stays the usual one; None: all.
    """
    growth = 1.0 if base_tokens is None else math.log(num_tokens, base_tokens)
    return math.sqrt(growth / head_dim)


class DiTAttention(nn.Module):
    """Self-attention and two gated cross-attentions with one query and one output map."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.hidden_size, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.image_k_proj = nn.Linear(width, kv_width, bias=False)
        self.image_v_proj = nn.Linear(width, kv_width, bias=False)
        self.text_k_proj = nn.Linear(config.prompt_width, kv_width, bias=False)
        self.text_v_proj = nn.Linear(config.prompt_width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.LayerNorm(width)
        self.k_norm = nn.LayerNorm(kv_width)
        self.image_k_norm = nn.LayerNorm(kv_width)
        self.text_k_norm = nn.LayerNorm(kv_width)
        self.image_gate = nn.Parameter(torch.zeros(config.num_heads))
        self.text_gate = nn.Parameter(torch.zeros(config.num_heads))

    def forward(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        image: Float[Tensor, "batch kept hidden"],
        prompt: Float[Tensor, "batch prompt prompt_width"],
        shared: AttentionInput,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Mix what the image itself, its source and the prompt have to say to every token."""
        queries = turned(self._heads(self.q_norm(self.q_proj(hidden))), shared.turn)
        keys = turned(self._heads(self.k_norm(self.k_proj(hidden))), shared.turn)
        own = _attend(queries, keys, self._heads(self.v_proj(hidden)), scale=shared.scale)
        from_image = _attend(
            queries,
            self._heads(self.image_k_norm(self.image_k_proj(image))),
            self._heads(self.image_v_proj(image)),
        )
        from_text = _attend(
            queries,
            self._heads(self.text_k_norm(self.text_k_proj(prompt))),
            self._heads(self.text_v_proj(prompt)),
            mask=shared.prompt_mask[:, None, None],
        )
        mixed = (
            own
            + from_image * self.image_gate.tanh()[:, None, None]
            + from_text * self.text_gate.tanh()[:, None, None]
        )
        output: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return output

    def _heads(
        self, states: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch heads tokens head_dim"]:
        return torch.unflatten(states, -1, (-1, self.head_dim)).transpose(1, 2)


def turned(
    heads: Float[Tensor, "batch heads seq head_dim"], turn: Complex[Tensor, "seq pairs"]
) -> Float[Tensor, "batch heads seq head_dim"]:
    """Turn neighbouring channels, in pairs; in float32, whatever the dtype."""
    pairs = torch.view_as_complex(torch.unflatten(heads.float(), -1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(heads.dtype)


def _attend(
    queries: Float[Tensor, "batch heads seq head_dim"],
    keys: Float[Tensor, "batch kv_heads tokens head_dim"],
    values: Float[Tensor, "batch kv_heads tokens head_dim"],
    *,
    mask: Bool[Tensor, "batch 1 1 tokens"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch heads seq head_dim"]:
    """Everyone sees everyone, but for the mask; a group of query heads shares a key head."""
    return functional.scaled_dot_product_attention(
        queries, keys, values, mask, scale=scale, enable_gqa=True
    )
