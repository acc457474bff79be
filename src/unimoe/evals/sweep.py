"""The compute dial measured: the same tasks at several routing thresholds.

In:  a model, a suite, thresholds.  Out: a folder an evaluation, and one table of them all.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unimoe.evals.records import EvalFolder
from unimoe.evals.report import write_report
from unimoe.evals.run import Progress
from unimoe.evals.suite import EvalOptions, Suite, Tools, evaluate
from unimoe.infer.session import OmniInference


def sweep_thresholds(
    session: OmniInference,
    suite: Suite,
    options: EvalOptions,
    out: Path,
    tools: Tools,
    thresholds: Sequence[float | None],
    *,
    name: str = "model",
    progress: Progress | None = None,
) -> str:
    """Evaluate at every threshold, and write `sweep.md`; returns the table.

    Args:
        session: the model.
        suite: the tasks.
        options: which, and how; its own threshold does not count.
        out: every threshold has its own folder here.
        tools: for judging.
        thresholds: None is the checkpoint's own.
        name: of the model.
        progress: told about every window of items.

    Raises:
        UnimoeError: as `evaluate`.
    """
    scores: dict[str, dict[str, Any]] = {}
    for threshold in thresholds:
        label = "own" if threshold is None else f"{threshold:g}"
        folder = EvalFolder(out / f"top-p-{label}")
        with_threshold = replace(options, top_p_routing=threshold)
        evaluate(session, suite, with_threshold, folder, tools, name=name, progress=progress)
        write_report(folder, suite)
        scores[label] = folder.result("scores")
    table = _table(suite, scores)
    (out / "sweep.md").write_text(table, "utf-8")
    return table


def _table(suite: Suite, scores: dict[str, dict[str, Any]]) -> str:
    titles = {task.name: task.title for task in suite.tasks}
    lines = [
        "| task | " + " | ".join(f"top-p {label}" for label in scores) + " |",
        "|---" * (len(scores) + 1) + "|",
    ]
    for name in next(iter(scores.values())):
        cells = [_cell(found.get(name, {})) for found in scores.values()]
        lines.append(f"| {titles.get(name, name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: dict[str, Any]) -> str:
    """Score with its interval; experts a token and seconds where they were counted."""
    if score.get("value") is None:
        return "-"
    pieces = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**score)]
    if "experts_per_token" in score:
        pieces.append(f"{score['experts_per_token']:.2f} experts")
    if "seconds" in score:
        pieces.append(f"{score['seconds']:.0f} s")
    return ", ".join(pieces)
