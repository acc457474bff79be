"""Ask and judge: a task's samples to somebody, the verdicts into the folder of the evaluation.

In:  `TaskItems`, an `Answerer`, `Judges`.  Out: `ItemRecord` lines, a window of samples at a time;
what is there already is not asked again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from unimoe.data.sample import OmniSample
from unimoe.evals.answer import Answer, Answerer
from unimoe.evals.judges import JudgeKind, Judges
from unimoe.evals.records import EvalFolder, ItemRecord, Records, WindowRecord
from unimoe.evals.task import TaskItems

log = logging.getLogger(__name__)

WINDOW = 128
"""Samples read and sorted by length together: memory for their pixels, and what a kill loses."""

Progress = Callable[[str, int, int], None]
"""Told after every window: name, items done, items in all."""


def run_task(
    items: TaskItems,
    answerer: Answerer,
    judges: Judges,
    folder: EvalFolder,
    *,
    who: str = "",
    progress: Progress | None = None,
) -> Records:
    """Ask all samples of a task that have no answer yet.

    Args:
        items: the samples.
        answerer: whom to ask.
        judges: of the answers.
        folder: where the records go.
        who: name of a baseline; "": the model.
        progress: told about every window.

    Raises:
        RequestError: the folder holds answers to other samples.
        MediaError: a medium cannot be read; no sample is left out silently.
    """
    name = record_name(items.task.name, who)
    folder.begin_task(
        name,
        {
            "dataset": items.task.dataset,
            "split": items.task.split,
            "kinds": items.task.kinds,
            "traits": dict(items.task.traits),
            "judge": items.task.judge,
            "max_new_tokens": items.task.max_new_tokens,
            "num_items": len(items.samples),
            "num_available": items.num_available,
            "sha256": items.sha256,
        },
    )
    num_done = len(folder.read(name).items)
    for start in range(num_done, len(items.samples), WINDOW):
        samples = items.samples[start : start + WINDOW]
        began = perf_counter()
        given = answerer.answer(samples, items.folder, items.task.max_new_tokens)
        window = WindowRecord(
            num_items=len(samples),
            seconds=round(perf_counter() - began, 3),
            expert_use=given.expert_use,
        )
        kind = items.task.judge
        records = [
            _judged(sample, answer, kind, judges)
            for sample, answer in zip(samples, given.answers, strict=True)
        ]
        folder.append(name, records, window)
        if progress is not None:
            progress(name, start + len(samples), len(items.samples))
    return folder.read(name)


def record_name(task: str, who: str = "") -> str:
    """File name of a task's records without ending: `asr`, `asr.cascade`."""
    return f"{task}.{who}" if who else task


def rescore(folder: EvalFolder, judges: Judges) -> None:
    """Judge all recorded answers again; nobody is asked.

    Raises:
        RequestError: the folder holds no evaluation.
    """
    for name, about in folder.manifest()["tasks"].items():
        items = folder.read(name).items
        folder.rewrite(name, [rejudged(item, about["judge"], judges) for item in items])


def rejudged(item: ItemRecord, kind: JudgeKind, judges: Judges) -> ItemRecord:
    """The item with a fresh verdict."""
    verdict = judges.judge(kind, item.expected, item.got)
    return replace(item, correct=verdict.is_correct, errors=verdict.errors, units=verdict.units)


def prompt_of(sample: OmniSample) -> str:
    """What was asked, placeholders included; of several turns, all but the last answer."""
    asked: Sequence[str] = [turn.text for turn in sample.conversations[:-1]]
    return "\n".join(asked)


def _judged(sample: OmniSample, answer: Answer, kind: JudgeKind, judges: Judges) -> ItemRecord:
    verdict = judges.judge(kind, sample.answers, answer.text)
    return ItemRecord(
        id=sample.id,
        kind=sample.task,
        traits=dict(sample.traits),
        prompt=prompt_of(sample),
        media=sample.media_paths,
        expected=sample.answers,
        got=answer.text,
        correct=verdict.is_correct,
        errors=verdict.errors,
        units=verdict.units,
        prompt_tokens=answer.prompt_tokens,
        new_tokens=answer.new_tokens,
        finish_reason=answer.finish_reason,
        experts_per_token=_rounded(answer.experts_per_token),
        null_share=_rounded(answer.null_share),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
