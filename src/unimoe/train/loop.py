"""The training loop: steps until the plan is done, each on the record, any of them resumable.

In:  a model, sources of samples, a plan, a folder.  Out: in the folder

    run.json              the plan and the commit
    journal.jsonl         a line a step
    state-*.safetensors   what `resume` goes on from
    trained.safetensors   the learned tensors, when the plan is done

A killed run that is resumed takes the same steps, bit for bit, that it would have taken (on the
same machine, with as many threads).
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from unimoe.config import to_dict
from unimoe.errors import TrainingError
from unimoe.infer.expert_use import ExpertUseByGroup
from unimoe.model.omni import OmniModel
from unimoe.train.batches import Batches, SampleSource, TrainBatch, validation_batches
from unimoe.train.commit import current_commit
from unimoe.train.guard import Guard, Verdict
from unimoe.train.journal import Journal
from unimoe.train.lock import held_lock
from unimoe.train.losses import ForwardLoss, Objective, Tally, forward_loss, num_scored
from unimoe.train.optim import Learner, learning_report
from unimoe.train.parallel import ALONE, Workers
from unimoe.train.plan import LearningPlan, Plan
from unimoe.train.state import load_state, save_state, state_paths, write_whole

TRAINED_NAME = "trained.safetensors"
RUN_NAME = "run.json"

Evaluation: TypeAlias = Callable[[OmniModel], Mapping[str, float]]
Record: TypeAlias = dict[str, Any]


class Outcome(NamedTuple):
    """How a run ended."""

    steps: int
    """Done in all, those before resuming too."""
    reason: Literal["finished", "finished before", "stopped"]
    folder: Path


def train(
    model: OmniModel,
    sources: Mapping[str, SampleSource],
    plan: Plan,
    folder: Path,
    *,
    validation: Mapping[str, SampleSource] | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    objective: Objective = forward_loss,
    resume: bool = False,
    on_record: Callable[[Record], None] = lambda record: None,
    workers: Workers = ALONE,
) -> Outcome:
    """Train until the plan is done, or until Ctrl-C or SIGTERM, which save a state first.

    Args:
        model: what learns and what is frozen follows from the plan.
        sources: by the names of the plan's mixture.
        plan: of this stage.
        folder: of this run alone.
        validation: sources whose loss is taken every `plan.evaluate_every` steps.
        evaluations: other measurements taken then, by name.
        objective: what a forward is to minimise; the next token, unless a stage aligns.
        resume: go on from the newest state in the folder, or begin where there is none.
        on_record: is given every line of the journal, in the first process.
        workers: the processes that share this run; all of them call this.

    Raises:
        TrainingError: the folder holds a run and `resume` is not asked, or it is of another plan;
            the loss diverged more often than the plan allows; the disk is full.
        ConfigError: the plan names parameters or sources that are not there.
        DataError: a source cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_of(folder, workers), torch.random.fork_rng(devices=[]):
        run = _Run(
            model,
            sources,
            plan,
            folder,
            objective=objective,
            resume=resume,
            on_record=on_record,
            workers=workers,
        )
        return run.until_done(validation or {}, evaluations or {})


class _Run:
    """A run between two steps."""

    def __init__(
        self,
        model: OmniModel,
        sources: Mapping[str, SampleSource],
        plan: Plan,
        folder: Path,
        *,
        objective: Objective,
        resume: bool,
        on_record: Callable[[Record], None],
        workers: Workers,
    ) -> None:
        self.model, self.plan, self.folder = model, plan, folder
        self.objective = objective
        self.batches = Batches(sources, plan, model.config)
        self.learner = Learner(model, plan)
        self.guard = Guard()
        self.step = 0
        self.on_record = on_record
        self.workers = workers
        state = newest_state(folder, plan, resume=resume)
        workers.wait()  # the first one must not write before all have looked
        if state is not None:
            self._take_back(state, everything=True)
        else:
            torch.manual_seed(plan.seed)
            if workers.is_first:
                write_json(folder / RUN_NAME, {"commit": current_commit(), "train": to_dict(plan)})
            self._save()
        workers.require_equal(self.learner.tensors(), "weights")
        self.journal = Journal(folder, steps_done=self.step) if workers.is_first else None

    def until_done(
        self, validation: Mapping[str, SampleSource], evaluations: Mapping[str, Evaluation]
    ) -> Outcome:
        """All steps that are left."""
        self.model.train()
        if self.step == 0:
            report = learning_report(self.learner.learned, self.model)
            self._write({"step": 0, "event": "began", "learns": report.splitlines()})
        with contextlib.ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(contextlib.closing(self.journal))
            stopping = stack.enter_context(stop_signals())
            while self.step < self.plan.steps and not self._any(stopping):
                self._one_step()
                plan, is_last = self.plan, self.step == self.plan.steps
                if plan.evaluate_every and (self.step % plan.evaluate_every == 0 or is_last):
                    self._evaluate(validation, evaluations)
                if self.step % plan.save_every == 0 or is_last:
                    self._save()
            if self.step < self.plan.steps:
                self._save()
                return Outcome(self.step, "stopped", self.folder)
        self._hand_on()
        return Outcome(self.step, "finished", self.folder)

    def _any(self, stopping: threading.Event) -> bool:
        """Whether any process was asked to stop."""
        return self.workers.sums(float(stopping.is_set())) != [0.0]

    def _one_step(self) -> None:
        began, step, plan = time.monotonic(), self.step, self.plan
        rank, world = self.workers.rank, self.workers.world
        if world > 1:  # other noise for other rows
            torch.manual_seed((plan.seed * plan.steps + step) * world + rank)
        tally, balance, z = self._gradients(self.batches.step_batches(rank, world))
        gradient_norm = self.learner.clip()
        weight = plan.balance_weight_at(step)
        record = tally.record()
        loss = record["text"] + weight * balance + plan.z_loss_weight * z
        verdict = self.guard.judge(loss, gradient_norm, plan.guard)
        if verdict.action == "apply":
            self.learner.step(step)
        else:
            self.learner.forget()
        seconds = time.monotonic() - began
        self._write(
            {
                "step": step,
                "loss": loss,
                **record,
                "balance": balance,
                **({"z": z} if plan.z_loss_weight else {}),
                "gradient_norm": gradient_norm,
                "lr": plan.lr_at(step),
                "balance_weight": round(weight, 6),
                "epochs": self.batches.epochs,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(tally.tokens / seconds, 1),
                **({"not_applied": verdict.reason} if verdict.action != "apply" else {}),
            }
        )
        self.step += 1
        if verdict.action in ("roll back", "give up"):
            self._cure(verdict)

    def _gradients(self, batches: list[TrainBatch]) -> tuple[Tally, float, float]:
        """Gradients of a step, added up over its batches; its counts and its router losses."""
        plan, tally, balance, z = self.plan, Tally(), 0.0, 0.0
        use: ExpertUseByGroup | None = None
        weight = plan.balance_weight_at(self.step)
        own = (float(sum(map(num_scored, batches))), float(len(batches)))
        scored, forwards = self.workers.sums(*own)
        for batch in batches:
            loss = self.objective(self.model, batch, with_z=plan.z_loss_weight > 0)
            routers = weight * loss.balance + plan.z_loss_weight * loss.z
            # Every scored token of a step counts alike, in whichever batch it is.
            total = loss.text_sum / max(scored, 1.0) + routers / forwards
            if total.requires_grad:  # text has none to give while only connectors learn
                total.backward()  # type: ignore[no-untyped-call]
            balance += float(loss.balance.detach()) / forwards
            z += float(loss.z.detach()) / forwards
            tally.add(batch, loss, self.model)
            use = self._count_expert_use(use, loss)
        if use is not None:
            self._write({"step": self.step, **use.record()})
        self.workers.add_gradients([entry.parameter for entry in self.learner.learned.values()])
        balance, z = self.workers.sums(balance, z)
        return self._joined(tally), balance, z

    def _joined(self, tally: Tally) -> Tally:
        """The counts of all processes."""
        if self.workers.world == 1:
            return tally
        joined = Tally()
        for state in self.workers.gathered(tally.state()):
            joined.join(state)
        return joined

    def _count_expert_use(
        self, use: ExpertUseByGroup | None, loss: ForwardLoss
    ) -> ExpertUseByGroup | None:
        """The counts of this step, when it is one whose expert use goes on record."""
        moe, every = self.model.config.core.moe, self.plan.expert_use_every
        if moe is None or not loss.routing or not every or (self.step + 1) % every:
            return None
        use = use or ExpertUseByGroup(moe.router, len(loss.routing), loss.groups.device)
        use.add(loss.routing, loss.groups)
        return use

    def _evaluate(
        self, validation: Mapping[str, SampleSource], evaluations: Mapping[str, Evaluation]
    ) -> None:
        began, found, losses = time.monotonic(), {}, {}
        self.model.eval()
        with self.learner.handed_on():
            for name, source in validation.items():
                losses[name] = self._validated(source).record()
            for name, evaluation in evaluations.items():
                if self.workers.is_first:
                    found[name] = dict(evaluation(self.model))
        self.workers.wait()
        self.model.train()
        record: Record = {"step": self.step - 1}
        if losses:
            record["validation"] = losses
        if found:
            record["evaluations"] = found
        if len(record) > 1:
            self._write(record | {"seconds": round(time.monotonic() - began, 3)})

    @torch.no_grad()
    def _validated(self, source: SampleSource) -> Tally:
        tally, workers = Tally(), self.workers
        for batch in validation_batches(
            source, self.plan, self.model.config, workers.rank, workers.world
        ):
            tally.add(batch, self.objective(self.model, batch, with_z=False), self.model)
        return self._joined(tally)

    def _cure(self, verdict: Verdict) -> None:
        """Go back to the last good weights; the samples that made them sick are not repeated."""
        good = state_paths(self.folder)[-1]
        if verdict.action == "give up":
            raise TrainingError(
                f"step {self.step - 1}: {verdict.reason}, after {self.plan.guard.max_rollbacks} "
                f"returns to earlier weights; {good} is the last good state. Lower train.lr, or "
                "look in the journal for what the last steps read"
            )
        self._take_back(good, everything=False)
        event = {"event": "rolled back", "to": good.name, "reason": verdict.reason}
        self._write({"step": self.step - 1, **event})

    def _take_back(self, path: Path, *, everything: bool) -> None:
        state = load_state(path)
        self.learner.restore(state.tensors)
        if everything:
            self.step = state.step
            self.batches.restore(state.progress["batches"])
            self.guard = Guard.restored(state.progress["guard"])
            torch.set_rng_state(state.random_generator)

    def _save(self) -> None:
        if self.guard.bad_in_a_row:
            return  # what is saved now might be what has to be taken back
        if self.workers.is_first:
            progress = {"batches": self.batches.state(), "guard": self.guard.state()}
            keep = self.plan.keep_states
            save_state(self.folder, self.step, self.learner.tensors(), progress, keep=keep)
        self.workers.wait()  # any of them may have to take it back

    def _hand_on(self) -> None:
        if self.workers.is_first:
            with self.learner.handed_on():
                learned = {name: e.parameter.detach() for name, e in self.learner.learned.items()}
                write_whole(learned, self.folder / TRAINED_NAME, {"steps": str(self.step)})
        self.workers.wait()

    def _write(self, record: Record) -> None:
        if self.journal is not None:
            self.journal.write(record)
            self.on_record(record)


def _lock_of(folder: Path, workers: Workers) -> contextlib.AbstractContextManager[object]:
    """One run a folder; of its processes the first holds the lock."""
    if not workers.is_first:
        return contextlib.nullcontext()
    return held_lock(folder / ".lock", TrainingError)


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def newest_state(folder: Path, plan: LearningPlan, *, resume: bool) -> Path | None:
    """What a run goes on from; None: it begins.

    Raises:
        TrainingError: the folder holds a run that is not to be resumed, or of another plan.
    """
    states = state_paths(folder)
    if not states:
        return None
    if not resume:
        raise TrainingError(
            f"{folder} holds a run of {int(states[-1].stem.split('-')[1])} steps; "
            "resume it, or give another folder"
        )
    _require_same_plan(plan, folder)
    return states[-1]


def _require_same_plan(plan: LearningPlan, folder: Path) -> None:
    """More steps or other intervals are no other plan; whatever shapes the steps is.

    Raises:
        TrainingError: the run in the folder began with another plan.
    """
    saved = json.loads((folder / RUN_NAME).read_text("utf-8"))["train"]
    free = {"save_every", "keep_states", "evaluate_every", "evaluate_tokens", "expert_use_every"}
    ours = to_dict(plan)
    differing = [name for name in ours if name not in free and ours[name] != saved.get(name)]
    if differing:
        name = differing[0]
        raise TrainingError(
            f"{folder}: train.{name} is {ours[name]!r}, the run began with {saved.get(name)!r}; "
            "resume with the same plan, or give another folder"
        )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file that is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    partial.replace(path)
