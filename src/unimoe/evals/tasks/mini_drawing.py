"""Mini's drawing measured: its core and a painter behind the scores of `evals.drawing`.

In:  a session, a painter.  Out: in a folder report.md and drawn.png; the report.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unimoe.data.manifest import read_manifest
from unimoe.errors import PartsError
from unimoe.evals.drawing import Picture, report, score_drawing
from unimoe.evals.efficientnet import EfficientNetLite, load_efficientnet
from unimoe.evals.tasks.mini_run import mini_data
from unimoe.heads.painter import Painter
from unimoe.infer.drawing import draw
from unimoe.infer.session import OmniInference
from unimoe.parts import fetch, part

SET = "drawing_tasks"


def evaluate_mini_drawing(
    session: OmniInference, painter: Painter, out: Path, *, limit: int | None = None
) -> str:
    """Draw the test of drawing_tasks and report.

    Args:
        session: whose core reads the prompts.
        painter: trained on the states of that core.
        out: folder for report and sheet.
        limit: samples of a task; None: all.

    Raises:
        DataError: the data set is not built.
        PartsError: the judge cannot be fetched.
    """
    folder = mini_data() / SET

    def drawn(prompt: str, thought: str, source: Picture | None) -> Picture:
        *_, picture = draw(
            session.model, session.vocabulary, painter, prompt, source, thought=thought
        )
        assert isinstance(picture, np.ndarray)
        return picture

    out.mkdir(parents=True, exist_ok=True)
    scores = score_drawing(
        drawn,
        read_manifest(folder / "test.jsonl"),
        read_manifest(folder / "train.jsonl"),
        judge_network(),
        limit=limit,
        sheet=out / "drawn.png",
    )
    (out / "report.md").write_text(report(scores), "utf-8")
    return report(scores)


def judge_network() -> EfficientNetLite:
    """Of the part efficientnet-lite0.

    Raises:
        PartsError: it cannot be fetched.
    """
    found = sorted(fetch(part("efficientnet-lite0")).rglob("*.pth"))
    if len(found) != 1:
        raise PartsError(f"the part efficientnet-lite0 has {len(found)} .pth files; fetch it anew")
    return load_efficientnet(found[0])
