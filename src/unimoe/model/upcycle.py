"""Upcycling: a dense model becomes a mixture of experts, and stays close to what it was.

In:  a dense `OmniModel` (or one for each expert).  Out: an `OmniModel` whose feed-forward blocks
are `DynamicMoE` but where they stay dense; and the `Distance` between the two on given tokens.
A routed expert copies the dense block, or its slice when it is narrower: expert i the channels from
i * width on, cyclically; shared experts take the first channels.  The router is new.
Source: released upcycling, paper 2.3.1 (docs/sources.md#upcycle).
Axes: channel = inner width of the dense block, double = gate and up rows.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unimoe.config import CoreConfig, MoEConfig
from unimoe.errors import ConfigError
from unimoe.model.allocate import allocate, meta_model
from unimoe.model.core import DecoderLayer
from unimoe.model.omni import OmniModel
from unimoe.nn.layers import SwiGLU
from unimoe.nn.moe import DynamicMoE
from unimoe.nn.router import route

Block = TypeVar("Block", SwiGLU, DynamicMoE)

ROUTER_STD = 0.02
PRESERVING_LOGIT_STD = 0.05
"""Of a router that hardly prefers any expert yet: every token then takes the same number."""
_SAMPLED_TOKENS = 4096


@dataclass(frozen=True)
class Distance:
    """How far one model's next-token distributions are from another's."""

    num_tokens: int
    mean_kl_nats: float
    """Of the other from the reference, per token."""
    top1_agreement: float
    """Share of tokens after which both expect the same next one."""
    max_abs_logit: float
    perplexity_ratio: float
    """Of the other to the reference, on the tokens themselves."""


def upcycle(
    dense: OmniModel,
    moe: MoEConfig,
    *,
    sources: Mapping[int, OmniModel] | None = None,
    dense_layers: tuple[int, ...] = (),
    preserve: bool = True,
    seed: int = 0,
) -> OmniModel:
    """A model with experts made of the dense one's feed-forward blocks; all else is copied.

    Args:
        dense: gives everything that `sources` does not, the shared experts too.
        moe: counts and widths; the routed width divides the dense one.
        sources: routed expert -> the dense model it copies, such as one trained on its modality.
        dense_layers: these keep the dense block, without experts.
        preserve: keep the function near the dense one: a router of small logits, null experts
            that are never first or last, and output columns scaled so that each channel arrives
            with weight 1 in the mean. Without it: plain copies and a router of std 0.02.
        seed: of the router.

    Raises:
        ConfigError: `dense` has experts already, a width that does not divide, sources of another
            shape, or a layer that is not there.
    """
    sources = sources or {}
    _check(dense, moe, sources)
    core = dataclasses.replace(dense.config.core, moe=moe, dense_layers=dense_layers)
    model = meta_model(dataclasses.replace(dense.config, core=core))
    copied = dict(dense.named_parameters())
    blocks = _blocks(dense, SwiGLU)

    def empty(name: str, shape: torch.Size) -> Tensor:
        if name in copied:
            return copied[name].detach().clone()
        like = blocks[int(name.split(".")[2])].down_proj.weight  # core.layers.{i}.ffn...
        return torch.empty(shape, dtype=like.dtype, device=like.device)

    allocate(model, empty)
    generator = torch.Generator().manual_seed(seed)
    experts = [
        _blocks(sources.get(expert, dense), SwiGLU) for expert in range(moe.router.num_routed)
    ]
    changed = [layer for layer in range(core.num_layers) if layer not in dense_layers]
    for ffn, layer in zip(_blocks(model, DynamicMoE), changed, strict=True):
        of_layer = tuple(of_expert[layer] for of_expert in experts)
        _fill(ffn, blocks[layer], of_layer, generator, preserve)
    return model.train(dense.training)


@torch.inference_mode()
def distance(
    reference: OmniModel, other: OmniModel, input_ids: Int[Tensor, "batch seq"]
) -> Distance:
    """Compare two models of one vocabulary on the same text."""
    wanted = reference(input_ids.to(reference.device)).logits.float()
    found = other(input_ids.to(other.device)).logits.float().to(wanted.device)
    log_p, log_q = wanted.log_softmax(-1), found.log_softmax(-1)
    surprise = _mean_surprise(log_q, input_ids) - _mean_surprise(log_p, input_ids)
    return Distance(
        num_tokens=input_ids.numel(),
        mean_kl_nats=float((log_p.exp() * (log_p - log_q)).sum(-1).mean().clamp_min(0)),
        top1_agreement=float((log_p.argmax(-1) == log_q.argmax(-1)).float().mean()),
        max_abs_logit=float((wanted - found).abs().max()),
        perplexity_ratio=float(surprise.exp()),
    )


def _mean_surprise(
    log_probabilities: Float[Tensor, "batch seq vocab"], input_ids: Int[Tensor, "batch seq"]
) -> Float[Tensor, ""]:
    following = input_ids[:, 1:, None].to(log_probabilities.device)
    return -log_probabilities[:, :-1].gather(-1, following).mean()


def _check(dense: OmniModel, moe: MoEConfig, sources: Mapping[int, OmniModel]) -> None:
    core = dense.config.core
    if core.moe is not None:
        raise ConfigError("this model has experts already; upcycling begins with a dense one")
    if core.ffn_width % moe.routed_width or moe.shared_width > core.ffn_width:
        raise ConfigError(
            f"routed_width {moe.routed_width} and shared_width {moe.shared_width} for a dense "
            f"width of {core.ffn_width}: the first has to divide it, the second not to exceed it"
        )
    for expert, source in sources.items():
        if not 0 <= expert < moe.router.num_routed:
            raise ConfigError(f"a source for expert {expert}; there are {moe.router.num_routed}")
        if _ffn_shape(source.config.core) != _ffn_shape(core):
            raise ConfigError(
                f"the source of expert {expert} has (layers, hidden, width) "
                f"{_ffn_shape(source.config.core)}; need {_ffn_shape(core)}, dense"
            )


def _blocks(model: OmniModel, kind: type[Block]) -> list[Block]:
    """The feed-forward blocks of a kind, in the order of the layers."""
    found = [layer.ffn for layer in model.core.layers if isinstance(layer, DecoderLayer)]
    return [block for block in found if isinstance(block, kind)]


def _ffn_shape(core: CoreConfig) -> tuple[int, int, int] | None:
    return (core.num_layers, core.hidden_size, core.ffn_width) if core.moe is None else None


@torch.no_grad()
def _fill(
    ffn: DynamicMoE,
    base: SwiGLU,
    experts: tuple[SwiGLU, ...],
    generator: torch.Generator,
    preserve: bool,
) -> None:
    """All parameters of one MoE layer."""
    moe, width = ffn.config, base.down_proj.in_features
    router = _new_router(moe, base.gate_up_proj.in_features, generator, preserve)
    ffn.router.weight.copy_(router)
    routed = [
        torch.arange(expert * moe.routed_width, (expert + 1) * moe.routed_width) % width
        for expert in range(moe.router.num_routed)
    ]
    shared = torch.arange(moe.shared_width)
    scale = torch.ones(width)
    if preserve:
        scale = _channel_scale(router, moe, routed, shared, width, generator)
    for expert, (channels, source) in enumerate(zip(routed, experts, strict=True)):
        _copy_rows(ffn.routed_gate_up[expert], source, channels)
        columns = source.down_proj.weight[:, channels.to(source.down_proj.weight.device)]
        ffn.routed_down[expert].copy_(columns * scale[channels].to(columns))
    for expert in range(moe.router.num_shared):
        _copy_rows(ffn.shared_gate_up[expert], base, shared)
        ffn.shared_down[expert].copy_(base.down_proj.weight[:, : moe.shared_width])


def _copy_rows(
    target: Float[Tensor, "double hidden"], source: SwiGLU, channels: Int[Tensor, " channel"]
) -> None:
    weight = source.gate_up_proj.weight
    rows = torch.cat([channels, channels + weight.shape[0] // 2])
    target.copy_(weight[rows.to(weight.device)])


def _new_router(
    moe: MoEConfig, hidden_size: int, generator: torch.Generator, preserve: bool
) -> Float[Tensor, "columns hidden"]:
    router = moe.router
    std = PRESERVING_LOGIT_STD / hidden_size**0.5 if preserve else ROUTER_STD
    weight = std * torch.randn(router.num_columns, hidden_size, generator=generator)
    if preserve:
        # The mean of the routed logits lies between them for every input, so no token is lost to
        # a null expert alone, and how many of the picks are null hardly depends on the token.
        weight[router.num_routed : router.num_dynamic] = weight[: router.num_routed].mean(0)
    return weight


def _channel_scale(
    router: Float[Tensor, "columns hidden"],
    moe: MoEConfig,
    routed: list[Int[Tensor, " routed_channel"]],
    shared: Int[Tensor, " shared_channel"],
    width: int,
    generator: torch.Generator,
) -> Float[Tensor, " channel"]:
    """Factor on the routed experts' output of each dense channel: its weights then sum to 1.

    The weights of the experts are means over unit-normal inputs of this very router. Shared
    experts stay as they are; a channel that no routed expert holds has nothing to be scaled.
    """
    hidden = torch.randn(_SAMPLED_TOKENS, router.shape[1], generator=generator)
    weights = route(hidden @ router.T, moe.router).weights.mean(0)
    by_routed, by_shared = torch.zeros(width), torch.zeros(width)
    for expert, channels in enumerate(routed):
        by_routed[channels] += weights[expert]
    by_shared[shared] = weights[moe.router.num_dynamic :].sum()
    return torch.where(by_routed > 0, (1 - by_shared) / by_routed.clamp_min(1e-9), 1.0)
