"""What a training run does: frozen values, written beside the weights it makes.

In:  fields, or `--set train.lr=3e-4`.  Out: `Plan` of the language core, `HeadPlan` of what speaks
and draws; rates and weights of every step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from unimoe.errors import ConfigError

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardPlan:
    """When a run is taken for sick, and how often it may be cured."""

    spike_factor: float = 3.0
    """A loss above this many times the median of the last `window` steps is a spike."""
    window: int = 64
    """Steps the median is over; there are no spikes before that many are done."""
    patience: int = 3
    """Bad steps in a row (spikes, or losses and gradients that are no numbers) before the last
    good state is taken back; until then such a step changes no weight."""
    max_rollbacks: int = 2
    """More of them end the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningPlan:
    """What learns, how fast, and what is kept of it: the same whatever it learns from."""

    steps: int
    learns: Mapping[str, float]
    """Patterns of parameter names (`vision.aligner.*`) -> factor on the learning rate; the first
    pattern that fits a name counts, everything else is frozen."""
    lr: float
    warmup_steps: int = 0
    schedule: Schedule = "cosine"
    final_lr_fraction: float = 0.1
    """Of lr, after the last step."""
    weight_decay: float = 0.01
    """Of matrices; vectors (norms, biases) have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    clip_norm: float = 1.0
    ema_decay: float | None = None
    """Average of the learned weights over steps, which is what the run hands on; None: no."""
    start_share: float = 0.0
    """Share of the weights it began with in what the run hands on: of weights that go on from
    trained ones, and those, the mean can be better than either (docs/log.md)."""
    seed: int = 0
    save_every: int = 50
    keep_states: int = 2
    evaluate_every: int = 200
    """0: never."""
    guard: GuardPlan = dataclasses.field(default_factory=GuardPlan)

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "keep_states"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}; need 1 or more")
        if not self.learns:
            raise ConfigError("train.learns must name something")
        if not self.lr > 0:
            raise ConfigError(f"train.lr is {self.lr}; need more than 0")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"train.ema_decay is {self.ema_decay}; need 0 to 1, or null")
        if not 0 <= self.start_share < 1:
            raise ConfigError(f"train.start_share is {self.start_share}; need 0 to less than 1")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.lr * lr_factor(self, step)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadPlan(LearningPlan):
    """One stage of a head: batches of so many examples."""

    batch_size: int = 16

    def __post_init__(self) -> None:
        LearningPlan.__post_init__(self)
        if self.batch_size < 1:
            raise ConfigError(f"train.batch_size is {self.batch_size}; need 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(LearningPlan):
    """One stage of the language core: rows of packed tokens of a mixture."""

    tokens_per_step: int
    """Of the rows of a step, padding included; a multiple of row_length."""
    row_length: int = 512
    """Tokens of a packed row."""
    rows_per_forward: int = 1
    """Rows that go through the model at once; the gradients of a step's rows are added up."""
    mixture: Mapping[str, float]
    """Names of sample sources -> share of the tokens, in any unit."""
    leave_out_long: bool = False
    """Samples longer than a row: left out and counted in the log; otherwise refused."""
    balance_weight: tuple[float, float] = (0.025, 0.001)
    """Factor on the router balance loss, first and last step; linear between."""
    z_loss_weight: float = 0.0
    evaluate_tokens: int = 4096
    """Of every validation source, the same ones every time."""
    expert_use_every: int = 50
    """Every so many steps expert use by modality and layer goes on record; 0: never."""

    def __post_init__(self) -> None:
        LearningPlan.__post_init__(self)
        for name in ("row_length", "rows_per_forward"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}; need 1 or more")
        if self.tokens_per_step < 1 or self.tokens_per_step % self.row_length:
            raise ConfigError(
                f"train.tokens_per_step is {self.tokens_per_step}; need a multiple of "
                f"train.row_length, {self.row_length}"
            )
        if not self.mixture:
            raise ConfigError("train.mixture must name something")
        if min(self.mixture.values()) <= 0:
            raise ConfigError(f"train.mixture is {dict(self.mixture)}; need shares above 0")

    @property
    def rows_per_step(self) -> int:
        """Packed rows of one optimiser step."""
        return self.tokens_per_step // self.row_length

    def balance_weight_at(self, step: int) -> float:
        """Factor on the balance loss of a step, counted from 0."""
        first, last = self.balance_weight
        return first + (last - first) * step / max(self.steps - 1, 1)


def lr_factor(plan: LearningPlan, step: int) -> float:
    """Linear warm-up from 0, then the schedule down to the final fraction.

    With 2 steps of warm-up, 6 in all, linear to 0: 1/2, 1, 1, 3/4, 1/2, 1/4.
    """
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    done = (step - plan.warmup_steps) / max(plan.steps - plan.warmup_steps, 1)
    falls = {"constant": 0.0, "linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2}
    return 1 - (1 - plan.final_lr_fraction) * falls[plan.schedule]
