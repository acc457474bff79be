"""A run as a person sees it: a bar with an ETA on a terminal, otherwise a line now and then.

In:  the lines of the journal.  Out: text on stderr.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unimoe.train.features import Progress as PreparationProgress
from unimoe.train.plan import LearningPlan

SECONDS_BETWEEN_LINES = 30.0


class RunConsole:
    """Shows a run while it lasts; `show` is what `train` calls with every line."""

    def __init__(self, title: str, plan: LearningPlan, *, has_bar: bool = True) -> None:
        """Show a run.

        Args:
            title: beside the bar.
            plan: how many steps there are.
            has_bar: False in all processes of a run but one.
        """
        self._console = Console(stderr=True)
        self._plan = plan
        self._last_line = -SECONDS_BETWEEN_LINES
        self._first: tuple[int, float] | None = None
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=self._console,
            disable=not (has_bar and self._console.is_terminal),
        )
        self._task = self._bar.add_task(title, total=plan.steps, shown="")

    def __enter__(self) -> RunConsole:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, record: dict[str, Any]) -> None:
        """One line of the journal."""
        if "loss" in record:
            self._show_step(record)
        elif "expert_use" not in record:
            self._console.print(_event_line(record), markup=False, highlight=False, soft_wrap=True)

    def _show_step(self, record: dict[str, Any]) -> None:
        step, now = record["step"], time.monotonic()
        shown = _step_line(record)
        self._bar.update(self._task, completed=step + 1, shown=shown)
        if self._first is None:
            self._first = (step, now)
        is_due = now - self._last_line >= SECONDS_BETWEEN_LINES or step + 1 == self._plan.steps
        if self._console.is_terminal or not is_due:
            return
        self._last_line = now
        done = step - self._first[0]
        left = (now - self._first[1]) / done * (self._plan.steps - step - 1) if done else 0.0
        line = f"step {step + 1}/{self._plan.steps} · {shown} · {left / 60:.0f} min left"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _step_line(record: dict[str, Any]) -> str:
    pieces = [
        f"loss {record['loss']:.3f}",
        f"lr {record['lr']:.1e}",
        f"{record['seconds']:.1f} s",
    ]
    if "tokens_per_second" in record:
        pieces.insert(2, f"{record['tokens_per_second']:.0f} tokens/s")
    pieces += [f"{name} {value:.3f}" for name, value in record.get("parts", {}).items()]
    if "experts_per_token" in record:
        pieces.append(
            f"{record['experts_per_token']:.2f} experts a token, {record['null_share']:.0%} null"
        )
    if "not_applied" in record:
        pieces.append(f"not applied: {record['not_applied']}")
    return " · ".join(pieces)


def _event_line(record: dict[str, Any]) -> str:
    if "validation" in record or "evaluations" in record:
        losses = [
            f"{name} {found['text']:.3f}" for name, found in record.get("validation", {}).items()
        ]
        scores = [
            f"{name} {key} {value:.3f}"
            for name, found in record.get("evaluations", {}).items()
            for key, value in found.items()
        ]
        return f"step {record['step'] + 1} · validation " + " · ".join(losses + scores)
    if record["event"] == "began":
        return "\n".join(record["learns"])
    return f"step {record['step'] + 1} · {record['event']}: {record.get('reason', '')}"


class PreparationConsole:
    """Shows how far features are prepared; `show` is what `prepare` calls."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._last_line = -SECONDS_BETWEEN_LINES

    def show(self, progress: PreparationProgress) -> None:
        """One chunk of samples is done."""
        now, is_done = time.monotonic(), progress.done == progress.total
        if now - self._last_line < SECONDS_BETWEEN_LINES and not is_done:
            return
        self._last_line = now
        line = f"preparing {progress.name}: {progress.done}/{progress.total} samples"
        if progress.bad:
            line += f", {progress.bad} of them unusable"
        line += f" · {progress.seconds / 60:.1f} min · {progress.seconds_left / 60:.1f} min left"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
