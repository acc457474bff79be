"""Recipes as named stages: each says what it is for, its plan, and where model and data come from.

In:  the stages of a recipe, a folder.  Out: in it, a folder a stage with what `train` writes.
A stage builds on what the stages before it left in their folders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unimoe.config import overridden
from unimoe.errors import ConfigError, TrainingError
from unimoe.model.omni import OmniModel
from unimoe.train.batches import SampleSource
from unimoe.train.console import RunConsole
from unimoe.train.head_loop import HeadObjective, train_head
from unimoe.train.loop import TRAINED_NAME, Evaluation, Outcome, Record, train
from unimoe.train.losses import Objective, forward_loss
from unimoe.train.parallel import ALONE, Workers
from unimoe.train.plan import HeadPlan, LearningPlan, Plan

OnRecord: TypeAlias = Callable[[Record], None]
PlanT = TypeVar("PlanT", bound=LearningPlan)

_FINISHED_NAME = "finished"
"""Empty; written last, so that a stage killed before its `finish` is not taken for whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a stage of the language core works with."""

    model: OmniModel
    sources: Mapping[str, SampleSource]
    """At least those that the plan's mixture names."""
    validation: Mapping[str, SampleSource] = field(default_factory=dict)
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    objective: Objective = forward_loss

    def train(
        self, plan: Plan, own: Path, *, resume: bool, on_record: OnRecord, workers: Workers
    ) -> Outcome:
        """Run the stage in its own folder; see `train`."""
        return train(
            self.model,
            self.sources,
            plan,
            own,
            validation=self.validation,
            evaluations=self.evaluations,
            objective=self.objective,
            resume=resume,
            on_record=on_record,
            workers=workers,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadMaterial:
    """What a stage of a head works with."""

    model: nn.Module
    batch_of: Callable[[int], Any]
    objective: HeadObjective[Any, Any]
    evaluation: Callable[[Any], Mapping[str, float]] | None = None

    def train(
        self, plan: HeadPlan, own: Path, *, resume: bool, on_record: OnRecord, workers: Workers
    ) -> Outcome:
        """Run the stage in its own folder, in one process; see `train_head`."""
        if workers.world > 1:
            raise ConfigError(
                f"{own.name} trains a head, which one process does; start it without torchrun"
            )
        return train_head(
            self.model,
            self.batch_of,
            self.objective,
            plan,
            own,
            evaluation=self.evaluation,
            resume=resume,
            on_record=on_record,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage(Generic[PlanT]):
    """One stage of a recipe."""

    caption: str
    plan: PlanT
    material: Callable[[PlanT, Path], Material | HeadMaterial]
    """From the plan with all overrides, and the folder in which every stage has its own."""
    finish: Callable[[Any, Path], None] | None = None
    """What to write besides the learned tensors; is given the trained model and that folder."""
    is_extra: bool = False
    """Run only when it is asked for by name."""


def run_stages(
    recipe: str,
    stages: Mapping[str, Stage[Any]],
    folder: Path,
    *,
    only: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    workers: Workers = ALONE,
) -> list[Outcome]:
    """Run one stage, or all in order; with `resume`, finished ones are passed over.

    With several workers all of them call this.

    Raises:
        ConfigError: there is no such stage, or an override sets nothing that exists.
        TrainingError: as `train`.
    """
    if only is not None and only not in stages:
        raise ConfigError(f"{recipe} has no stage {only!r}; there are {', '.join(stages)}")
    chosen = [
        name for name in stages if name == only or (only is None and not stages[name].is_extra)
    ]
    plans = {n: overridden(stages[n].plan, overrides, root="train") for n in chosen}
    outcomes: list[Outcome] = []
    for name in chosen:
        stage, own = stages[name], folder / name
        if resume and (own / _FINISHED_NAME).exists():
            outcomes.append(Outcome(plans[name].steps, "finished before", own))
            continue
        torch.manual_seed(plans[name].seed)  # of what begins at random
        with workers.first_one_first():
            material = stage.material(plans[name], folder)
        title = f"{recipe} {name}"
        with RunConsole(title, plans[name], has_bar=workers.is_first) as console:
            outcome = material.train(
                plans[name], own, resume=resume, on_record=console.show, workers=workers
            )
        outcomes.append(outcome)
        if outcome.reason == "stopped":
            break
        if workers.is_first:
            if stage.finish is not None:
                apply_trained(material.model, own)
                stage.finish(material.model, folder)
            (own / _FINISHED_NAME).touch()
        workers.wait()
    return outcomes


def trained_tensors(stage_folder: Path, file_name: str = TRAINED_NAME) -> dict[str, Tensor]:
    """What a finished stage learned, by parameter name.

    Raises:
        TrainingError: the stage is not finished, or its file is damaged.
    """
    path = stage_folder / file_name
    if not path.exists():
        raise TrainingError(
            f"{path} is not there; run stage {stage_folder.name!r} to its end first"
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: damaged ({error}); run the stage again") from error


def apply_trained(
    model: nn.Module,
    stage_folder: Path,
    *,
    only: Sequence[str] = ("*",),
    file_name: str = TRAINED_NAME,
) -> None:
    """Put what a finished stage learned into a model, in the precision it was learned in.

    Args:
        model: has the parameters.
        stage_folder: of the stage.
        only: patterns of the names to take.
        file_name: in that folder; else what the stage learned.

    Raises:
        TrainingError: the stage is not finished, or the model lacks one of the tensors.
    """
    parameters = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in trained_tensors(stage_folder, file_name).items():
        if not any(fnmatchcase(name, pattern) for pattern in only):
            continue
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise TrainingError(
                f"{stage_folder / file_name}: {name} {list(tensor.shape)} has no place in this "
                "model; it is of another size or structure"
            )
        parameters[name].data = tensor.to(parameters[name].device)
