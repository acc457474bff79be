"""Expert networks: every expert computes its own rows and nothing else.

In:  hidden [tokens, hidden], mask and weights [tokens, experts], stacked SwiGLU matrices.
Out: [tokens, hidden], the weighted sum over each token's experts, added up in float32.
Tokens are sorted by expert once; an expert is one product over its rows, without padding; a token
without an expert costs nothing.  On CPU the products are a loop over the experts present, with a
hand-written gradient; on CUDA one grouped product, free of host syncs per expert.
Axes: routed = experts, rows = (token, expert) pairs sorted by expert, double = gate and up halves.
"""

from itertools import accumulate
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
    gates = weights[plan.tokens, plan.experts]
    if hidden.is_cuda:
        return grouped_experts(hidden, plan, gates, gate_up, down)
    spans = _spans(plan.counts.tolist())
    output: Tensor = _LoopedExperts.apply(  # type: ignore[no-untyped-call]
        hidden, gates, gate_up, down, plan.tokens, spans
    )
    return output


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


def grouped_experts(
    hidden: Float[Tensor, "tokens hidden"],
    plan: Dispatch,
    gates: Float[Tensor, " rows"],
    gate_up: Float[Tensor, "routed double hidden"],
    down: Float[Tensor, "routed hidden inner"],
) -> Float[Tensor, "tokens hidden"]:
    """The routed sum as two grouped products; the experts' borders stay on the device."""
    ends = plan.counts.cumsum(0, dtype=torch.int32)
    rows = hidden.index_select(0, plan.tokens)
    gate, up = functional.grouped_mm(rows, gate_up.mT, offs=ends).chunk(2, dim=-1)
    outputs = functional.grouped_mm(functional.silu(gate) * up, down.mT, offs=ends)
    return _combine(outputs, gates, plan.tokens, hidden)


def _combine(outputs: Tensor, gates: Tensor, tokens: Tensor, like: Tensor) -> Tensor:
    precise = _sum_dtype(outputs)
    return _sum_rows(outputs.to(precise) * gates[:, None].to(precise), tokens, like)


def _sum_rows(rows: Tensor, tokens: Tensor, like: Tensor) -> Tensor:
    """Rows added up under their tokens, rounded once to the dtype of `like`."""
    total = torch.zeros(like.shape, dtype=_sum_dtype(rows), device=like.device)
    return total.index_add_(0, tokens, rows.to(total.dtype)).to(like.dtype)


def _sum_dtype(values: Tensor) -> torch.dtype:
    # bf16 sums of several experts would round at every step
    return torch.promote_types(values.dtype, torch.float32)


def _spans(counts: list[int]) -> list[Span]:
    """(expert, first row, end) of every expert that has rows."""
    ends = list(accumulate(counts))
    return [(e, end - n, end) for e, (n, end) in enumerate(zip(counts, ends, strict=True)) if n]


class _LoopedExperts(torch.autograd.Function):
    """Gather, SwiGLU of every expert over its rows, weighted sum; one product an expert.

    Autograd's own slices of a stacked matrix would fill a whole zero gradient per expert and copy
    both halves; this writes each expert's gradient once and recomputes the cheap activation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        gates: Tensor,
        gate_up: Tensor,
        down: Tensor,
        tokens: Tensor,
        spans: list[Span],
    ) -> Tensor:
        rows = hidden.index_select(0, tokens)
        both = rows.new_empty(len(rows), gate_up.shape[1])
        for expert, start, end in spans:
            torch.mm(rows[start:end], gate_up[expert].t(), out=both[start:end])
        inner = _swiglu(both)
        outputs = torch.empty_like(rows)
        for expert, start, end in spans:
            torch.mm(inner[start:end], down[expert].t(), out=outputs[start:end])
        ctx.save_for_backward(hidden, gates, gate_up, down, tokens, both, outputs)
        ctx.spans = spans
        return _combine(outputs, gates, tokens, hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, gate_up, down, tokens, both, outputs = ctx.saved_tensors
        spans, (_, _, wants_gate_up, wants_down, *_) = ctx.spans, ctx.needs_input_grad
        of_row = gradients[0].index_select(0, tokens)  # [rows, hidden]
        precise = _sum_dtype(of_row)
        of_gate = (of_row.to(precise) * outputs.to(precise)).sum(-1).to(gates.dtype)
        of_output = of_row * gates[:, None]
        of_inner = both.new_empty(len(of_row), down.shape[2])
        for expert, start, end in spans:
            torch.mm(of_output[start:end], down[expert], out=of_inner[start:end])
        of_down = _weight_gradient(of_output, _swiglu(both), down, spans) if wants_down else None
        of_both = _swiglu_gradient(both, of_inner)
        for expert, start, end in spans:
            torch.mm(of_both[start:end], gate_up[expert], out=of_row[start:end])
        of_gate_up = None
        if wants_gate_up:
            rows = hidden.index_select(0, tokens)
            of_gate_up = _weight_gradient(of_both, rows, gate_up, spans)
        of_hidden = _sum_rows(of_row, tokens, hidden)
        return of_hidden, of_gate, of_gate_up, of_down, None, None


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
