"""Top-2 mixture of experts with a capacity: the feed-forward block of the talker.

In:  hidden [batch, seq, hidden], after the norm.  Out: the same shape.
Every token takes two experts in proportion to their probabilities; experts over capacity drop the
choices that come last.  An ordinary MoE, not the dynamic-capacity one of the language core.
Source: DeepSpeed's top-2 gating, as the release uses it (docs/sources.md#talker).
Axes: tokens = batch * seq, double = gate and up halves of an expert, inner = its width.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from unimoe.config import TalkerConfig
from unimoe.nn.experts import routed_experts
from unimoe.nn.router import Routing


class Top2MoE(nn.Module):
    """Gate and experts."""

    def __init__(self, config: TalkerConfig) -> None:
        super().__init__()
        experts, width, inner = config.num_experts, config.hidden_size, config.expert_width
        self.config = config
        self.gate = nn.Linear(width, experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * inner, width))
        self.down = nn.Parameter(torch.empty(experts, width, inner))
        for matrices in (self.gate_up, self.down):  # as torch's own linear layers
            bound = matrices.shape[-1] ** -0.5
            nn.init.uniform_(matrices, -bound, bound)

    def forward(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        *,
        capacity: int | None,
        noise: Float[Tensor, "tokens experts"] | None = None,
        is_real: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Route every token and add up its experts; arguments as of `route_top2`."""
        tokens = hidden.flatten(0, 1)
        # fp32 in every precision, as released: near ties flip the choice
        with torch.autocast(hidden.device.type, enabled=False):
            logits = functional.linear(tokens.float(), self.gate.weight.float())
        routing = route_top2(
            logits,
            capacity=capacity,
            noise=noise,
            is_real=None if is_real is None else is_real.flatten(),
        )
        # Experts have a gradient of their own, which autocast does not reach into.
        kind, dtype = hidden.device.type, hidden.dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        mixed = routed_experts(
            tokens.to(dtype),
            routing.mask,
            routing.weights.to(dtype),
            self.gate_up.to(dtype),
            self.down.to(dtype),
        )
        return mixed.view_as(hidden).to(hidden.dtype)


def route_top2(
    logits: Float[Tensor, "tokens experts"],
    *,
    capacity: int | None,
    noise: Float[Tensor, "tokens experts"] | None = None,
    is_real: Bool[Tensor, " tokens"] | None = None,
) -> Routing:
    """The two experts of every token, and their weights.

    An expert's places are taken by first choices in the order of the tokens, then by second ones.
    With a capacity of 1 and the choices (0, 1), (0, 1), (1, 0), in brackets what is dropped:

        token 0: 0 [1]     token 1: [0 1]     token 2: 1 [0]

    Args:
        logits: of the gate, float32.
        capacity: choices an expert keeps; None keeps all.
        noise: added to the logits before the second choice, not to the weights.
        is_real: False on padding, which takes no expert and no place; None: all tokens count.
    """
    probabilities = logits.softmax(-1)
    first = _one_hot(probabilities)
    noisy = logits if noise is None else logits + noise
    second = _one_hot(noisy.masked_fill(first, -torch.inf))
    if is_real is not None:
        first, second = first & is_real[:, None], second & is_real[:, None]
    selected = first | second
    if capacity is not None:
        seconds_before = first.sum(0) + second.cumsum(0)
        first = first & (first.cumsum(0) <= capacity)
        second = second & (seconds_before <= capacity)
    kept = probabilities * (first | second)
    smallest = torch.finfo(kept.dtype).eps
    weights = kept / kept.sum(-1, keepdim=True).clamp(min=smallest)
    return Routing(logits, selected.sum(-1), selected, first | second, weights)


def expert_capacity(num_tokens: int, config: TalkerConfig) -> int | None:
    """Choices an expert keeps of so many tokens with two each; None keeps all."""
    if config.capacity_factor is None:
        return None
    # in float32, as released: there the product is rounded before it is rounded up
    factor = torch.tensor(2 * config.capacity_factor, dtype=torch.float32)
    share = (num_tokens / config.num_experts * factor).ceil()
    return max(int(share), config.min_capacity)


def gumbel_noise(
    num_tokens: int, config: TalkerConfig, device: torch.device
) -> Float[Tensor, "layers tokens experts"]:
    """Fresh noise for every layer from torch's generator of that device."""
    exponential = torch.empty(config.num_layers, num_tokens, config.num_experts, device=device)
    return -exponential.exponential_().log()


def _one_hot(scores: Tensor) -> Tensor:
    """Where the largest score of every row stands."""
    best = scores.argmax(-1, keepdim=True)
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
