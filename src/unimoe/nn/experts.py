"""Expert networks: every expert computes its own rows and nothing else.

In:  hidden [tokens, hidden], mask and weights [tokens, experts], stacked SwiGLU matrices.
Out: [tokens, hidden], the weighted sum over each token's experts, added up in float32.
Tokens are sorted by expert once; an expert is one product over its rows, without padding; a token
without an expert costs nothing.  On CPU the products are a loop over the experts present, with a
hand-written gradient; in bf16 on a GPU they are one grouped product, free of host syncs per expert.
Axes: routed = experts, rows = (token, expert) pairs sorted by expert, double = gate and up halves.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


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
    if len(hidden) == 1 and not (hidden.is_cuda or torch.is_grad_enabled()):
        return _one_token(hidden, mask, weights, gate_up, down)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, gate_up, down = hidden.to(dtype), gate_up.to(dtype), down.to(dtype)
    plan = dispatch(mask)
    gates = weights[plan.tokens, plan.experts].to(hidden.dtype)
    if _has_grouped_products(hidden):
        return grouped_experts(hidden, plan, gates, gate_up, down)
    with torch.autocast(device, enabled=False):  # the backward pass would not see it
        output: Tensor = _LoopedExperts.apply(  # type: ignore[no-untyped-call]
            hidden, gates, gate_up, down, plan.tokens, plan.counts.tolist()
        )
    return output


def _has_grouped_products(hidden: Tensor) -> bool:
    """Whether torch can multiply all experts at once here: bf16 on a GPU of compute 8.0 or more."""
    return (
        hidden.is_cuda
        and hidden.dtype == torch.bfloat16
        and hasattr(functional, "grouped_mm")
        and torch.cuda.get_device_capability(hidden.device) >= (8, 0)
    )


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


def _one_token(
    hidden: Tensor, mask: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """A decode step: no rows to sort, so the experts it takes are run one after the other."""
    total = torch.zeros_like(hidden, dtype=_sum_dtype(hidden))
    for expert in mask[0].nonzero().flatten().tolist():
        inner = swiglu(functional.linear(hidden, gate_up[expert]))
        output = functional.linear(inner, down[expert])
        total += output.to(total.dtype) * weights[:, expert, None].to(total.dtype)
    return total.to(hidden.dtype)


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
        counts: list[int],
    ) -> Tensor:
        rows = hidden.index_select(0, tokens)
        boths, outputs = [], [rows[:0]]
        for expert, part in _parts(rows, counts):
            both = functional.linear(part, gate_up[expert])
            boths.append(both)
            outputs.append(functional.linear(swiglu(both), down[expert]))
        output = torch.cat(outputs)
        ctx.save_for_backward(hidden, gates, gate_up, down, tokens, output, *boths)
        ctx.counts = counts
        return _combine(output, gates, tokens, hidden)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, gate_up, down, tokens, output, *boths = ctx.saved_tensors
        counts, (_, _, wants_gate_up, wants_down, *_) = ctx.counts, ctx.needs_input_grad
        of_row = gradients[0].index_select(0, tokens)  # [rows, hidden]
        precise = _sum_dtype(of_row)
        of_gate = (of_row.to(precise) * output.to(precise)).sum(-1).to(gates.dtype)
        of_output = of_row * gates[:, None]
        of_gate_up = _zero_where_absent(gate_up, counts) if wants_gate_up else None
        of_down = _zero_where_absent(down, counts) if wants_down else None
        rows = dict(_parts(hidden.index_select(0, tokens), counts))
        of_rows = dict(_parts(of_row, counts))  # views, overwritten expert by expert
        for (expert, of_part), both in zip(_parts(of_output, counts), boths, strict=True):
            inner, of_both = swiglu_again(both, of_part @ down[expert])
            if of_down is not None:
                torch.mm(of_part.t(), inner, out=of_down[expert])
            if of_gate_up is not None:
                torch.mm(of_both.t(), rows[expert], out=of_gate_up[expert])
            torch.mm(of_both, gate_up[expert], out=of_rows[expert])
        return _sum_rows(of_row, tokens, hidden), of_gate, of_gate_up, of_down, None, None


def _parts(rows: Tensor, counts: list[int]) -> Iterator[tuple[int, Tensor]]:
    """(expert, its rows) of every expert that has any."""
    return ((e, part) for e, part in enumerate(torch.split(rows, counts)) if len(part))


def swiglu(both: Tensor) -> Tensor:
    """silu(gate) * up of gate and up side by side, in new memory."""
    gate, up = both.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def swiglu_again(both: Tensor, of_inner: Tensor) -> tuple[Tensor, Tensor]:
    """silu(gate) * up once more, and its gradient in gate and up side by side.

    `of_inner` is used up.
    """
    gate, up = both.chunk(2, dim=-1)
    of_both = torch.empty_like(both)
    of_gate, of_up = of_both.chunk(2, dim=-1)
    activated = functional.silu(gate)
    torch.mul(of_inner, activated, out=of_up)
    torch.ops.aten.silu_backward.grad_input(of_inner.mul_(up), gate, grad_input=of_gate)
    return activated.mul_(up), of_both


def _zero_where_absent(weight: Tensor, counts: list[int]) -> Tensor:
    """Room for a stacked gradient; an expert without rows has a zero one."""
    gradient = torch.empty_like(weight)
    for expert, count in enumerate(counts):
        if count == 0:
            gradient[expert].zero_()
    return gradient
