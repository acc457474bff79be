"""The training loop of what speaks and draws: a module, its own batches, its own losses.

In:  a module, batches by number, an objective, a plan, a folder.  Out: what `train.loop` writes
there, with the same promise: a killed run that is resumed takes the same steps, bit for bit.
Apart from that loop because nothing is packed, mixed by tokens or routed here: a batch follows from
its number alone, so that where a run stands is one number.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unimoe.config import to_dict
from unimoe.errors import TrainingError
from unimoe.train.commit import current_commit
from unimoe.train.guard import Guard
from unimoe.train.journal import Journal
from unimoe.train.lock import held_lock
from unimoe.train.loop import (
    RUN_NAME,
    TRAINED_NAME,
    Outcome,
    Record,
    newest_state,
    stop_signals,
    write_json,
)
from unimoe.train.optim import Learner, learning_report
from unimoe.train.plan import HeadPlan
from unimoe.train.state import load_state, save_state, state_paths, write_whole

BatchT = TypeVar("BatchT", contravariant=True)
HeadT = TypeVar("HeadT", bound=nn.Module, contravariant=True)
_BUFFER = "buffer/"


class HeadLoss(NamedTuple):
    """What a batch has to say."""

    total: Float[Tensor, ""]
    """What is minimised."""
    parts: Mapping[str, float]
    """For the record."""


@runtime_checkable
class HeadObjective(Protocol[HeadT, BatchT]):
    """What a batch is to minimise."""

    def __call__(self, head: HeadT, batch: BatchT, /) -> HeadLoss:
        """Run the head over a batch."""
        ...


def train_head(
    head: HeadT,
    batch_of: Callable[[int], BatchT],
    objective: HeadObjective[HeadT, BatchT],
    plan: HeadPlan,
    folder: Path,
    *,
    evaluation: Callable[[HeadT], Mapping[str, float]] | None = None,
    resume: bool = False,
    on_record: Callable[[Record], None] = lambda record: None,
) -> Outcome:
    """Train until the plan is done, or until Ctrl-C or SIGTERM, which save a state first.

    Args:
        head: what learns and what is frozen follows from the plan; its buffers are saved too.
        batch_of: the batch of a step, the same whenever it is asked for.
        objective: what a batch is to minimise; its noise must come from torch's generator.
        plan: of this stage.
        folder: of this run alone.
        evaluation: measurements taken every `plan.evaluate_every` steps and at the end.
        resume: go on from the newest state in the folder, or begin where there is none.
        on_record: is given every line of the journal.

    Raises:
        TrainingError: the folder holds a run and `resume` is not asked, or it is of another plan;
            the loss diverged more often than the plan allows; the disk is full.
        ConfigError: the plan names parameters that are not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = held_lock(folder / ".lock", TrainingError)
    with lock, torch.random.fork_rng(devices=[]):
        run = _Run(head, batch_of, objective, plan, folder, resume=resume, on_record=on_record)
        return run.until_done(evaluation)


class _Run(Generic[HeadT, BatchT]):
    """A run between two steps."""

    def __init__(
        self,
        head: HeadT,
        batch_of: Callable[[int], BatchT],
        objective: HeadObjective[HeadT, BatchT],
        plan: HeadPlan,
        folder: Path,
        *,
        resume: bool,
        on_record: Callable[[Record], None],
    ) -> None:
        self.head, self.batch_of, self.objective = head, batch_of, objective
        self.plan, self.folder, self.on_record = plan, folder, on_record
        self.learner, self.guard, self.step = Learner(head, plan), Guard(), 0
        state = newest_state(folder, plan, resume=resume)
        if state is not None:
            self._take_back(state, everything=True)
        else:
            torch.manual_seed(plan.seed)
            write_json(folder / RUN_NAME, {"commit": current_commit(), "train": to_dict(plan)})
            self._save()
        self.journal = Journal(folder, steps_done=self.step)

    def until_done(self, evaluation: Callable[[HeadT], Mapping[str, float]] | None) -> Outcome:
        """All steps that are left."""
        plan = self.plan
        self.head.train()
        with contextlib.closing(self.journal), stop_signals() as stopping:
            if self.step == 0:
                report = learning_report(self.learner.learned, self.head)
                self._write({"step": 0, "event": "began", "learns": report.splitlines()})
            while self.step < plan.steps and not stopping.is_set():
                self._one_step()
                is_last = self.step == plan.steps
                is_due = plan.evaluate_every and self.step % plan.evaluate_every == 0
                if evaluation is not None and (is_due or is_last):
                    self._evaluate(evaluation)
                if self.step % plan.save_every == 0 or is_last:
                    self._save()
            if self.step < plan.steps:
                self._save()
                return Outcome(self.step, "stopped", self.folder)
        with self.learner.handed_on():
            learned = {n: e.parameter.detach() for n, e in self.learner.learned.items()}
            write_whole(
                learned | self._buffers(), self.folder / TRAINED_NAME, {"steps": str(self.step)}
            )
        return Outcome(self.step, "finished", self.folder)

    def _one_step(self) -> None:
        began, step, plan = time.monotonic(), self.step, self.plan
        loss = self.objective(self.head, self.batch_of(step))
        loss.total.backward()  # type: ignore[no-untyped-call]
        gradient_norm = self.learner.clip()
        verdict = self.guard.judge(float(loss.total.detach()), gradient_norm, plan.guard)
        if verdict.action == "apply":
            self.learner.step(step)
        else:
            self.learner.forget()
        self._write(
            {
                "step": step,
                "loss": float(loss.total.detach()),
                "parts": dict(loss.parts),
                "gradient_norm": gradient_norm,
                "lr": plan.lr_at(step),
                "seconds": round(time.monotonic() - began, 3),
                **({"not_applied": verdict.reason} if verdict.action != "apply" else {}),
            }
        )
        self.step += 1
        if verdict.action == "give up":
            raise TrainingError(
                f"step {step}: {verdict.reason}, after {plan.guard.max_rollbacks} returns to "
                "earlier weights. Lower train.lr, or look in the journal"
            )
        if verdict.action == "roll back":
            good = state_paths(self.folder)[-1]
            self._take_back(good, everything=False)
            event = {"event": "rolled back", "to": good.name, "reason": verdict.reason}
            self._write({"step": step, **event})

    def _evaluate(self, evaluation: Callable[[HeadT], Mapping[str, float]]) -> None:
        self.head.eval()
        with self.learner.handed_on(), torch.no_grad():
            found = dict(evaluation(self.head))
        self.head.train()
        self._write({"step": self.step - 1, "evaluations": {"held out": found}})

    def _take_back(self, path: Path, *, everything: bool) -> None:
        state = load_state(path)
        buffers = {n.removeprefix(_BUFFER): t for n, t in state.tensors.items() if _is_buffer(n)}
        self.learner.restore({n: t for n, t in state.tensors.items() if not _is_buffer(n)})
        for name, buffer in self._buffers().items():
            buffer.copy_(buffers[name])
        if everything:
            self.step = state.step
            self.guard = Guard.restored(state.progress["guard"])
            torch.set_rng_state(state.random_generator)

    def _save(self) -> None:
        if self.guard.bad_in_a_row:
            return  # what is saved now might be what has to be taken back
        tensors = self.learner.tensors()
        tensors |= {_BUFFER + name: buffer for name, buffer in self._buffers().items()}
        progress = {"guard": self.guard.state()}
        save_state(self.folder, self.step, tensors, progress, keep=self.plan.keep_states)

    def _buffers(self) -> dict[str, Tensor]:
        """What of the head changes without learning, such as counts."""
        kept = self.head.state_dict()
        return {name: buffer for name, buffer in self.head.named_buffers() if name in kept}

    def _write(self, record: dict[str, Any]) -> None:
        self.journal.write(record)
        self.on_record(record)


def _is_buffer(name: str) -> bool:
    return name.startswith(_BUFFER)
