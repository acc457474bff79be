"""Experts that share one dense block and differ from it by low-rank deltas.

In:  hidden [tokens, hidden], mask and weights [tokens, columns], columns = routed | null | shared.
Out: [tokens, hidden], the weighted sum over each token's experts.
An expert's matrix is W + out @ in, so the products with W are shared by all experts of a token:

    gate, up = W x + out_e (in_e x)              W x once a token
    sum_e w_e (D + out_e in_e) inner_e  =  D (sum_e w_e inner_e)  +  sum_e out_e (in_e w_e inner_e)

However many experts it takes, a token costs one dense block and a few thin products. A shared
expert is a slice of the block's channels; a token with null experts alone pays for those only.
Axes: routed / shared = experts, double = gate and up halves, inner = width of the dense block.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import MoEConfig
from unimoe.nn.layers import SwiGLU, thin


class LowRank(nn.Module):
    """Deltas of a SwiGLU block for several experts; new ones are zero."""

    def __init__(self, num_experts: int, hidden_size: int, width: int, rank: int) -> None:
        super().__init__()
        self.gate_up_in = nn.Parameter(torch.empty(num_experts, rank, hidden_size))
        self.gate_up_out = nn.Parameter(torch.zeros(num_experts, 2 * width, rank))
        self.down_in = nn.Parameter(torch.empty(num_experts, rank, width))
        self.down_out = nn.Parameter(torch.zeros(num_experts, hidden_size, rank))
        for matrix in (self.gate_up_in, self.down_in):
            nn.init.normal_(matrix, std=matrix.shape[-1] ** -0.5)

    def gate_up(
        self, hidden: Float[Tensor, "rows hidden"], expert: int
    ) -> Float[Tensor, "rows double"]:
        """What an expert adds to gate and up."""
        return thin(hidden, self.gate_up_in[expert], self.gate_up_out[expert])

    def down(self, inner: Float[Tensor, "rows inner"], expert: int) -> Float[Tensor, "rows hidden"]:
        """What an expert adds to the output."""
        return thin(inner, self.down_in[expert], self.down_out[expert])


class _Rows(NamedTuple):
    """The tokens of one expert."""

    places: Int[Tensor, " rows"] | None
    """None: all of them."""

    def of(self, values: Tensor) -> Tensor:
        return values if self.places is None else values.index_select(0, self.places)

    def add(self, total: Tensor, values: Tensor) -> Tensor:
        return total + values if self.places is None else total.index_add(0, self.places, values)


class DeltaExperts(nn.Module):
    """The dense block, and the deltas of routed and shared experts."""

    def __init__(self, hidden_size: int, config: MoEConfig) -> None:
        super().__init__()
        assert config.delta_rank is not None  # the caller's choice
        router, rank = config.router, config.delta_rank
        self.shared_width = config.shared_width
        self.base = SwiGLU(hidden_size, config.routed_width)
        self.routed = LowRank(router.num_routed, hidden_size, config.routed_width, rank)
        self.shared = LowRank(router.num_shared, hidden_size, config.shared_width, rank)

    def forward(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        mask: Bool[Tensor, "tokens columns"],
        weights: Float[Tensor, "tokens columns"],
    ) -> Float[Tensor, "tokens hidden"]:
        """Weighted sum of every token's routed and shared experts."""
        num_routed, num_shared = len(self.routed.down_in), len(self.shared.down_in)
        counts = mask[:, :num_routed].sum(0).tolist()
        shared_weights = weights[:, weights.shape[1] - num_shared :]
        takes_routed = mask[:, :num_routed].any(1)
        some = _rows(takes_routed)
        if some.places is None:
            return self._whole(hidden, mask, weights, counts, shared_weights)
        output = torch.zeros_like(hidden)
        if len(some.places):
            rows, own_mask, own_weights = some.of(hidden), some.of(mask), some.of(weights)
            whole = self._whole(rows, own_mask, own_weights, counts, some.of(shared_weights))
            output = some.add(output, whole)
        if num_shared:
            others = _rows(~takes_routed)
            rows = others.of(hidden)
            products = self._shared_products(rows)
            inner, thin = self._shared_part(rows, products, others.of(shared_weights))
            output = others.add(output, thin + functional.linear(inner, self._shared_columns()))
        return output

    def _whole(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        mask: Bool[Tensor, "tokens columns"],
        weights: Float[Tensor, "tokens columns"],
        counts: list[int],
        shared_weights: Float[Tensor, "tokens shared"],
    ) -> Float[Tensor, "tokens hidden"]:
        """Tokens that all take some routed expert; shared ones come along if weights are given."""
        products = self.base.gate_up_proj(hidden)
        total: Tensor | None = None
        output = torch.zeros_like(hidden)
        for expert, count in enumerate(counts):
            if count == 0:
                continue
            rows = _Rows(None) if count == len(hidden) else _rows(mask[:, expert])
            inner = _swiglu(rows.of(products) + self.routed.gate_up(rows.of(hidden), expert))
            inner = inner * rows.of(weights)[:, expert, None]
            if total is None and rows.places is None:
                total = inner
            else:
                total = torch.zeros_like(products[:, : inner.shape[1]]) if total is None else total
                total = rows.add(total, inner)
            output = rows.add(output, self.routed.down(inner, expert))
        assert total is not None  # every token takes one
        if shared_weights.shape[1]:
            width = self.shared_width * shared_weights.shape[1]
            gate, up = products.chunk(2, dim=-1)
            both = torch.cat([gate[:, :width], up[:, :width]], dim=-1)
            shared, extra = self._shared_part(hidden, both, shared_weights)
            total = total + functional.pad(shared, (0, total.shape[1] - width))
            output = output + extra
        whole: Tensor = output + self.base.down_proj(total)
        return whole

    def _shared_part(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        products: Float[Tensor, "tokens shared_double"],
        weights: Float[Tensor, "tokens shared"],
    ) -> tuple[Float[Tensor, "tokens shared_inner"], Float[Tensor, "tokens hidden"]]:
        """Weighted inner channels of the shared experts side by side, and their thin outputs."""
        gates, ups = products.chunk(2, dim=-1)
        output = torch.zeros_like(hidden)
        inners = []
        for expert in range(weights.shape[1]):
            channels = slice(expert * self.shared_width, (expert + 1) * self.shared_width)
            both = torch.cat([gates[:, channels], ups[:, channels]], dim=-1)
            inner = _swiglu(both + self.shared.gate_up(hidden, expert))
            inner = inner * weights[:, expert, None]
            inners.append(inner)
            output = output + self.shared.down(inner, expert)
        return torch.cat(inners, dim=-1), output

    def _shared_products(
        self, hidden: Float[Tensor, "tokens hidden"]
    ) -> Float[Tensor, "tokens shared_double"]:
        """Gate and up of the shared channels alone."""
        gate, up = self.base.gate_up_proj.weight.chunk(2)
        width = self.shared_width * len(self.shared.down_in)
        return functional.linear(hidden, torch.cat([gate[:width], up[:width]]))

    def _shared_columns(self) -> Float[Tensor, "hidden shared_inner"]:
        width = self.shared_width * len(self.shared.down_in)
        return self.base.down_proj.weight[:, :width]


def _rows(chosen: Bool[Tensor, " tokens"]) -> _Rows:
    places = chosen.nonzero().flatten()
    return _Rows(None if len(places) == len(chosen) else places)


def _swiglu(both: Float[Tensor, "rows double"]) -> Float[Tensor, "rows inner"]:
    gate, up = both.chunk(2, dim=-1)
    return functional.silu(gate) * up
