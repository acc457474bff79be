"""Routers that know the modalities from their first step on.

In:  for every routed expert, the model it was taken from and data of its modality.
Out: the mixture's routers, set by least squares: on that data, in the states which that model has
there, a token's own expert stands above the others.
A random router would send pictures to the expert for speech, and the first steps would undo what
the specialists learned; UniMoE-Audio freezes the experts for 5,000 steps against that.
Axes: tokens = of all samples, hidden = width of the core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unimoe.model.core import DecoderLayer
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import aim_routers, wanted_logits
from unimoe.train.batches import SampleSource, TrainSample, train_batch

MARGIN = 3.0
"""Logit of a token's own expert: a probability of 0.83 among four experts and a null one."""
SHARED = 0.0
ROW_LENGTH = 256


class Teaching(NamedTuple):
    """Which tokens belong to an expert."""

    model: OmniModel
    """Whose states stand for what the mixture will see."""
    sources: Sequence[SampleSource]


@torch.no_grad()
def aim_at_modalities(
    model: OmniModel, teachings: Mapping[int, Teaching], *, rows_per_source: int = 6
) -> dict[int, float]:
    """Set the routers; every expert gets about as many tokens to be known by.

    Returns:
        Layer -> share of these tokens that then have their own expert first.
    """
    router = model.config.core.moe
    assert router is not None  # a mixture
    states: dict[int, list[Tensor]] = {}
    wanted = []
    for expert, teaching in teachings.items():
        for source in teaching.sources:
            found = _states(teaching.model, source, rows_per_source)
            for layer, seen in found.items():
                states.setdefault(layer, []).append(seen)
            experts = torch.full((len(found[0]),), expert)
            wanted.append(wanted_logits(experts, router.router, margin=MARGIN, shared=SHARED))
    joined = {layer: torch.cat(seen) for layer, seen in states.items()}
    return aim_routers(model, torch.cat(wanted), joined)


def _states(
    model: OmniModel, source: SampleSource, num_rows: int
) -> dict[int, Float[Tensor, "tokens hidden"]]:
    """What the feed-forward block of every layer reads on some rows of a source."""
    batch = train_batch(_rows(source, num_rows), ROW_LENGTH, model.config)
    is_real = batch.batch.attention_mask > 0
    arguments = batch.batch.model_inputs()
    arguments.pop("labels")
    found: dict[int, Tensor] = {}
    with _watched(model, found):
        model(**arguments, logits_rows=0)
    return {layer: seen[is_real].float() for layer, seen in found.items()}


def _rows(source: SampleSource, num_rows: int) -> list[list[TrainSample]]:
    """Rows of samples from all over the source."""
    rows: list[list[TrainSample]] = [[]]
    room = ROW_LENGTH
    step = max(len(source.lengths) // (num_rows * 16), 1)
    for index in range(0, len(source.lengths), step):
        length = source.lengths[index]
        if length > ROW_LENGTH:
            continue
        if length > room:
            if len(rows) == num_rows:
                break
            rows.append([])
            room = ROW_LENGTH
        rows[-1].append(source[index])
        room -= length
    return rows


@contextlib.contextmanager
def _watched(model: OmniModel, found: dict[int, Tensor]) -> Iterator[None]:
    def keep(layer: int) -> object:
        def hook(module: object, inputs: object, output: Tensor) -> None:
            found[layer] = output.detach()

        return hook

    handles = [
        block.post_attention_norm.register_forward_hook(keep(number))  # type: ignore[arg-type]
        for number, block in enumerate(model.core.layers)
        if isinstance(block, DecoderLayer)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
