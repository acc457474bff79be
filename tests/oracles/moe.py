"""The MoE layer, slow and obvious: one token at a time, one expert at a time.

Follows docs/sources.md#moe line by line, with python numbers for every decision and no shared code
with `unimoe.nn`; evaluation mode, both rules, no dropping.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from unimoe.config import RouterConfig
from unimoe.nn.moe import DynamicMoE


def moe_oracle(layer: DynamicMoE, hidden: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """Output of the layer, [batch, seq, hidden]."""
    router = layer.config.router
    flat = hidden.flatten(0, 1)
    real = [True] * len(flat) if token_mask is None else token_mask.flatten().tolist()
    logits = flat @ layer.router.weight.T
    rows = [
        _token(layer, router, vector, logit.tolist(), is_real)
        for vector, logit, is_real in zip(flat, logits, real, strict=True)
    ]
    return torch.stack(rows).view_as(hidden)


def token_weights(router: RouterConfig, logits: list[float], is_real: bool = True) -> list[float]:
    """Weight of every router column for one token; zero where it is not taken."""
    dynamic = logits[: router.num_dynamic]
    chosen = _chosen(router, dynamic) if is_real else []
    if router.rule == "released":
        return _released_weights(router, logits, chosen)
    return _softmax_over(logits, chosen + list(range(router.num_dynamic, len(logits))))


def _token(
    layer: DynamicMoE, router: RouterConfig, vector: Tensor, logits: list[float], is_real: bool
) -> Tensor:
    weights = token_weights(router, logits, is_real)
    output = torch.zeros_like(vector)
    for expert in range(router.num_routed):
        if weights[expert] > 0:
            output = output + weights[expert] * _mlp(
                vector, layer.routed_gate_up[expert], layer.routed_down[expert]
            )
    for expert in range(router.num_shared):
        output = output + weights[router.num_dynamic + expert] * _mlp(
            vector, layer.shared_gate_up[expert], layer.shared_down[expert]
        )
    return output


def _mlp(vector: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    half = len(gate_up) // 2
    return down @ (functional.silu(gate_up[:half] @ vector) * (gate_up[half:] @ vector))


def _chosen(router: RouterConfig, dynamic: list[float]) -> list[int]:
    """Columns best first, until top-p is reached or top-k taken."""
    by_score = sorted(range(len(dynamic)), key=lambda column: -dynamic[column])
    if router.top_k is not None:
        return by_score[: router.top_k]
    probability = _softmax_over(dynamic, list(range(len(dynamic))))
    chosen, total = [], 0.0
    for column in by_score:
        chosen.append(column)
        total += probability[column]
        if total >= router.top_p:
            break
    return chosen


def _released_weights(router: RouterConfig, logits: list[float], chosen: list[int]) -> list[float]:
    left = list(range(router.num_dynamic))
    gates = {}
    for column in chosen:
        best = logits[column]
        near = [other for other in left if _is_near(best, logits[other], router.near_tie)]
        gates[column] = _softmax_over(logits, near)[column]
        left.remove(column)
    norm = sum(gates.values()) + 1e-6
    split = _softmax_over(logits, chosen + list(range(router.num_dynamic, len(logits))))
    dynamic_share = sum(split[: router.num_dynamic]) if router.num_shared else 1.0
    weights = [0.0] * len(logits)
    for column, gate in gates.items():
        weights[column] = gate / norm * dynamic_share
    for column in range(router.num_dynamic, len(logits)):
        weights[column] = split[column]
    return weights


def _is_near(best: float, score: float, near_tie: float) -> bool:
    larger = max(abs(best), abs(score))
    return larger == 0 or (best - score) / larger <= 2 * near_tie


def _softmax_over(logits: list[float], columns: list[int]) -> list[float]:
    """Softmax over some columns; zero elsewhere."""
    weights = [0.0] * len(logits)
    if not columns:
        return weights
    top = max(logits[column] for column in columns)
    exponents = {column: math.exp(logits[column] - top) for column in columns}
    for column in columns:
        weights[column] = exponents[column] / sum(exponents.values())
    return weights
