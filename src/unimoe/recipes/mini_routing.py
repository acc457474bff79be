"""Routers that know the modalities from their first step on.

In:  for every routed expert, the model it was taken from and data of its modality.
Out: the mixture's routers, set by least squares: on that data, in the states which that model has
there, a token's own expert stands above the others; but where a block hardly changes a token, the
null expert does.
A random router would send pictures to the expert for speech, and the first steps would undo what
the specialists learned; UniMoE-Audio freezes the experts for 5,000 steps against that.
Axes: tokens = of all samples, hidden = width of the core.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unimoe.model.core import DecoderLayer
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import aim_routers, wanted_logits
from unimoe.nn.moe import MoEOutput
from unimoe.train.batches import SampleSource, TrainSample, train_batch

MARGIN = 3.0
"""Logit of a token's own expert: a probability of 0.83 among four experts and a null one."""
SHARED = 0.0
SKIPPED_SHARE = 0.1
"""Of all (token, layer) pairs: those that a block changes least, by the length of what it adds
against what it adds it to."""
ROW_LENGTH = 512


class Teaching(NamedTuple):
    """Which tokens belong to an expert."""

    model: OmniModel
    """Whose states stand for what the mixture will see."""
    sources: Sequence[SampleSource]


@torch.no_grad()
def aim_at_modalities(
    model: OmniModel, teachings: Mapping[int, Teaching], *, rows_per_expert: int = 10
) -> dict[int, float]:
    """Set the routers; every expert gets about as many tokens to be known by.

    Least squares serve the many: with as many rows a source, whose expert has fewest sources had
    a tenth of the tokens.

    Returns:
        Layer -> share of these tokens that then have their own expert first.
    """
    router = model.config.core.moe
    assert router is not None  # a mixture
    seen: dict[int, list[_Seen]] = {}
    experts = []
    for expert, teaching in teachings.items():
        for source in teaching.sources:
            found = _seen(teaching.model, source, -(-rows_per_expert // len(teaching.sources)))
            for layer, part in found.items():
                seen.setdefault(layer, []).append(part)
            experts.append(torch.full((len(found[0].change),), expert))
    states = {layer: torch.cat([part.states for part in parts]) for layer, parts in seen.items()}
    changes = {layer: torch.cat([part.change for part in parts]) for layer, parts in seen.items()}
    least = torch.cat(list(changes.values())).quantile(SKIPPED_SHARE)
    null = router.router.num_routed
    own = torch.cat(experts)
    wanted = {
        layer: wanted_logits(
            own.masked_fill(change < least, null), router.router, margin=MARGIN, shared=SHARED
        )
        for layer, change in changes.items()
    }
    return aim_routers(model, wanted, states)


class _Seen(NamedTuple):
    """The tokens of a source in one layer."""

    states: Float[Tensor, "tokens hidden"]
    """What the feed-forward block reads."""
    change: Float[Tensor, " tokens"]
    """How far it moves a token, as a share of where the token stands."""


def _seen(model: OmniModel, source: SampleSource, num_rows: int) -> dict[int, _Seen]:
    """What every layer does to some rows of a source."""
    batch = train_batch(_rows(source, num_rows), ROW_LENGTH, model.config)
    is_real = batch.batch.attention_mask > 0
    arguments = batch.batch.model_inputs()
    arguments.pop("labels")
    found: dict[int, _Seen] = {}
    with _watched(model, found, is_real):
        model(**arguments, logits_rows=0)
    return found


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
def _watched(
    model: OmniModel, found: dict[int, _Seen], is_real: Bool[Tensor, "batch seq"]
) -> Iterator[None]:
    layers = [layer for layer in model.core.layers if isinstance(layer, DecoderLayer)]
    read: dict[int, tuple[Tensor, Tensor]] = {}

    def keep_read(number: int) -> Callable[..., None]:
        def hook(module: object, inputs: tuple[Tensor], normed: Tensor) -> None:
            read[number] = (inputs[0][is_real].float(), normed[is_real].float())

        return hook

    def keep_change(number: int) -> Callable[..., None]:
        def hook(module: object, inputs: object, output: Tensor | MoEOutput) -> None:
            added = output if isinstance(output, Tensor) else output.hidden
            hidden, normed = read[number]
            found[number] = _Seen(normed, added[is_real].float().norm(dim=-1) / hidden.norm(dim=-1))

        return hook

    handles = [
        handle
        for number, layer in enumerate(layers)
        for handle in (
            layer.post_attention_norm.register_forward_hook(keep_read(number)),
            layer.ffn.register_forward_hook(keep_change(number)),
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
