"""Specialists: dense models that learned one modality as low-rank deltas, and their union.

In:  a dense `OmniModel`.  Out: the same model with deltas beside its feed-forward blocks: one
expert for a specialist, all of them for the mixture; and a router that knows the modalities.
What the dense model holds is shared, not copied; deltas and routers are float32, for they learn.
Source: paper 2.1 (expert warm-up), UniMoE-Audio's router warm-up (docs/sources.md#specialists).
Axes: columns = routed | null | shared of a router.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unimoe.config import MoEConfig, RouterConfig
from unimoe.errors import ConfigError
from unimoe.model.allocate import allocate, meta_model
from unimoe.model.core import DecoderLayer
from unimoe.model.omni import OmniModel
from unimoe.nn.moe import DynamicMoE

_DELTA = re.compile(r"(core\.layers\.\d+\.ffn\.deltas)\.routed\.(\w+)")


def specialist_moe(ffn_width: int, rank: int) -> MoEConfig:
    """One routed expert that every token takes with weight 1: dense, but for its delta."""
    alone = RouterConfig(num_routed=1, num_null=0, num_shared=0, top_p=None, top_k=1)
    return MoEConfig(router=alone, routed_width=ffn_width, shared_width=1, delta_rank=rank)


def with_deltas(dense: OmniModel, moe: MoEConfig, *, seed: int = 0) -> OmniModel:
    """The dense model with experts that do not differ from it yet; its tensors are shared.

    Raises:
        ConfigError: the model has experts already, or `moe` is not of deltas of its blocks.
    """
    core = dense.config.core
    if core.moe is not None or moe.delta_rank is None or moe.routed_width != core.ffn_width:
        raise ConfigError(
            f"deltas need a dense model and routed_width {core.ffn_width} with a delta_rank; got "
            f"{moe} for a model {'with' if core.moe else 'without'} experts"
        )
    config = dataclasses.replace(dense.config, core=dataclasses.replace(core, moe=moe))
    model = meta_model(config)
    given = {
        name.replace(".ffn.", ".ffn.deltas.base."): parameter.detach()
        for name, parameter in dense.named_parameters()
    }
    generator = torch.Generator().manual_seed(seed)

    def filled(name: str, shape: torch.Size) -> Tensor:
        if name in given:
            return given[name]
        if name.endswith("_in"):
            small: Tensor = torch.randn(shape, generator=generator) * shape[-1] ** -0.5
            return small
        return torch.zeros(shape)

    allocate(model, filled)
    return model.train(dense.training)


@torch.no_grad()
def take_expert(model: OmniModel, expert: int, specialist: Mapping[str, Tensor]) -> None:
    """Copy the one delta of a specialist, among its learned tensors, into a routed expert."""
    parameters = dict(model.named_parameters())
    for name, values in specialist.items():
        if _DELTA.fullmatch(name):
            parameters[name][expert].copy_(values[0])


@torch.no_grad()
def aim_routers(
    model: OmniModel,
    wanted: Mapping[int, Float[Tensor, "tokens columns"]],
    states: Mapping[int, Float[Tensor, "tokens hidden"]],
    *,
    ridge: float = 1e-3,
) -> dict[int, float]:
    """Set every router to the least-squares map from its inputs to wanted logits.

    Args:
        model: with a mixture.
        wanted: layer -> the logits each token shall have.
        states: layer -> what the router read for each token.
        ridge: of the mean square of the states.

    Returns:
        Layer -> share of tokens whose best column is the wanted one.
    """
    agreement = {}
    for layer, block in mixtures(model):
        seen = states[layer].double()
        gram = seen.T @ seen
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        aims = wanted[layer].double()
        weight = torch.linalg.solve(gram, seen.T @ aims).T
        block.router.weight.copy_(weight)
        found = seen @ weight.T
        agreement[layer] = float((found.argmax(-1) == aims.argmax(-1)).double().mean())
    return agreement


def mixtures(model: OmniModel) -> Iterator[tuple[int, DynamicMoE]]:
    """Layers that have experts, with their number."""
    for number, layer in enumerate(model.core.layers):
        if isinstance(layer, DecoderLayer) and isinstance(layer.ffn, DynamicMoE):
            yield number, layer.ffn


def wanted_logits(
    experts: Int[Tensor, " tokens"], router: RouterConfig, *, margin: float, shared: float
) -> Float[Tensor, "tokens columns"]:
    """Logits that let every token take one expert: it stands `margin` above the others.

    Args:
        experts: the wanted dynamic column of every token.
        router: counts.
        margin: in nats; 3 gives it a probability of 0.83 among five.
        shared: logit of the shared experts, against 0 of the ones that are not wanted.
    """
    logits = torch.zeros(len(experts), router.num_columns)
    logits[torch.arange(len(experts)), experts] = margin
    logits[:, router.num_dynamic :] = shared
    return logits
