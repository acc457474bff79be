"""What learns and how: parameters by name pattern, AdamW, clipping, an average of the weights.

In:  a model, a plan.  Out: `Learner`, whose `step` applies the gradients of one step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unimoe.errors import ConfigError
from unimoe.train.plan import LearningPlan, lr_factor


class Learning(NamedTuple):
    """One learned parameter."""

    parameter: nn.Parameter
    pattern: str
    lr_factor: float


def choose_learned(model: nn.Module, learns: Mapping[str, float]) -> dict[str, Learning]:
    """Learned parameters by name; gradients of all others are switched off.

    Raises:
        ConfigError: a pattern fits no parameter, or only ones that an earlier pattern took.
    """
    names = [name for name, _ in model.named_parameters()]
    learned: dict[str, Learning] = {}
    taken_by = dict.fromkeys(learns, 0)
    for name, parameter in model.named_parameters():
        pattern = next((p for p in learns if fnmatchcase(name, p)), None)
        parameter.requires_grad_(pattern is not None)
        if pattern is not None:
            learned[name] = Learning(parameter, pattern, learns[pattern])
            taken_by[pattern] += 1
    for pattern, count in taken_by.items():
        if count == 0:
            fits = sum(fnmatchcase(name, pattern) for name in names)
            why = "earlier patterns took all it fits" if fits else "it fits no parameter"
            raise ConfigError(f"train.learns names {pattern!r}: {why} of {_examples(names)}")
    return learned


def learning_report(learned: Mapping[str, Learning], model: nn.Module) -> str:
    """A line a pattern: how many tensors and numbers learn, at which rate."""
    total = sum(parameter.numel() for parameter in model.parameters())
    lines = []
    for pattern in dict.fromkeys(entry.pattern for entry in learned.values()):
        entries = [entry for entry in learned.values() if entry.pattern == pattern]
        numbers = sum(entry.parameter.numel() for entry in entries)
        lines.append(
            f"{pattern}: {len(entries)} tensors, {numbers:,} parameters, "
            f"lr x {entries[0].lr_factor:g}"
        )
    numbers = sum(entry.parameter.numel() for entry in learned.values())
    lines.append(f"learned: {numbers:,} of {total:,} parameters ({numbers / total:.2%})")
    return "\n".join(lines)


class Learner:
    """AdamW over the learned parameters; matrices decay, vectors do not."""

    def __init__(self, model: nn.Module, plan: LearningPlan) -> None:
        self.plan = plan
        self.learned = choose_learned(model, plan.learns)
        alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for entry in self.learned.values():
            decays = entry.parameter.dim() >= 2
            alike.setdefault((entry.lr_factor, decays), []).append(entry.parameter)
        groups = [
            {
                "params": parameters,
                "lr_factor": factor,
                "weight_decay": plan.weight_decay if decays else 0.0,
            }
            for (factor, decays), parameters in alike.items()
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=plan.lr, betas=plan.betas, eps=plan.eps, fused=True
        )
        self.average: dict[str, Tensor] | None = None
        if plan.ema_decay is not None:
            self.average = self._weights()
        # A resumed run is built as it began, and only then takes its state back.
        self._start = self._weights() if plan.start_share else None

    def clip(self) -> float:
        """Norm of all gradients before it is bounded."""
        parameters = [entry.parameter for entry in self.learned.values()]
        return float(nn.utils.clip_grad_norm_(parameters, self.plan.clip_norm))

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, step: int) -> None:
        """Apply the gradients with the rates of this step, and drop them."""
        factor = lr_factor(self.plan, step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.lr * group["lr_factor"] * factor
        self.optimizer.step()
        self.forget()
        if self.average is not None and self.plan.ema_decay is not None:
            # Young averages are short, or the random start would stay in them.
            decay = min(self.plan.ema_decay, (1 + step) / (10 + step))
            for name, entry in self.learned.items():
                self.average[name].lerp_(entry.parameter.detach(), 1 - decay)

    @contextlib.contextmanager
    def handed_on(self) -> Iterator[None]:
        """The weights that are handed on in the model, for as long as this lasts."""
        if self.average is None and self._start is None:
            yield
            return
        with torch.no_grad():
            kept = self._weights()
            self._put(self._mixed(self.average or kept))
            try:
                yield
            finally:
                self._put(kept)

    def tensors(self) -> dict[str, Tensor]:
        """All that a state must hold, by name: weights, moments, average."""
        found: dict[str, Tensor] = {}
        for name, entry in self.learned.items():
            found[f"weight/{name}"] = entry.parameter.detach()
            for key, value in self.optimizer.state.get(entry.parameter, {}).items():
                found[f"{key}/{name}"] = value
            if self.average is not None:
                found[f"average/{name}"] = self.average[name]
        return found

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            ConfigError: they are of other parameters.
        """
        weights = {n.partition("/")[2] for n in tensors if n.startswith("weight/")}
        if weights != set(self.learned):
            differing = sorted(weights ^ set(self.learned))
            raise ConfigError(
                f"the saved state does not learn what the plan learns: {len(differing)} parameters "
                f"differ, such as {differing[0]}. Resume with the same plan, or start anew"
            )
        for name, entry in self.learned.items():
            entry.parameter.copy_(tensors[f"weight/{name}"])
            keys = [k for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}/{name}" in tensors]
            self.optimizer.state[entry.parameter] = {
                key: tensors[f"{key}/{name}"].clone() for key in keys
            }
            if self.average is not None:
                self.average[name].copy_(tensors[f"average/{name}"])

    def _weights(self) -> dict[str, Tensor]:
        return {name: entry.parameter.detach().clone() for name, entry in self.learned.items()}

    def _mixed(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """With their share of the start."""
        if self._start is None:
            return weights
        share = self.plan.start_share
        return {name: torch.lerp(weights[name], own, share) for name, own in self._start.items()}

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, entry in self.learned.items():
            entry.parameter.copy_(weights[name])


def _examples(names: list[str]) -> str:
    shown = ", ".join(names[:: max(len(names) // 4, 1)][:4])
    return f"{len(names)} parameters, such as {shown}"
