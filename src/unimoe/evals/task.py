"""A task: which samples are asked, how long an answer may be, and who judges it.

In:  a folder of data sets.  Out: `TaskItems`: the samples in a fixed order, with a hash of all
that decides the score: questions, accepted answers and the bytes of every medium.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unimoe.data.manifest import line_of, media_file, read_manifest
from unimoe.data.sample import OmniSample
from unimoe.data.splits import Split, unit_hash
from unimoe.errors import ConfigError, DataError
from unimoe.evals.judges import JudgeKind

Measure = Literal["accuracy", "word error rate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One row of the report."""

    name: str
    """On the command line and in file names."""
    title: str
    """In the report."""
    dataset: str
    """Folder of the data set below the data folder."""
    judge: JudgeKind
    training: str = ""
    """Data set that baselines learn from, if it is another one."""
    split: Split = "test"
    kinds: tuple[str, ...] = ()
    """Samples of these `task` values; none: all of the split."""
    traits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Only samples whose trait has one of these values."""
    by: tuple[str, ...] = ()
    """Traits whose values the report tells apart, such as "voice"."""
    max_new_tokens: int = 8
    most: int | None = None
    """Items, drawn by hash; None: all there are."""
    goal: float | None = None
    """What to reach: at least, or at most for a word error rate; None: reported only."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"task {self.name}: max_new_tokens is {self.max_new_tokens}; need 1+")

    @property
    def measure(self) -> Measure:
        """What its score is."""
        return "word error rate" if self.judge == "wer" else "accuracy"

    def reaches_goal(self, score: float) -> bool | None:
        """None: there is no goal."""
        if self.goal is None:
            return None
        return score <= self.goal if self.judge == "wer" else score >= self.goal

    def holds(self, sample: OmniSample) -> bool:
        """This sample is one of the task's."""
        is_of_kind = not self.kinds or sample.task in self.kinds
        return is_of_kind and all(
            sample.traits.get(trait) in values for trait, values in self.traits.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskItems:
    """The samples a task asks."""

    task: Task
    folder: Path
    """Where their media paths start."""
    samples: tuple[OmniSample, ...]
    num_available: int
    """Before the limit."""
    sha256: str


def load_items(task: Task, data: Path, *, limit: int | None = None, seed: int = 0) -> TaskItems:
    """Read the samples of a task.

    Args:
        task: which.
        data: folder of the data sets.
        limit: take so many, drawn by the hash of their ids; None: all.
        seed: another one draws others.

    Raises:
        DataError: the data set is not there, no sample is of this task, two have the same id, or
            one has no accepted answer or no answer to leave out.
    """
    path = data / task.dataset / f"{task.split}.jsonl"
    if not path.is_file():
        raise DataError(
            f"task {task.name} needs {path}; `unimoe data build {task.dataset}` makes it, "
            "or name another folder with --data"
        )
    manifest = read_manifest(path)
    samples = [sample for sample in manifest if task.holds(sample)]
    _require_usable(samples, task, path)
    num_available = len(samples)
    limit = min((each for each in (limit, task.most) if each is not None), default=None)
    # By hash: the first ones of a file tend to be of one kind.
    samples.sort(key=lambda sample: unit_hash(sample.id, seed))
    # Then side by side: questions on one picture, which is looked at only once.
    samples = sorted(samples[:limit], key=lambda s: unit_hash("".join(s.media_paths), seed))
    return TaskItems(
        task=task,
        folder=manifest.folder,
        samples=tuple(samples),
        num_available=num_available,
        sha256=_digest(samples, manifest.folder),
    )


def _require_usable(samples: list[OmniSample], task: Task, path: Path) -> None:
    if not samples:
        wanted = {"task": task.kinds, **task.traits}
        raise DataError(f"{path}: no sample with {wanted} for task {task.name}; build it anew")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(f"{path}: two samples have the id {sample.id!r}; ids tell items apart")
        seen.add(sample.id)
        if not sample.answers:
            raise DataError(f"{path}: sample {sample.id!r} has no answers; a score needs them")
        if sample.conversations[-1].role != "assistant" or len(sample.conversations) < 2:
            raise DataError(
                f"{path}: sample {sample.id!r} ends with a {sample.conversations[-1].role} turn; "
                "need a question and its answer"
            )


def _digest(samples: list[OmniSample], folder: Path) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(line_of(sample).encode())
        for name in sample.media_paths:
            try:
                data = media_file(folder, name).read_bytes()
            except DataError as error:
                raise DataError(f"sample {sample.id!r}: {error}") from error
            digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()
