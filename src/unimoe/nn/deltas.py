"""Experts that share one dense block and differ from it by low-rank deltas.

In:  hidden [tokens, hidden], mask and weights [tokens, columns], columns = routed | null | shared.
Out: [tokens, hidden], the weighted sum over each token's experts.
An expert's matrix is W + out @ in, so the products with W are shared by all experts of a token:

    gate, up = W x + out_e (in_e x)              W x once a token
    sum_e w_e (D + out_e in_e) inner_e  =  D (sum_e w_e inner_e)  +  sum_e out_e (in_e w_e inner_e)

However many experts it takes, a token costs one dense block and a few thin products. A shared
expert is a slice of the block's channels; a token with null experts alone pays for those only,
unless a gradient is wanted: then one pass over all tokens is cheaper.
Axes: routed / shared = experts, double = gate and up halves, inner = width of the dense block.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unimoe.config import MoEConfig
from unimoe.nn.experts import swiglu, swiglu_again
from unimoe.nn.layers import SwiGLU

# On CPU a bf16 product of a new shape is first compiled, which costs more than a thin one: 0.5 ms.
_ROWS_MULTIPLE = 64


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


class _Rows(NamedTuple):
    """The tokens of one expert."""

    places: Int[Tensor, " rows"] | None
    """None: all of them."""

    def of(self, values: Tensor) -> Tensor:
        return values if self.places is None else values.index_select(0, self.places)

    def add_(self, total: Tensor, values: Tensor) -> Tensor:
        if self.places is None:
            return total.add_(values)
        return total.index_add_(0, self.places, values)


class _Mixed(NamedTuple):
    """All experts of every token."""

    inner: Float[Tensor, "tokens inner"]
    """Weighted sum, still to be multiplied by the block's down matrix."""
    extra: Float[Tensor, "tokens hidden"]
    """What the deltas add to the output."""


class _Part(NamedTuple):
    """What one expert computes."""

    column: int
    rows: _Rows
    channels: slice
    """Of the block."""


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
        mask, shared = mask[:, :num_routed], weights[:, weights.shape[1] - num_shared :]
        gates = torch.cat([weights[:, :num_routed] * mask, shared], dim=1)
        takes_routed = mask.any(1)
        num_taking = int(takes_routed.sum())
        # A gradient of two kinds of tokens costs more than the products that it spares.
        if num_taking == len(mask) or (num_taking and torch.is_grad_enabled()):
            return self._whole(hidden, mask, gates)
        output = torch.zeros_like(hidden)
        if num_taking:
            places = takes_routed.nonzero().flatten()
            output[places] = self._whole(hidden[places], mask[places], gates[places])
        if num_shared:
            places = takes_routed.logical_not().nonzero().flatten()
            output = output.index_put((places,), self._shared_alone(hidden[places], shared[places]))
        return output

    def _whole(
        self,
        hidden: Float[Tensor, "tokens hidden"],
        mask: Bool[Tensor, "tokens routed"],
        gates: Float[Tensor, "tokens experts"],
    ) -> Float[Tensor, "tokens hidden"]:
        """Routed and shared experts; gates are zero for tokens that do not take one."""
        products = self.base.gate_up_proj(hidden).view(-1, 2, self.base.down_proj.in_features)
        parts = [_Part(expert, rows, slice(None)) for expert, rows in _takers(mask)]
        parts += self._shared_parts(mask.shape[1])
        inner, extra = _mixed(hidden, products, gates, parts, [self.routed, self.shared])
        whole: Tensor = self.base.down_proj(inner)
        return whole + extra

    def _shared_alone(
        self, hidden: Float[Tensor, "tokens hidden"], gates: Float[Tensor, "tokens shared"]
    ) -> Float[Tensor, "tokens hidden"]:
        """Shared experts, by their channels of the block and no others."""
        width = self.shared_width * gates.shape[1]
        gate, up = self.base.gate_up_proj.weight.chunk(2)
        products = functional.linear(hidden, torch.cat([gate[:width], up[:width]]))
        products = products.view(-1, 2, width)
        inner, extra = _mixed(hidden, products, gates, self._shared_parts(0), [self.shared])
        return functional.linear(inner, self.base.down_proj.weight[:, :width]) + extra

    def _shared_parts(self, before: int) -> list[_Part]:
        width = self.shared_width
        return [
            _Part(before + expert, _Rows(None), slice(expert * width, (expert + 1) * width))
            for expert in range(len(self.shared.down_in))
        ]


def _takers(mask: Bool[Tensor, "tokens routed"]) -> Iterator[tuple[int, _Rows]]:
    """(expert, its tokens) of every expert that has any; others, of gate zero, fill its rows up."""
    for expert, count in enumerate(mask.sum(0).tolist()):
        size = -(-count // _ROWS_MULTIPLE) * _ROWS_MULTIPLE
        if size >= len(mask):
            yield expert, _Rows(None)
        elif count:
            order = mask[:, expert].byte().sort(descending=True, stable=True).indices
            yield expert, _Rows(order[:size])


def _mixed(
    hidden: Float[Tensor, "tokens hidden"],
    products: Float[Tensor, "tokens 2 inner"],
    gates: Float[Tensor, "tokens experts"],
    parts: list[_Part],
    deltas: list[LowRank],
) -> _Mixed:
    """Add up the experts; each reads and writes its own channels of the block's products."""
    # Deltas may be kept in float32 beside a bf16 block: they are what learns.
    dtype = products.dtype
    gate_up_in = torch.cat([delta.gate_up_in for delta in deltas]).to(dtype)
    down_out = torch.cat([delta.down_out for delta in deltas]).to(dtype)
    gate_up_out = [one for delta in deltas for one in delta.gate_up_out.to(dtype).unbind()]
    down_in = [one for delta in deltas for one in delta.down_in.to(dtype).unbind()]
    thin = functional.linear(hidden, gate_up_in.flatten(0, 1))
    inner, thin = _Inner.apply(  # type: ignore[no-untyped-call]
        products,
        thin.view(-1, *gate_up_in.shape[:2]),
        gates.to(dtype),
        parts,
        *(gate_up_out[part.column] for part in parts),
        *(down_in[part.column] for part in parts),
    )
    # All experts side by side make one product.
    extra = functional.linear(thin.flatten(1), down_out.transpose(0, 1).flatten(1))
    return _Mixed(inner, extra)


class _Inner(torch.autograd.Function):
    """Experts from the block's products to its weighted inner channels, their deltas added.

    Autograd's own slices and gathers would fill a whole zero gradient per expert; this adds all
    of them to one, and recomputes the cheap activation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        products: Tensor,  # [tokens, 2, inner]
        thin: Tensor,  # [tokens, experts, rank]
        gates: Tensor,  # [tokens, experts]
        parts: list[_Part],
        *matrices: Tensor,
    ) -> tuple[Tensor, Tensor]:
        total, thin_inner, boths = _added_up(products, thin, gates, parts, matrices)
        ctx.save_for_backward(thin, gates, *boths, *matrices)
        ctx.parts = parts
        return total, thin_inner

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_total, of_thin_inner = gradients
        thin, gates, *saved = ctx.saved_tensors
        parts, of_outs, of_ins = ctx.parts, [], []
        boths, matrices = saved[: len(parts)], saved[len(parts) :]
        of_thin, of_gates = torch.zeros_like(thin), torch.zeros_like(gates)
        of_products = of_total.new_zeros(len(of_total), 2, of_total.shape[1])
        for both, (part, gate_up_out, down_in) in zip(
            boths, _with_matrices(parts, matrices), strict=True
        ):
            column, rows, channels = part
            gate, of_own = rows.of(gates[:, column, None]), rows.of(of_thin_inner[:, column])
            of_weighted = torch.addmm(rows.of(of_total[:, channels]), of_own, down_in)
            inner, of_both = swiglu_again(both, of_weighted * gate)
            of_ins.append((of_own * gate).t() @ inner)
            of_outs.append(of_both.t() @ rows.of(thin[:, column]))
            rows.add_(of_gates[:, column], of_weighted.mul_(inner).sum(1))
            rows.add_(of_thin[:, column], of_both @ gate_up_out)
            rows.add_(of_products[:, :, channels], of_both.view(len(both), 2, -1))
        return of_products, of_thin, of_gates, None, *of_outs, *of_ins


def _added_up(
    products: Tensor, thin: Tensor, gates: Tensor, parts: list[_Part], matrices: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(weighted inner channels, their thin products, gate and up of every part)."""
    total, thin_inner, boths = torch.zeros_like(products[:, 0]), torch.zeros_like(thin), []
    for part, gate_up_out, down_in in _with_matrices(parts, matrices):
        column, rows, channels = part
        own = rows.of(products)[:, :, channels].flatten(1)
        both = functional.linear(rows.of(thin[:, column]), gate_up_out).add_(own)
        inner = swiglu(both).mul_(rows.of(gates[:, column, None]))
        rows.add_(total[:, channels], inner)
        rows.add_(thin_inner[:, column], inner @ down_in.t())
        boths.append(both)
    return total, thin_inner, boths


def _with_matrices(
    parts: list[_Part], matrices: Sequence[Tensor]
) -> Iterator[tuple[_Part, Tensor, Tensor]]:
    """(part, its gate_up_out, its down_in)."""
    return zip(parts, matrices[: len(parts)], matrices[len(parts) :], strict=True)
