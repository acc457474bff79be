"""Expert networks: every expert computes its own rows and nothing else.

In:  hidden [tokens, hidden], mask and weights [tokens, experts], stacked SwiGLU matrices.
Out: [tokens, hidden], the weighted sum over each token's experts, added up in float32.
Tokens are sorted by expert once; an expert is one product over its rows, without padding; a token
without an expert costs nothing.  On CPU the products are a loop over the experts present, with a
hand-written gradient; on CUDA one grouped product, free of host syncs per expert.
Axes: routed = experts, rows = (token, expert) pairs sorted by expert, double = gate and up halves.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

Span = tuple[int, int, int]


class Dispatch(NamedTuple):
    """(token, expert) pairs sorted by expert."""

    tokens: Int[Tensor, " rows"]
    experts: Int[Tensor, " rows"]
    counts: Int[Tensor, " routed"]


def dispatch(mask: Bool[Tensor, "tokens routed"]) -> Dispatch:
    """Sort the selected pairs by expert, tokens in order within each."""
    experts, tokens = mask.t().nonzero(as_tuple=True)
    return Dispatch(tokens, experts, mask.sum(0))


def routed_experts(
    hidden: Float[Tensor, "tokens hidden"],
    mask: Bool[Tensor, "tokens routed"],
    weights: Float[Tensor, "tokens routed"],
    gate_up: Float[Tensor, "routed double hidden"],
    down: Float[Tensor, "routed hidden inner"],
) -> Float[Tensor, "tokens hidden"]:
    """Weighted sum of the routed experts each token selected; zero for a token without any."""
    plan = dispatch(mask)
    rows = _grouped_rows if hidden.is_cuda else _looped_rows
    outputs = rows(hidden.index_select(0, plan.tokens), plan.counts, gate_up, down)
    gates = weights[plan.tokens, plan.experts]
    # float32: several experts add up before the one rounding to the model's dtype
    scaled = outputs.float() * gates[:, None].float()
    total = scaled.new_zeros(hidden.shape).index_add_(0, plan.tokens, scaled)
    return total.to(hidden.dtype)


def shared_experts(
    hidden: Float[Tensor, "tokens hidden"],
    weights: Float[Tensor, "tokens shared"],
    gate_up: Float[Tensor, "shared double hidden"],
    down: Float[Tensor, "shared hidden inner"],
    routed: Float[Tensor, "tokens hidden"],
) -> Float[Tensor, "tokens hidden"]:
    """Add every shared expert to the routed sum, one after the other as released."""
    num_shared, double, _ = gate_up.shape
    both = functional.linear(hidden, gate_up.flatten(0, 1)).view(-1, num_shared, double)
    gate, up = both.chunk(2, dim=-1)
    inner = functional.silu(gate) * up  # [tokens, shared, inner]
    total = routed
    for expert, matrix in enumerate(down.unbind(0)):
        output = functional.linear(inner[:, expert], matrix)
        total = total + output * weights[:, expert, None]
    return total


def _looped_rows(rows: Tensor, counts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU of every row by its expert: one product an expert, over the experts present."""
    spans: list[Span] = []
    start = 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            spans.append((expert, start, start + count))
        start += count
    output: Tensor = _SwiGLURows.apply(rows, gate_up, down, spans)  # type: ignore[no-untyped-call]
    return output


def _grouped_rows(rows: Tensor, counts: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The same as two grouped products; expert borders stay on the device."""
    ends = counts.cumsum(0, dtype=torch.int32)
    gate, up = functional.grouped_mm(rows, gate_up.mT, offs=ends).chunk(2, dim=-1)
    output: Tensor = functional.grouped_mm(functional.silu(gate) * up, down.mT, offs=ends)
    return output


class _SwiGLURows(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)) over spans of rows, gradients written straight into place.

    Autograd's own slices of a stacked matrix would fill a whole zero gradient per expert and copy
    every half; this writes each expert's gradient once and recomputes the cheap activation.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gate_up: Tensor, down: Tensor, spans: list[Span]) -> Tensor:
        both = rows.new_empty(len(rows), gate_up.shape[1])
        for expert, start, end in spans:
            torch.mm(rows[start:end], gate_up[expert].t(), out=both[start:end])
        inner = _swiglu(both)
        output = torch.empty_like(rows)
        for expert, start, end in spans:
            torch.mm(inner[start:end], down[expert].t(), out=output[start:end])
        ctx.save_for_backward(rows, gate_up, down, both)
        ctx.spans = spans
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, gate_up, down, both = ctx.saved_tensors
        (output_gradient,) = gradients
        output_gradient = output_gradient.contiguous()
        inner_gradient = rows.new_empty(len(rows), down.shape[2])
        for expert, start, end in ctx.spans:
            torch.mm(output_gradient[start:end], down[expert], out=inner_gradient[start:end])
        down_gradient = (
            _weight_gradient(output_gradient, _swiglu(both), down, ctx.spans)
            if ctx.needs_input_grad[2]
            else None
        )
        both_gradient = _swiglu_gradient(both, inner_gradient)
        rows_gradient = torch.empty_like(rows)
        for expert, start, end in ctx.spans:
            torch.mm(both_gradient[start:end], gate_up[expert], out=rows_gradient[start:end])
        gate_up_gradient = (
            _weight_gradient(both_gradient, rows, gate_up, ctx.spans)
            if ctx.needs_input_grad[1]
            else None
        )
        return rows_gradient, gate_up_gradient, down_gradient, None


def _swiglu(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def _swiglu_gradient(both: Tensor, inner_gradient: Tensor) -> Tensor:
    """Gradient of silu(gate) * up in (gate, up), side by side; uses up `inner_gradient`."""
    gate, up = both.chunk(2, dim=-1)
    result = torch.empty_like(both)
    gate_gradient, up_gradient = result.chunk(2, dim=-1)
    torch.mul(inner_gradient, functional.silu(gate), out=up_gradient)
    gate_gradient.copy_(torch.ops.aten.silu_backward(inner_gradient.mul_(up), gate))
    return result


def _weight_gradient(outputs: Tensor, inputs: Tensor, weight: Tensor, spans: list[Span]) -> Tensor:
    """outputsᵀ inputs of every expert's rows; zero for an expert that had none."""
    gradient = torch.empty_like(weight)
    absent = set(range(len(weight))) - {expert for expert, _, _ in spans}
    for expert in absent:
        gradient[expert].zero_()
    for expert, start, end in spans:
        torch.mm(outputs[start:end].t(), inputs[start:end], out=gradient[expert])
    return gradient
