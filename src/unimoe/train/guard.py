"""The guard of a run: tells healthy steps from sick ones by their loss and gradient.

In:  loss and gradient norm of every step.  Out: `Verdict`: apply it, skip it, or take back the
last good state.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from unimoe.train.plan import GuardPlan


class Verdict(NamedTuple):
    """What to do with a step, and why."""

    action: Literal["apply", "skip", "roll back", "give up"]
    reason: str = ""


@dataclass(slots=True)
class Guard:
    """History of a run, as far as judging the next step needs it."""

    losses: list[float] = field(default_factory=list)
    bad_in_a_row: int = 0
    rollbacks: int = 0

    def judge(self, loss: float, gradient_norm: float, plan: GuardPlan) -> Verdict:
        """Take one step into account."""
        reason = self._fault(loss, gradient_norm, plan)
        if not reason:
            self.bad_in_a_row = 0
            self.losses = [*self.losses, loss][-plan.window :]
            return Verdict("apply")
        self.bad_in_a_row += 1
        if self.bad_in_a_row < plan.patience:
            return Verdict("skip", reason)
        self.bad_in_a_row = 0
        self.rollbacks += 1
        return Verdict("roll back" if self.rollbacks <= plan.max_rollbacks else "give up", reason)

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Guard:
        """The guard that `state` was taken of."""
        return cls(**state)

    def _fault(self, loss: float, gradient_norm: float, plan: GuardPlan) -> str:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm is {gradient_norm}"
        if len(self.losses) < plan.window:
            return ""
        median = statistics.median(self.losses)
        if loss > plan.spike_factor * median:
            return f"the loss is {loss:.3f}, {loss / median:.1f} times its recent median"
        return ""
