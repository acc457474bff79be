"""The report: a table of scores with their intervals, what was to be reached, and comparisons.

In:  the folder of an evaluation and the suite it ran.  Out: Markdown, and the same as an object.
"""

from math import isfinite, isnan
from typing import Any

from unimoe.evals.figures import FIGURES_HEADER, figure_row, read_figure
from unimoe.evals.records import EvalFolder
from unimoe.evals.routing import read_expert_use, summarise
from unimoe.evals.run import record_name
from unimoe.evals.score import Score, paired, score_of, scores_by_trait
from unimoe.evals.suite import PERPLEXITY, Suite
from unimoe.evals.task import Task

_HEADER = "| task | items | score [95 %] | to reach | chance | instead |\n|---|---|---|---|---|---|"


def write_report(folder: EvalFolder, suite: Suite) -> str:
    """Write `report.md` and `scores.json`; returns the former.

    Raises:
        RequestError: no evaluation there.
    """
    manifest = folder.manifest()
    scores: dict[str, Any] = {}
    rows, parts = [], []
    for task in (*suite.tasks, *suite.speech):
        if task.name in manifest["tasks"] and folder.read(task.name).items:
            row, part, scores[task.name] = _task_row(folder, task, manifest)
            rows.append(row)
            parts += part
    for row, name, found in (*_pair_rows(folder, suite, manifest), *_text_rows(folder, suite)):
        rows.append(row)
        scores[name] = found
    figures, measured = _figures(folder, suite)
    scores |= {"figures": measured} if measured else {}
    text = "\n".join(
        [
            f"# Evaluation of {manifest['model']['name']}",
            "",
            *_how(manifest),
            "",
            _HEADER,
            *rows,
            *(["", FIGURES_HEADER, *figures] if figures else []),
            *(["", "| part | items | score [95 %] |", "|---|---|---|", *parts] if parts else []),
            *_routing_lines(folder),
            "",
        ]
    )
    folder.write_report(text, scores)
    return text


def _task_row(
    folder: EvalFolder, task: Task, manifest: dict[str, Any]
) -> tuple[str, list[str], dict[str, Any]]:
    """The row of a task, the rows of its parts, and the numbers of both."""
    records = folder.read(task.name)
    score = score_of(records, task.judge)
    begun = manifest["tasks"][task.name]
    found: dict[str, Any] = _numbers(score) | {
        "measure": task.measure,
        "goal": task.goal,
        "reached": task.reaches_goal(score.value),
        "seconds": round(score.seconds, 1),
        "instead": {},
        "parts": {},
    }
    instead = []
    for who in _others(task.name, manifest):
        about = manifest["tasks"][record_name(task.name, who)]
        other = score_of(folder.read(record_name(task.name, who)), about["judge"])
        instead.append(f"{who} {_percent(other.value)} ({other.num_items})")
        found["instead"][who] = _numbers(other)
    parts = []
    for trait in task.by:
        for value, of_value in scores_by_trait(records, task.judge, trait).items():
            parts.append(f"| {task.title}: {trait} {value} | {_cells(of_value)} |")
            found["parts"][f"{trait} {value}"] = _numbers(of_value)
    complete = (
        "" if score.num_items == begun["num_items"] else f" of {begun['num_items']}, unfinished"
    )
    chance = "" if score.chance is None else _percent(score.chance)
    goal = _goal(task.goal, found["reached"], at_most=task.judge == "wer")
    measure = " (WER)" if task.judge == "wer" else ""
    row = (
        f"| {task.title}{measure} | {score.num_items}{complete} | {_with_interval(score)} | {goal} "
        f"| {chance} | {', '.join(instead)} |"
    )
    return row, parts, found


def _pair_rows(
    folder: EvalFolder, suite: Suite, manifest: dict[str, Any]
) -> list[tuple[str, str, dict[str, Any]]]:
    rows = []
    for pair in suite.pairs:
        if not {pair.task, pair.reference} <= manifest["tasks"].keys():
            continue
        items, reference = (folder.read(name).items for name in (pair.task, pair.reference))
        score = paired(items, reference, trait=pair.trait)
        if not score.num_pairs:
            continue
        reached = None if pair.goal is None else score.ratio >= pair.goal
        low, high = score.interval
        row = (
            f"| {pair.title} | {score.num_pairs} pairs | {_percent(score.ratio)} "
            f"[{_percent(low)}, {_percent(high)}] | {_goal(pair.goal, reached)} | | |"
        )
        found = _known({"value": score.ratio, "low": low, "high": high})
        found |= {"num_items": score.num_pairs, "goal": pair.goal, "reached": reached}
        rows.append((row, pair.name, found))
    return rows


def _text_rows(folder: EvalFolder, suite: Suite) -> list[tuple[str, str, dict[str, Any]]]:
    found = folder.result(PERPLEXITY)
    if found is None or suite.text is None:
        return []
    goal = suite.text.goal
    reached = None if goal is None else found["ratio"] <= goal
    low, high = found["interval"]
    wanted = "" if goal is None else f"≤ {goal:.2f}: {'reached' if reached else 'missed'}"
    row = (
        f"| Plain text, perplexity by that of the dense base | {found['num_texts']} texts, "
        f"{found['num_tokens']:,} tokens | {found['ratio']:.3f} [{low:.3f}, {high:.3f}] | {wanted} "
        f"| | base {found['base_perplexity']:.2f}, model {found['perplexity']:.2f} |"
    )
    numbers = {"value": found["ratio"], "low": low, "high": high, "goal": goal, "reached": reached}
    return [(row, PERPLEXITY, numbers)]


def _figures(folder: EvalFolder, suite: Suite) -> tuple[list[str], dict[str, Any]]:
    """Rows of what was measured of speech and drawing, and the same by name."""
    measures = (*suite.speech_measures, *suite.drawing_measures)
    found = {name: folder.result(name) for name in measures}
    found = {name: figures for name, figures in found.items() if figures is not None}
    rows = [figure_row(read_figure(each)) for figures in found.values() for each in figures]
    return rows, found


def _how(manifest: dict[str, Any]) -> list[str]:
    options = ", ".join(f"{key} {value}" for key, value in manifest["options"].items())
    machine = ", ".join(f"{key} {value}" for key, value in manifest["machine"].items())
    command = [f"Command: `{manifest['command']}`.", ""] if manifest["command"] else []
    return [
        *command,
        f"Model: sha256 {manifest['model']['sha256'][:16]}. Options: {options}. {machine}.",
        "Chance is what the best single answer to all questions would score. `instead` is what "
        "others score on the same task, with the items they were asked. Hashes of all data: "
        "eval.json; all answers: one JSON line each. `unimoe rescore DIR` judges them again.",
    ]


def _routing_lines(folder: EvalFolder) -> list[str]:
    if not (folder.path / "expert_use.json").exists():
        return []
    summary = summarise(read_expert_use(folder.path))
    rows = [
        f"| {group} | {use.num_tokens:,} | {use.experts_per_token:.2f} | {use.null_share:.0%} "
        f"| {use.favourite} ({use.favourite_share:.0%}) |"
        for group, use in summary.groups.items()
    ]
    dead = ", ".join(f"layer {layer} {name}" for layer, name in summary.dead) or "none"
    return [
        "",
        "| tokens of | number | experts a token | null share of choices | most taken |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Dead experts: {dead}. Divergence of the modalities' choices: "
        f"{summary.divergence_bits:.3f} bits of 1. Picture: `unimoe plot router DIR`.",
    ]


def _others(task: str, manifest: dict[str, Any]) -> list[str]:
    """Baselines that were asked this task."""
    prefix = record_name(task, "x")[:-1]
    return [name.removeprefix(prefix) for name in manifest["tasks"] if name.startswith(prefix)]


def _numbers(score: Score) -> dict[str, Any]:
    values = {"value": score.value, "low": score.interval.low, "high": score.interval.high}
    about = {
        "chance": score.chance,
        "experts_per_token": score.experts_per_token,
        "null_share": score.null_share,
    }
    there = {name: value for name, value in about.items() if value is not None}
    return _known(values) | {"num_items": score.num_items} | _known(there)


def _known(values: dict[str, float]) -> dict[str, Any]:
    """Rounded; None for what is no number, which JSON cannot say."""
    return {name: round(value, 4) if isfinite(value) else None for name, value in values.items()}


def _cells(score: Score) -> str:
    return f"{score.num_items} | {_with_interval(score)}"


def _with_interval(score: Score) -> str:
    low, high = score.interval
    return f"{_percent(score.value)} [{_percent(low)}, {_percent(high)}]"


def _goal(goal: float | None, reached: bool | None, *, at_most: bool = False) -> str:
    if goal is None:
        return "report"
    return f"{'≤' if at_most else '≥'} {goal:.0%}: {'reached' if reached else 'missed'}"


def _percent(value: float) -> str:
    return "-" if isnan(value) else f"{100 * value:.1f} %"
