"""Router: logits of a token to the experts it takes and their weights.

In:  logits [tokens, columns], columns = routed | null | shared (dynamic = routed | null).
Out: `Routing`: how many dynamic experts, which, with what weight.  Two rules, both complete:
`paper` (algorithm 1: one softmax over everything selected) and `released` (what the published
checkpoints were trained with: near ties share a weight, docs/sources.md#router).
Axes: tokens = batch * seq, pick = position in a token's order of preference.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from unimoe.config import RouterConfig
from unimoe.errors import RequestError

HEUN_FULL_STEP_PROBABILITY = 5 / 8
HEUN_SHORT_STEP = 1 / 3
RELEASED_KEEP_PROBABILITY = 1 / 4
RELEASED_SHORT_STEP = 0.3333
WEIGHT_EPSILON = 1e-6


class RouterDraws(NamedTuple):
    """The random numbers of one training forward; give them again to repeat it."""

    gumbel: Float[Tensor, "tokens rows dynamic"]
    """Noise on the dynamic logits: one row a pick, of which `paper` needs the first only."""
    uniform: Float[Tensor, "tokens pick"]
    """Decides between the two steps of the gate estimator."""
    input_jitter: Float[Tensor, "tokens hidden"] | None = None
    """Factor on the router's input."""


class Routing(NamedTuple):
    """What the router decided, token by token."""

    logits: Float[Tensor, "tokens columns"]
    num_selected: Int[Tensor, " tokens"]
    """Dynamic experts top-p asked for, null included, before padding and dropping."""
    selected: Bool[Tensor, "tokens dynamic"]
    """Those experts; none for padding.  What the balance loss counts."""
    mask: Bool[Tensor, "tokens columns"]
    """Experts the token really takes, after dropping; shared ones always."""
    weights: Float[Tensor, "tokens columns"]


def draw(
    num_tokens: int, config: RouterConfig, device: torch.device, hidden_size: int
) -> RouterDraws:
    """Fresh random numbers from torch's generator of that device."""
    num_rows = 1 if config.rule == "paper" else config.num_dynamic
    exponential = torch.empty(num_tokens, num_rows, config.num_dynamic, device=device)
    exponential = exponential.exponential_()
    jitter = None
    if config.input_jitter > 0:
        low, high = 1 - config.input_jitter, 1 + config.input_jitter
        jitter = torch.empty(num_tokens, hidden_size, device=device).uniform_(low, high)
    uniform = torch.rand(num_tokens, config.num_dynamic, device=device)
    return RouterDraws(-exponential.log(), uniform, jitter)


def route(
    logits: Float[Tensor, "tokens columns"],
    config: RouterConfig,
    *,
    token_mask: Bool[Tensor, " tokens"] | None = None,
    top_p: float | None = None,
    draws: RouterDraws | None = None,
) -> Routing:
    """The routing of every token.

    Args:
        logits: router output; their dtype is the precision of every decision made here.
        config: counts, threshold and rule.
        token_mask: False on padding, which takes the shared experts only.
        top_p: replaces the configured choice, in (0, 1]; the compute dial of a request.
        draws: given in training when experts are sampled; None takes the likeliest.

    Raises:
        RequestError: `top_p` out of range, or the `position` drop policy left a token nothing.
    """
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise RequestError(f"top_p_routing is {top_p}; need more than 0 and at most 1")
    rule = _route_released if config.rule == "released" else _route_paper
    return rule(logits, config, token_mask, top_p, draws)


def balance_loss(
    routing: Routing,
    config: RouterConfig,
    token_weights: Float[Tensor, " tokens"] | Int[Tensor, " tokens"] | None = None,
) -> Float[Tensor, ""]:
    """Load balance over the dynamic columns, before dropping: D * sum_j f_j p_j.

    Args:
        routing: of one layer.
        config: its router.
        token_weights: importance of each token in both means; None weighs all alike, padding too.
    """
    columns = config.num_dynamic
    lowest = torch.finfo(routing.logits.dtype).min
    share = routing.logits[:, :columns].masked_fill(~routing.selected, lowest).softmax(-1)
    selected = routing.selected.float()
    if token_weights is None:
        load, importance = selected.mean(0), share.mean(0)
    else:
        norm = token_weights / token_weights.sum().clamp(min=WEIGHT_EPSILON)
        load, importance = norm @ selected, norm @ share.float()
    product = load * importance
    if config.null_balance != 1.0:
        scale = torch.ones_like(product)
        scale[config.num_routed :] = config.null_balance
        product = product * scale
    return columns * product.sum()


def z_loss(
    routing: Routing, token_mask: Bool[Tensor, " tokens"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared log-partition of the router logits over real tokens: keeps them from growing."""
    squares = routing.logits.float().logsumexp(-1).square()
    if token_mask is None:
        return squares.mean()
    return (squares * token_mask).sum() / token_mask.sum().clamp(min=1)


def _route_paper(
    logits: Tensor,
    config: RouterConfig,
    token_mask: Tensor | None,
    top_p: float | None,
    draws: RouterDraws | None,
) -> Routing:
    """Algorithm 1: top-p over the dynamic columns, then one softmax over all that was selected.

    Sampling without replacement is the order of the logits plus Gumbel noise.
    """
    dynamic = logits[:, : config.num_dynamic]
    noisy = dynamic if draws is None else dynamic + draws.gumbel[:, 0].to(dynamic.dtype)
    order = noisy.detach().sort(dim=-1, descending=True, stable=True).indices
    taken = _taken(dynamic.softmax(-1).gather(-1, order), config, top_p)
    selected = _by_column(taken, order)
    if token_mask is not None:
        selected = selected & token_mask[:, None]
    mask = _with_shared(selected, config)
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    if config.num_shared == 0 and token_mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # a padding row has nothing to normalise over
    if draws is not None:
        factor = _by_column(heun_factors(dynamic, order, draws.uniform), order)
        gates = estimated_gate(weights[:, : config.num_dynamic], factor)
        weights = torch.cat([gates, weights[:, config.num_dynamic :]], dim=-1)
    return Routing(logits, taken.sum(-1), selected, mask, weights)


def heun_factors(
    scores: Float[Tensor, "tokens dynamic"],
    order: Int[Tensor, "tokens dynamic"],
    uniform: Float[Tensor, "tokens dynamic"],
) -> Float[Tensor, "tokens dynamic"]:
    """Step factor of every pick: 1 for the best one left, otherwise 1 or 1/3 by a coin of 5/8.

    Source: GRIN's hybrid of Euler and third-order Heun steps (paper A.4).
    """
    picked = scores.detach().gather(-1, order)
    best_left = picked.flip(-1).cummax(-1).values.flip(-1)
    full_step = (picked == best_left) | (uniform < HEUN_FULL_STEP_PROBABILITY)
    return torch.where(full_step, 1.0, HEUN_SHORT_STEP)


def estimated_gate(
    gate: Float[Tensor, "..."], factor: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Gate with value factor * gate and gradient 2 * d gate: o = 2o + stop(factor*o - 2o).

    On the gate alone, so that the experts' own gradients are not doubled (paper A.4).
    """
    return (gate * factor.to(gate.dtype)).detach() + 2 * (gate - gate.detach())


def _route_released(
    logits: Tensor,
    config: RouterConfig,
    token_mask: Tensor | None,
    top_p: float | None,
    draws: RouterDraws | None,
) -> Routing:
    """The released rule: near ties share a weight, the others get 1 / k each."""
    dynamic = logits[:, : config.num_dynamic]
    best_first = dynamic.sort(dim=-1, descending=True, stable=True)
    taken = _taken(best_first.values.detach().softmax(-1), config, top_p)
    picks = (
        _Picks(best_first.indices, _near_tie_gates(best_first.values, config))
        if draws is None
        else _draw_picks(dynamic, config, draws)
    )
    gates = _by_column(_normalised(picks.gates * taken), picks.order)
    selected = _by_column(taken, picks.order)
    if token_mask is not None:
        selected = selected & token_mask[:, None]
    mask = _with_shared(selected, config)
    if config.drop_policy is not None:
        mask = _drop(dynamic, mask, config, token_mask)
        gates = _normalised(gates * mask[:, : config.num_dynamic])
    weights = _global_weights(logits, mask, gates, config)
    return Routing(logits, taken.sum(-1), selected, mask, weights)


class _Picks(NamedTuple):
    order: Int[Tensor, "tokens pick"]
    gates: Float[Tensor, "tokens pick"]


def _near_tie_gates(scores: Tensor, config: RouterConfig) -> Tensor:
    """Gate of every pick of the scores best first: its softmax among the near ties not yet picked.

    Sorted, the candidates of pick j are the columns from j on whose gap to j is small, so all
    picks are one triangular [tokens, pick, candidate] comparison instead of a loop.
    """
    fixed = scores.detach()
    candidates = _near(fixed[:, :, None], fixed[:, None, :], config).triu()
    shared = scores[:, None, :].masked_fill(~candidates, -torch.inf).softmax(-1)
    return shared.diagonal(dim1=-2, dim2=-1)


def _draw_picks(dynamic: Tensor, config: RouterConfig, draws: RouterDraws) -> _Picks:
    """Experts drawn one by one among the near ties of the best one left (SparseMixer)."""
    left = dynamic
    order: list[Tensor] = []
    gates: list[Tensor] = []
    for pick in range(config.num_dynamic):
        best = left.detach().max(dim=-1, keepdim=True).values
        candidates = left.masked_fill(~_near(best, dynamic.detach(), config), -torch.inf)
        chosen = (candidates.detach() + draws.gumbel[:, pick]).argmax(-1, keepdim=True)
        probability = candidates.softmax(-1)
        gate = probability.gather(-1, chosen)
        full_step = (chosen == probability.argmax(-1, keepdim=True)) | (
            draws.uniform[:, pick, None] > 1 - RELEASED_KEEP_PROBABILITY
        )
        factor = torch.where(full_step, 1.0, RELEASED_SHORT_STEP).to(gate.dtype)
        gates.append((gate * factor).detach() + (gate - gate.detach()))
        order.append(chosen)
        left = left.scatter(-1, chosen, -torch.inf)
    return _Picks(torch.cat(order, -1), torch.cat(gates, -1))


def _near(best: Tensor, scores: Tensor, config: RouterConfig) -> Tensor:
    """Whether a score is within twice the near-tie gap of the best, relative to the larger one."""
    gap = (best - scores) / torch.maximum(scores.abs(), best.abs())
    return ~(gap > 2 * config.near_tie)  # 0 / 0 is NaN, compares false, and so is kept


def _taken(likely: Tensor, config: RouterConfig, top_p: float | None) -> Tensor:
    """Which picks are made, in the order given: until their probabilities reach the threshold."""
    threshold = config.top_p if top_p is None else top_p
    if threshold is None:
        first = torch.arange(likely.shape[-1], device=likely.device) < (config.top_k or 0)
        return first.expand(likely.shape)
    # A pick is made while those before it fall short; the first always is.
    short = likely.cumsum(-1)[:, :-1] < threshold
    return functional.pad(short, (1, 0), value=True)


def _by_column(values: Tensor, order: Tensor) -> Tensor:
    """Values given pick by pick, put back under their columns."""
    return torch.zeros_like(values).scatter(-1, order, values)


def _with_shared(selected: Tensor, config: RouterConfig) -> Tensor:
    if config.num_shared == 0:
        return selected
    return functional.pad(selected, (0, config.num_shared), value=True)


def _normalised(gates: Tensor) -> Tensor:
    return gates / (gates.sum(-1, keepdim=True) + WEIGHT_EPSILON)


def _global_weights(logits: Tensor, mask: Tensor, gates: Tensor, config: RouterConfig) -> Tensor:
    """Split between the dynamic part and each shared expert, one softmax over all in the mask."""
    if config.num_shared == 0:
        return gates
    split = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    if config.drop_policy == "position":  # padding may have lost every expert; the release has NaN
        split = split.masked_fill(~mask, 0.0)
    dynamic = gates * split[:, : config.num_dynamic].sum(-1, keepdim=True)
    return torch.cat([dynamic, split[:, config.num_dynamic :]], dim=-1)


def _drop(dynamic: Tensor, mask: Tensor, config: RouterConfig, token_mask: Tensor | None) -> Tensor:
    """Capacity of an expert, counted over all tokens with padding: the best or the first stay."""
    num_tokens = len(dynamic)
    # float32, as released: 0.1 * 10 must round there, not in float64
    share = torch.tensor(num_tokens / config.num_dynamic, dtype=torch.float32)
    capacity = max(int((share * config.capacity_factor).ceil()), config.min_capacity)
    if config.drop_policy == "position":
        kept = mask & (mask.cumsum(0) <= capacity)
        _require_an_expert_each(kept, token_mask)
        return kept
    lowest = torch.finfo(dynamic.dtype).min
    wanted = dynamic.detach().masked_fill(~mask[:, : config.num_dynamic], lowest)
    best = wanted.topk(min(capacity, num_tokens), dim=0).indices
    within = torch.zeros_like(mask[:, : config.num_dynamic]).scatter(0, best, True)
    return mask & _with_shared(within, config)


def _require_an_expert_each(mask: Tensor, token_mask: Tensor | None) -> None:
    bare = ~mask.any(-1)
    lost = bare if token_mask is None else bare & token_mask
    if bool(lost.any()):
        raise RequestError(
            f"drop_policy 'position' left {int(lost.sum())} of {len(lost)} tokens without any "
            "expert; raise capacity_factor or min_capacity, or set drop_policy to None"
        )
