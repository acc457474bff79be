"""What a painter learns: pictures to be rebuilt, and pictures to be drawn.

In:  batches of pictures, or of samples of `Paintings`.  Out: losses, for `train_head`.
First a draft is learned, from words to the mean of their pictures; then to draw from it.
A prompt is dropped now and then, and with it the source picture, so that guidance has branches to
tell apart. All that a batch draws at random follows from its number and the plan's seed.
Axes: batch = pictures of a step, rows / columns in latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from unimoe.errors import ConfigError
from unimoe.heads.dit import Condition
from unimoe.heads.flow import FlowDraws, flow_loss
from unimoe.heads.painter import Painter
from unimoe.heads.task_dit import empty_condition, full_condition, image_condition
from unimoe.heads.vae import PictureVAE
from unimoe.nn.precision import mixed_precision
from unimoe.train.head_loop import HeadLoss
from unimoe.train.paintings import Paintings

WITHOUT_PROMPT = 0.10
"""Share of a batch that sees the source picture alone."""
WITHOUT_ANYTHING = 0.02
"""Share that sees neither, which a guidance scale of 1 for the picture never asks for."""

EARLY_TIMES, EARLY_TIMES_OF_SOURCE = 1.5, 3.0
"""Power of uniform times: early ones, at which words alone tell what to draw, are learned more.
The more so beside a source: repairs are drawn at early ones alone, and edits are soon clear."""

STATE_NOISE = 1.0
"""Deviation of what is added to normalised states: no wording is to be learned by heart."""


class PictureBatches:
    """Pictures to be rebuilt, half of them mirrored."""

    def __init__(
        self, pictures: UInt8[Tensor, "pictures 3 side side"], batch_size: int, seed: int
    ) -> None:
        self._pictures, self._batch_size, self._seed = pictures, batch_size, seed

    def __call__(self, step: int) -> Float[Tensor, "batch 3 side side"]:
        """The pictures of a step, 0 to 1."""
        generator = _generator(self._seed, step)
        chosen = torch.randint(len(self._pictures), (self._batch_size,), generator=generator)
        batch = self._pictures[chosen].float() / 255
        is_mirrored = torch.rand(len(batch), generator=generator) < 0.5
        return torch.where(_beside(is_mirrored, batch), batch.flip(3), batch)


def rebuilding_objective(vae: PictureVAE, pictures: Float[Tensor, "batch 3 side side"]) -> HeadLoss:
    """Of an autoencoder."""
    with mixed_precision("cpu"):
        return HeadLoss(vae.loss(pictures), {})


class DrawingBatch(NamedTuple):
    """Samples, and the random numbers they are learned with."""

    states: Float[Tensor, "batch places hidden"]
    state_noise: Float[Tensor, "batch places hidden"]
    """Added to the normalised states."""
    source: Float[Tensor, "batch channels rows columns"]
    has_source: Bool[Tensor, " batch"]
    """False: that row of `source` means nothing, and the draft stands in its place."""
    target: Float[Tensor, "batch channels rows columns"]
    times: Float[Tensor, " batch"]
    start: Float[Tensor, "batch channels rows columns"]
    no_source: Float[Tensor, "batch channels rows columns"]
    """Noise in the place of a source picture."""
    sees_prompt: Bool[Tensor, " batch"]
    sees_source: Bool[Tensor, " batch"]


class DrawingBatches:
    """Samples in which every task has its share."""

    def __init__(
        self, paintings: Paintings, shares: Mapping[str, float], batch_size: int, seed: int
    ) -> None:
        """Take samples and shares.

        Raises:
            ConfigError: a task has no samples.
        """
        self._paintings, self._batch_size, self._seed = paintings, batch_size, seed
        self._of_task = [
            torch.tensor([n for n, own in enumerate(paintings.tasks) if own == task])
            for task in shares
        ]
        for task, samples in zip(shares, self._of_task, strict=True):
            if not len(samples):
                raise ConfigError(f"there are no samples of {task!r}, which is to be learned")
        self._shares = torch.tensor(list(shares.values()))

    def __call__(self, step: int) -> DrawingBatch:
        """The batch of a step."""
        generator = _generator(self._seed, step)
        tasks = self._shares.multinomial(self._batch_size, replacement=True, generator=generator)
        points = torch.rand(self._batch_size, generator=generator)
        chosen = [
            self._of_task[task][int(point * len(self._of_task[task]))]
            for task, point in zip(tasks.tolist(), points.tolist(), strict=True)
        ]
        return drawing_batch(self._paintings, torch.stack(chosen), generator)


def drawing_batch(
    paintings: Paintings, chosen: Int64[Tensor, " batch"], generator: torch.Generator
) -> DrawingBatch:
    """These samples, with random numbers of this generator."""
    target = paintings.latents[paintings.targets[chosen]].float()
    sources = paintings.sources[chosen]
    has_source = sources >= 0
    early = torch.where(has_source, EARLY_TIMES_OF_SOURCE, EARLY_TIMES)
    kind = torch.rand(len(chosen), generator=generator)
    states = paintings.states[paintings.prompts[chosen]].float()
    return DrawingBatch(
        states=states,
        state_noise=STATE_NOISE * torch.randn(states.shape, generator=generator),
        source=paintings.latents[sources.clamp_min(0)].float(),
        has_source=has_source,
        target=target,
        times=torch.rand(len(chosen), generator=generator) ** early,
        start=torch.randn(target.shape, generator=generator),
        no_source=torch.randn(target.shape, generator=generator),
        sees_prompt=kind >= WITHOUT_PROMPT + WITHOUT_ANYTHING,
        sees_source=kind >= WITHOUT_ANYTHING,
    )


def draft_objective(painter: Painter, batch: DrawingBatch) -> HeadLoss:
    """Of the draft: squares between it and each picture, so that it becomes their mean."""
    with mixed_precision("cpu"):
        draft = painter.draft(painter.normalised(batch.states) + batch.state_noise)
    return HeadLoss(functional.mse_loss(draft.float(), batch.target), {})


def drawing_objective(painter: Painter, batch: DrawingBatch) -> HeadLoss:
    """Flow matching, of projector and DiT."""
    condition = _condition(painter, batch)
    draws = FlowDraws(batch.times, batch.start, None)
    with mixed_precision("cpu"):
        return HeadLoss(flow_loss(painter.dit, batch.target, condition, draws), {})


def _condition(painter: Painter, batch: DrawingBatch) -> Condition:
    """Of every row the branch that it sees."""
    is_given = _beside(batch.has_source, batch.source)
    features, draft = painter.read(painter.normalised(batch.states) + batch.state_noise)
    branches = zip(
        full_condition(features, torch.where(is_given, batch.source, draft)),
        image_condition(
            features, torch.where(is_given, batch.source, painter.blank_source(1)), None
        ),
        empty_condition(features, batch.no_source, None),
        strict=True,
    )
    chosen = [
        torch.where(
            _beside(batch.sees_source, whole),
            torch.where(_beside(batch.sees_prompt, whole), whole, alone),
            nothing,
        )
        for whole, alone, nothing in branches
    ]
    return Condition(*chosen)


def _beside(rows: Bool[Tensor, " batch"], values: Tensor) -> Tensor:
    """Shaped so that a value a row meets every value of the row."""
    return rows.view(-1, *[1] * (values.dim() - 1))


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 32) + step)
