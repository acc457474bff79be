"""Dynamic-capacity MoE: a feed-forward block whose tokens take as many experts as they need.

In:  hidden [batch, seq, hidden], after the norm.  Out: the same shape, and the routing.
Routed experts are chosen by top-p, null experts among them return zero for free, small shared
experts always run.  Source: paper section 2.3.2, algorithm 1 (docs/sources.md#moe).
Axes: routed / shared = experts, double = gate and up halves of a SwiGLU expert, inner = its width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import MoEConfig
from unimoe.nn.deltas import DeltaExperts
from unimoe.nn.experts import routed_experts, shared_experts
from unimoe.nn.router import RouterDraws, Routing, draw, route


class MoEOutput(NamedTuple):
    """Result of one MoE layer."""

    hidden: Float[Tensor, "batch seq hidden"]
    routing: Routing


class DynamicMoE(nn.Module):
    """Router, routed experts, null experts without any substance, shared experts."""

    def __init__(self, hidden_size: int, config: MoEConfig) -> None:
        super().__init__()
        self.config = config
        router = config.router
        self.router = nn.Linear(hidden_size, router.num_columns, bias=False)
        self.deltas = None if config.delta_rank is None else DeltaExperts(hidden_size, config)
        if self.deltas is not None:
            return
        self.routed_gate_up = _matrices(router.num_routed, 2 * config.routed_width, hidden_size)
        self.routed_down = _matrices(router.num_routed, hidden_size, config.routed_width)
        self.shared_gate_up = _matrices(router.num_shared, 2 * config.shared_width, hidden_size)
        self.shared_down = _matrices(router.num_shared, hidden_size, config.shared_width)

    def forward(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        *,
        token_mask: Bool[Tensor, "batch seq"] | None = None,
        top_p: float | None = None,
        draws: RouterDraws | None = None,
    ) -> MoEOutput:
        """Route every token and add up its experts.

        Args:
            hidden: activations.
            token_mask: False on padding, which takes the shared experts only.
            top_p: replaces the configured threshold for this call.
            draws: random numbers of an earlier training forward, to repeat it; None draws anew.

        Raises:
            RequestError: `top_p` outside (0, 1].
        """
        router = self.config.router
        tokens = hidden.flatten(0, 1)
        if self.training and draws is None and self._is_random():
            draws = draw(len(tokens), router, hidden.device, hidden.shape[-1])
        expert_input, logits = self._logits(tokens, draws)
        routing = route(
            logits,
            router,
            token_mask=None if token_mask is None else token_mask.flatten(),
            top_p=top_p,
            draws=draws if router.gate_gradient == "sampled" else None,
        )
        weights = routing.weights.to(hidden.dtype)
        if self.deltas is not None:
            output = self.deltas(expert_input, routing.mask, weights)
            return MoEOutput(output.view_as(hidden), routing)
        routed = slice(0, router.num_routed)
        output = routed_experts(
            expert_input,
            routing.mask[:, routed],
            weights[:, routed],
            self.routed_gate_up,
            self.routed_down,
        )
        if router.num_shared:
            shared = weights[:, router.num_dynamic :]
            output = shared_experts(
                expert_input, shared, self.shared_gate_up, self.shared_down, output
            )
        return MoEOutput(output.view_as(hidden), routing)

    def _is_random(self) -> bool:
        router = self.config.router
        return router.gate_gradient == "sampled" or router.input_jitter > 0

    def _logits(self, tokens: Tensor, draws: RouterDraws | None) -> tuple[Tensor, Tensor]:
        """What the experts read, and the router logits."""
        router = self.config.router
        seen, matrix = tokens, self.router.weight
        if self.training and router.fp32_in_training:
            seen, matrix = tokens.float(), matrix.float()
        if draws is not None and draws.input_jitter is not None:
            seen = seen * draws.input_jitter.to(seen.dtype)
            # The release jitters in place: a float32 input reaches its experts jittered too.
            if router.rule == "released" and seen.dtype == tokens.dtype:
                tokens = seen
        # A router kept in float32 beside a bf16 core decides in float32.
        return tokens, functional.linear(seen.to(matrix.dtype), matrix)


def _matrices(num_experts: int, rows: int, columns: int) -> nn.Parameter:
    """Stacked linear maps, uniform within 1 / sqrt(columns) as torch's own linear layers."""
    stacked = torch.empty(num_experts, rows, columns)
    return nn.Parameter(nn.init.uniform_(stacked, -(columns**-0.5), columns**-0.5))
