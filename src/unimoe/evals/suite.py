"""A suite: the tasks that are reported together, and how a model goes through them.

In:  a model, a `Suite`, `EvalOptions`.  Out: a folder with the records of every task, expert use,
perplexity, and the report.  Called again with the same folder, it goes on where it stopped.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import unimoe
from unimoe.config import to_dict
from unimoe.data.manifest import read_manifest
from unimoe.errors import RequestError
from unimoe.evals.answer import ModelAnswerer
from unimoe.evals.judges import Judges
from unimoe.evals.perplexity import TextScores, perplexity_ratio, score_texts
from unimoe.evals.records import EvalFolder
from unimoe.evals.routing import combined
from unimoe.evals.run import Progress, run_task
from unimoe.evals.task import Task, load_items
from unimoe.evals.tower_states import TowerStates
from unimoe.infer.session import OmniInference
from unimoe.model.omni import OmniModel
from unimoe.train.features import prepared_folder

PERPLEXITY = "perplexity"
_VERSIONS = ("torch", "transformers", "tokenizers", "numpy", "jiwer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two tasks that ask the same questions in two ways."""

    name: str
    title: str
    task: str
    reference: str
    trait: str
    """Its value names the question in both."""
    goal: float | None = None
    """Score of the task as a share of the reference's, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainText:
    """Texts whose perplexity is compared with that of the dense base."""

    dataset: str
    split: str = "test"
    num_texts: int = 200
    max_tokens: int = 256
    """Of a text; what is beyond is not read."""
    goal: float | None = None
    """Perplexity ratio, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """All that is reported of one model."""

    name: str
    tasks: tuple[Task, ...]
    pairs: tuple[Pair, ...] = ()
    text: PlainText | None = None
    speech: tuple[Task, ...] = ()
    """Judged by what an ear makes out of a sound (`evals/speech.py`)."""
    speech_measures: tuple[str, ...] = ()
    """What of speech is measured: names of `evals.speech.MEASURES`."""
    drawing_measures: tuple[str, ...] = ()
    """What of drawing is: names of `evals.drawing.MEASURES`."""
    voices: Mapping[str, str] = field(default_factory=dict)
    """Who reads in the data -> the model's name of that voice."""

    @property
    def names(self) -> tuple[str, ...]:
        """What can be asked for."""
        text = (PERPLEXITY,) if self.text else ()
        measures = (*self.speech_measures, *self.drawing_measures)
        return (*(task.name for task in self.tasks), *text, *measures)

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            RequestError: there is none.
        """
        for task in (*self.tasks, *self.speech):
            if task.name == name:
                return task
        raise RequestError(f"no task {name!r}; {self.name} has {', '.join(self.names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalOptions:
    """How a suite is run."""

    data: Path
    """Folder of the data sets."""
    tasks: tuple[str, ...] = ()
    """None: all."""
    limit: int | None = None
    """Items of a task, drawn by hash; None: all."""
    seed: int = 0
    """Of that draw."""
    batch_size: int = 16
    top_p_routing: float | None = None
    states: Path | None = None
    """Folder of prepared data whose tower states are used and added to; None: computed, exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What judging needs beside the model; read when it is needed."""

    judges: Judges
    base: OmniModel | None = None
    """The dense base, for the perplexity."""


def evaluate(
    session: OmniInference,
    suite: Suite,
    options: EvalOptions,
    folder: EvalFolder,
    tools: Tools,
    *,
    name: str = "model",
    command: str = "",
    progress: Progress | None = None,
) -> None:
    """Run the wanted tasks of a suite.

    Args:
        session: the model.
        suite: the tasks.
        options: which, and how.
        folder: of the records; new, or of this very evaluation.
        tools: judges, and the dense base if the perplexity is wanted.
        name: of the model in the report.
        command: that repeats the evaluation, for the report.
        progress: told about every window of items.

    Raises:
        RequestError: an unknown task, or the folder holds another evaluation.
        DataError: a data set is missing or its samples cannot be scored.
    """
    wanted = wanted_names(suite, options.tasks)
    folder.begin(
        model={"name": name, "sha256": fingerprint(session.model)},
        options=_answer_options(options, session.model),
        about={"suite": suite.name, "command": command, "machine": _machine()},
    )
    tasks = [task for task in suite.tasks if task.name in wanted]
    # All are read before the first is asked: what is missing is told at once.
    loaded = [load_items(t, options.data, limit=options.limit, seed=options.seed) for t in tasks]
    with contextlib.closing(tower_states(session, options)) as states:
        answerer = ModelAnswerer(
            session.model,
            session.vocabulary,
            batch_size=options.batch_size,
            top_p_routing=options.top_p_routing,
            states=states,
        )
        for items in loaded:
            run_task(items, answerer, tools.judges, folder, progress=progress)
            _write_expert_use(suite, folder)
    if PERPLEXITY in wanted and suite.text is not None and folder.result(PERPLEXITY) is None:
        if tools.base is None:
            raise RequestError("the perplexity is a ratio; give the dense base of the model")
        texts = _texts(suite.text, options.data, session)
        ours = score_texts(session.model, texts, top_p_routing=options.top_p_routing)
        base = score_texts(tools.base, texts)
        folder.write_result(PERPLEXITY, _perplexity_result(ours, base))


def tower_states(session: OmniInference, options: EvalOptions) -> TowerStates:
    """States of the model's towers, kept if the options say so.

    Raises:
        DataError: another process writes into their folder.
    """
    if options.states is None:
        return TowerStates(session.model)
    folder = prepared_folder(options.states, session.model, session.vocabulary)
    return TowerStates(session.model, folder)


def wanted_names(suite: Suite, names: Sequence[str]) -> tuple[str, ...]:
    """The names asked for, or all.

    Raises:
        RequestError: one is unknown.
    """
    for name in names:
        if name not in suite.names:
            raise RequestError(f"no task {name!r}; {suite.name} has {', '.join(suite.names)}")
    return tuple(name for name in suite.names if name in names) or suite.names


def fingerprint(model: OmniModel) -> str:
    """Hash of configuration and weights."""
    digest = hashlib.sha256(json.dumps(to_dict(model.config), sort_keys=True).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        flat = parameter.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_expert_use(suite: Suite, folder: EvalFolder) -> None:
    """Of all windows of all tasks so far."""
    records = [
        window.expert_use
        for task in suite.tasks
        for window in folder.read(task.name).windows
        if window.expert_use is not None
    ]
    total = combined(records)
    if total is not None:
        folder.write_expert_use(total)


def _texts(text: PlainText, data: Path, session: OmniInference) -> list[list[int]]:
    """Token ids of the plain texts: what is said in each sample, turn after turn."""
    manifest = read_manifest(data / text.dataset / f"{text.split}.jsonl")
    texts = []
    for sample in manifest:
        words = "\n".join(turn.text for turn in sample.conversations)
        ids = session.vocabulary.encode(words)[: text.max_tokens]
        if len(ids) > 1:
            texts.append(ids)
        if len(texts) == text.num_texts:
            break
    return texts


def _perplexity_result(ours: TextScores, base: TextScores) -> dict[str, Any]:
    ratio = dataclasses.asdict(perplexity_ratio(ours, base))
    ratio["interval"] = list(ratio["interval"])
    return {
        **ratio,
        "nats": [round(value, 4) for value in ours.nats],
        "base_nats": [round(value, 4) for value in base.nats],
        "tokens": list(ours.num_tokens),
    }


def _answer_options(options: EvalOptions, model: OmniModel) -> dict[str, Any]:
    return {
        "decoding": "greedy",
        "limit": options.limit,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "top_p_routing": options.top_p_routing,
        "tower_states": "exact" if options.states is None else "kept as float16",
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _machine() -> Mapping[str, Any]:
    return {
        "python": platform.python_version(),
        "unimoe": unimoe.__version__,
        **{package: version(package) for package in _VERSIONS},
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
