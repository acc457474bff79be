"""The stages that teach a model to draw; its core is frozen, and what it says is computed once.

    vae       the encoder's components, found at once; then the decoder learns to refine them
    draft     from words alone, the mean of what they look like
    image     projector and DiT learn to draw from the core's states of [TASK] and [IMG]; writes
              `painter/`

Where a painter of a former run lies in the folder as `former/`, both go on from it: its latents
stay what they are, and projector and DiT are tuned to the core there is now; stages before `image`
need not be run. With the core it was taught on beside it, it first learns to read the new one by
least squares.
Source: paper section 2.4 (docs/sources.md#recipe).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from unimoe.config import PainterConfig
from unimoe.data.manifest import Manifest
from unimoe.heads.head_files import read_head, write_head
from unimoe.heads.painter import PAINTER, Painter
from unimoe.heads.vae import PictureVAE, psnr
from unimoe.model.omni import OmniModel
from unimoe.nn.precision import mixed_precision
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.follow_core import follow_core
from unimoe.train.head_loop import HeadLoss
from unimoe.train.learn_painter import (
    DrawingBatch,
    DrawingBatches,
    PictureBatches,
    draft_objective,
    drawing_batch,
    drawing_objective,
    rebuilding_objective,
)
from unimoe.train.loop import TRAINED_NAME
from unimoe.train.paintings import Paintings, prepare_paintings
from unimoe.train.plan import HeadPlan
from unimoe.train.stages import HeadMaterial, Stage, apply_trained

_FITTED_PICTURES = 2000
"""So many are enough for the components."""
_MEASURED = 96
"""Held-out samples of a task."""


class Reader(NamedTuple):
    """The frozen core and its vocabulary."""

    model: OmniModel
    vocabulary: Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingRecipe:
    """What a model's drawing is made of."""

    config: PainterConfig
    reader: Callable[[Path], Reader]
    """From the folder of the run."""
    former_core: Callable[[Path], OmniModel | None]
    """From it: what `former/` was taught on, if that is known."""
    pictures: Callable[[Path, str], UInt8[Tensor, "pictures 3 side side"]]
    """From it and a split: what the decoder learns from, in the painter's size."""
    tasks: Callable[[Path, str], Manifest]
    """Likewise: drawing tasks."""
    prepared: Callable[[Path], Path]
    """From it: where states and latents are kept."""
    shares: Mapping[str, float]
    """Task -> share of a batch."""
    drafted: Collection[str]
    """Tasks whose words say what is to be seen, with a source or without: the draft learns them."""
    vae_plan: HeadPlan
    draft_plan: HeadPlan
    image_plan: HeadPlan

    def stages(self) -> Mapping[str, Stage[Any]]:
        """The stages, in their order."""
        return {
            "vae": Stage(
                caption="latents to pictures",
                plan=self.vae_plan,
                material=self._vae_material,
            ),
            "draft": Stage(
                caption="words to a draft of latents, on the frozen core",
                plan=self.draft_plan,
                material=self._draft_material,
            ),
            "image": Stage(
                caption="words and pictures to latents, on the frozen core",
                plan=self.image_plan,
                material=self._image_material,
                finish=_export,
            ),
        }

    def _vae_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        pictures, held_out = self.pictures(runs, "train"), self.pictures(runs, "test")
        former = _former(runs)
        if former is None:
            vae = PictureVAE(self.config.vae)
            vae.fit(pictures[:: max(1, len(pictures) // _FITTED_PICTURES)].float() / 255)
        else:
            vae = former.vae
        return HeadMaterial(
            model=vae,
            batch_of=PictureBatches(pictures, plan.batch_size, plan.seed),
            objective=rebuilding_objective,
            evaluation=lambda vae: rebuilding_scores(vae, held_out),
        )

    def _draft_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        painter, paintings = self._begun(runs)
        shares = {task: self.shares[task] for task in self.drafted}
        return HeadMaterial(
            model=painter,
            batch_of=DrawingBatches(paintings["train"], shares, plan.batch_size, plan.seed),
            objective=draft_objective,
            evaluation=lambda painter: losses_by_task(
                painter, paintings["test"], draft_objective, sorted(shares)
            ),
        )

    def _image_material(self, plan: HeadPlan, runs: Path) -> HeadMaterial:
        painter, paintings = self._begun(runs)
        _take_trained(painter, runs, "draft")
        return HeadMaterial(
            model=painter,
            batch_of=DrawingBatches(paintings["train"], self.shares, plan.batch_size, plan.seed),
            objective=drawing_objective,
            evaluation=lambda painter: losses_by_task(
                painter, paintings["test"], drawing_objective, sorted(self.shares)
            ),
        )

    def _begun(self, runs: Path) -> tuple[Painter, dict[str, Paintings]]:
        """A painter with its autoencoder and statistics of states; samples by split."""
        painter = _former(runs) or Painter(self.config)
        _take_trained(painter.vae, runs, "vae")
        reader = self.reader(runs)
        paintings = {
            split: self._paintings(runs, split, painter, reader) for split in ("train", "test")
        }
        states = paintings["train"].states.float()
        if (core := self.former_core(runs)) is None:
            painter.fit_states(states)
        else:
            known = self._paintings(runs, "train", painter, reader._replace(model=core))
            follow_core(painter, known.states.float(), states)
        return painter, paintings

    def _paintings(self, runs: Path, split: str, painter: Painter, reader: Reader) -> Paintings:
        return prepare_paintings(
            self.tasks(runs, split),
            reader.model,
            reader.vocabulary,
            painter,
            self.prepared(runs),
            tasks=self.shares,
        )


def rebuilding_scores(
    vae: PictureVAE, pictures: UInt8[Tensor, "pictures 3 side side"]
) -> dict[str, float]:
    """PSNR of held-out pictures in dB; that of the components alone beside it."""
    wanted = pictures.float() / 255
    latents = vae.encode(wanted)
    with mixed_precision("cpu"):
        rebuilt = vae.decode(latents).float()
    return {
        "psnr_db": float(psnr(rebuilt, wanted).mean()),
        "linear_psnr_db": float(psnr(vae.linear(latents).clamp(0, 1), wanted).mean()),
    }


def losses_by_task(
    painter: Painter,
    held_out: Paintings,
    objective: Callable[[Painter, DrawingBatch], HeadLoss],
    tasks: Sequence[str],
) -> dict[str, float]:
    """Of the same samples, times and noises every time; of the tasks that have any."""
    found = {}
    for task in tasks:
        own = [number for number, name in enumerate(held_out.tasks) if name == task]
        if own:
            chosen = torch.tensor(own[:: max(1, len(own) // _MEASURED)][:_MEASURED])
            batch = drawing_batch(held_out, chosen, torch.Generator().manual_seed(0))
            found[task] = float(objective(painter, batch).total)
    return found


def _former(runs: Path) -> Painter | None:
    return read_head(runs / "former", PAINTER, PainterConfig, Painter)


def _take_trained(part: nn.Module, runs: Path, stage: str) -> None:
    """What a stage learned; where it was not run, a former painter's stays as it is."""
    has_former = (runs / "former" / f"{PAINTER}.json").exists()
    if (runs / stage / TRAINED_NAME).exists() or not has_former:
        apply_trained(part, runs / stage)


def _export(painter: Painter, runs: Path) -> None:
    write_head(painter, painter.config, runs / PAINTER, PAINTER)
