"""What a training step minimises: next-token cross entropy and the balance of the routers.

In:  hidden states [batch, seq, hidden], labels [batch, seq], routing of every layer.
Out: scalar losses in float32.
Source: released total loss (docs/sources.md#loss).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from unimoe.config import RouterConfig
from unimoe.nn.router import Routing, balance_loss, z_loss
from unimoe.tokens.labels import IGNORED


class OmniLoss(NamedTuple):
    """The parts, and their weighted sum."""

    total: Float[Tensor, ""]
    text: Float[Tensor, ""]
    """Mean over the labelled tokens; 0 when nothing is labelled."""
    balance: Float[Tensor, ""]
    """Mean over the MoE layers, before its weight; 0 when the core is dense."""
    z: Float[Tensor, ""]
    """Mean over the MoE layers, before its weight; 0 when that weight is 0 or the core dense."""


def text_loss(
    hidden_states: Float[Tensor, "batch seq hidden"],
    labels: Int[Tensor, "batch seq"],
    attention_mask: Int[Tensor, "batch seq"] | None,
    logits_of: Callable[[Tensor], Tensor],
) -> Float[Tensor, ""]:
    """Mean cross entropy of every labelled token, predicted from the one before it."""
    losses = token_losses(hidden_states, labels, scored_tokens(labels, attention_mask), logits_of)
    return losses.sum() / max(len(losses), 1)


def token_losses(
    hidden_states: Float[Tensor, "batch seq hidden"],
    labels: Int[Tensor, "batch seq"],
    is_scored: Bool[Tensor, "batch targets"],
    logits_of: Callable[[Tensor], Tensor],
) -> Float[Tensor, " scored"]:
    """Cross entropy of every scored token, row by row.

    Only the rows that predict something go through the head.
    """
    scores = logits_of(hidden_states[:, :-1][is_scored]).float()  # float32: bf16 sums drift
    return functional.cross_entropy(scores, labels[:, 1:][is_scored], reduction="none")


def mean_balance_loss(
    routing: Sequence[Routing],
    config: RouterConfig,
    attention_mask: Int[Tensor, "batch seq"] | None,
    aux_balance_weight: Float[Tensor, "batch seq"] | Int[Tensor, "batch seq"] | None,
) -> Float[Tensor, ""]:
    """Mean over the layers of the router balance loss; padding counts nothing.

    Args:
        routing: one a MoE layer, at least one.
        config: their router.
        attention_mask: 0 is padding.
        aux_balance_weight: what each token counts for; None: all alike.
    """
    weights = aux_balance_weight
    if attention_mask is not None:
        is_real = attention_mask > 0
        weights = is_real.long() if weights is None else weights * is_real
    flat = None if weights is None else weights.flatten()
    return torch.stack([balance_loss(layer, config, flat) for layer in routing]).mean()


def mean_z_loss(
    routing: Sequence[Routing], attention_mask: Int[Tensor, "batch seq"] | None
) -> Float[Tensor, ""]:
    """Mean over the layers of the router z-loss; padding counts nothing."""
    is_real = None if attention_mask is None else attention_mask.flatten() > 0
    return torch.stack([z_loss(layer, is_real) for layer in routing]).mean()


def scored_tokens(
    labels: Int[Tensor, "batch seq"], attention_mask: Int[Tensor, "batch seq"] | None
) -> Bool[Tensor, "batch targets"]:
    """Which tokens from the second of a row on are predicted.

    Those with a label, but none across the border of two packed samples.
    """
    is_scored = labels[:, 1:] != IGNORED
    if attention_mask is None:
        return is_scored
    return is_scored & (attention_mask[:, 1:] == attention_mask[:, :-1])
