"""How well a painter draws: names, scenes, repairs and edits of the test split of drawing_tasks.

In:  states of the core and pictures of the test, a painter, a judge of names.
Out: `DrawingScores`, a table of them in Markdown, a contact sheet.
Names are judged by a classifier fitted to real drawings of training styles; its accuracy on real
drawings of a style it never saw stands beside that on the drawn ones. Scenes are measured in their
pixels, repairs and edits against what they should be.
Axes: names, scenes ... = samples of the test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from unimoe.data.build.degrade import DEGRADATIONS
from unimoe.data.build.drawing_edits import EDIT_KINDS
from unimoe.data.manifest import Manifest, media_file
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.evals.efficientnet import EfficientNetLite
from unimoe.evals.intervals import wilson
from unimoe.evals.name_judge import NameJudge, frechet_distance
from unimoe.evals.restored import changed_region, classically_repaired, psnr_db
from unimoe.evals.scene_check import is_as_asked
from unimoe.media.image import load_image

Picture = UInt8[np.ndarray, "height width 3"]
Draw = Callable[[str, Picture | None], Picture]
"""Of (prompt, source picture or None): the picture."""

NAMES_GOAL, SCENES_GOAL, REPAIR_GOAL_DB, OUTSIDE_GOAL_DB = 0.60, 0.75, 3.0, 25.0
_SHEET_COLUMNS = 12


class Share(NamedTuple):
    """So many of so many."""

    right: int
    total: int

    def __str__(self) -> str:
        low, high = wilson(self.right, self.total)
        return f"{self.right / self.total:.1%} ({low:.0%} to {high:.0%} of {self.total})"


class Repair(NamedTuple):
    """Means over samples, in dB."""

    gain_db: float
    """PSNR of the drawn picture over that of the spoilt one."""
    classical_gain_db: float


class Edited(NamedTuple):
    """Means over samples, in dB."""

    outside_psnr_db: float
    """Of what was to stay, against the source picture."""
    inside_gain_db: float
    """Of what was to change: PSNR against what is wanted, over that of the source picture."""


@dataclass(kw_only=True, slots=True)
class DrawingScores:
    """What was measured; a part that was not asked for is empty."""

    names: Share | None = None
    real_names: Share | None = None
    """Real drawings of a style that the judge was not fitted to."""
    num_names: int = 0
    frechet: float = 0.0
    real_frechet: float = 0.0
    """Of those real drawings."""
    scenes: dict[str, Share] = field(default_factory=dict)
    repairs: dict[str, Repair] = field(default_factory=dict)
    edits: dict[str, Edited] = field(default_factory=dict)
    seconds: float = 0.0
    """Of a picture, the core's reading of the prompt included."""


class _Drawn(NamedTuple):
    sample: OmniSample
    source: Picture | None
    wanted: Picture
    picture: Picture


def score_drawing(
    draw: Draw,
    test: Manifest,
    training: Manifest,
    network: EfficientNetLite,
    *,
    limit: int | None = None,
    sheet: Path | None = None,
) -> DrawingScores:
    """Draw what the test asks for, and measure it.

    Args:
        draw: the painter behind its core.
        test: the test split of drawing_tasks.
        training: its training split, from which the judge learns the names.
        network: gives the judge its features.
        limit: samples of a task, drawn by hash; None: all.
        sheet: where to save a sheet of what was drawn; None: nowhere.

    Raises:
        DataError: the splits are not those of drawing_tasks.
    """
    began, drawn = time.monotonic(), dict(_drawn(draw, test, limit))
    number = sum(map(len, drawn.values()))
    if not number:
        raise DataError(f"{test.path} holds no drawing tasks; `unimoe data build drawing_tasks`")
    scores = DrawingScores(seconds=(time.monotonic() - began) / number)
    if names := drawn.get("names"):
        _judge_names(scores, names, training, network)
    for each in drawn.get("scenes", ()):
        kind = each.sample.traits["kind"]
        right = is_as_asked(each.picture, kind, each.sample.traits["scene"])
        before = scores.scenes.get(kind, Share(0, 0))
        scores.scenes[kind] = Share(before.right + right, before.total + 1)
    for task in DEGRADATIONS:
        if found := drawn.get(task):
            scores.repairs[task] = _repair(found, task)
    for task in EDIT_KINDS:
        if found := drawn.get(task):
            scores.edits[task] = _edited(found)
    if sheet is not None:
        _contact_sheet(drawn).save(sheet)
    return scores


def _drawn(draw: Draw, test: Manifest, limit: int | None) -> Iterator[tuple[str, list[_Drawn]]]:
    of_task: dict[str, list[OmniSample]] = {}
    for number in range(len(test)):
        sample = test[number]
        of_task.setdefault(sample.task, []).append(sample)
    for task in ("names", "scenes", *DEGRADATIONS, *EDIT_KINDS):
        samples = sorted(of_task.get(task, ()), key=lambda sample: unit_hash(sample.id))[:limit]
        found = []
        for sample in samples:
            *given, wanted = (load_image(media_file(test.folder, path)) for path in sample.images)
            prompt = PLACEHOLDER.sub("", sample.conversations[0].text)
            source = given[0] if given else None
            found.append(_Drawn(sample, source, wanted, draw(prompt, source)))
        if found:
            yield task, found


def _judge_names(
    scores: DrawingScores, drawn: list[_Drawn], training: Manifest, network: EfficientNetLite
) -> None:
    samples = (training[number] for number in range(len(training)))
    shown = {s.images[-1]: s.traits["concept"] for s in samples if s.task == "names"}
    fitted = [load_image(media_file(training.folder, path)) for path in shown]
    fitted_features = network.features(_stacked(fitted))
    judge = NameJudge(fitted_features, list(shown.values()))
    asked = [each.sample.traits["concept"] for each in drawn]
    drawn_features = network.features(_stacked([each.picture for each in drawn]))
    real_features = network.features(_stacked([each.wanted for each in drawn]))
    scores.num_names = len(judge.names)
    scores.names = _share(judge.named(drawn_features), asked)
    scores.real_names = _share(judge.named(real_features), asked)
    scores.frechet = frechet_distance(drawn_features, fitted_features)
    scores.real_frechet = frechet_distance(real_features, fitted_features)


def _share(named: Sequence[str], asked: Sequence[str]) -> Share:
    return Share(sum(a == b for a, b in zip(named, asked, strict=True)), len(asked))


def _repair(drawn: list[_Drawn], task: str) -> Repair:
    gains, classical = [], []
    for each in drawn:
        assert each.source is not None
        before = psnr_db(each.source, each.wanted)
        gains.append(psnr_db(each.picture, each.wanted) - before)
        filtered = classically_repaired(each.source, task)
        classical.append(psnr_db(filtered, each.wanted) - before)
    return Repair(float(np.mean(gains)), float(np.mean(classical)))


def _edited(drawn: list[_Drawn]) -> Edited:
    outside, inside = [], []
    for each in drawn:
        assert each.source is not None
        region = changed_region(each.source, each.wanted)
        outside.append(psnr_db(each.picture, each.source, ~region))
        before = psnr_db(each.source, each.wanted, region)
        inside.append(psnr_db(each.picture, each.wanted, region) - before)
    return Edited(float(np.mean(outside)), float(np.mean(inside)))


def report(scores: DrawingScores) -> str:
    """The scores as a table in Markdown."""
    lines = ["| measured | drawn | beside it | goal |", "|---|---|---|---|"]
    if scores.names is not None:
        chance = f"chance {1 / scores.num_names:.1%}"
        lines.append(
            f"| names, by the judge | {scores.names} | real drawings of an unseen style "
            f"{scores.real_names}; {chance} | {NAMES_GOAL:.0%} |"
        )
        lines.append(
            f"| Frechet distance to real drawings | {scores.frechet:.1f} | real drawings of an "
            f"unseen style {scores.real_frechet:.1f} | |"
        )
    for kind, share in scores.scenes.items():
        lines.append(f"| scenes, {kind} | {share} | | {SCENES_GOAL:.0%} |")
    for task, repair in scores.repairs.items():
        lines.append(
            f"| {task}, PSNR over the input | {repair.gain_db:+.1f} dB | classical filter "
            f"{repair.classical_gain_db:+.1f} dB | +{REPAIR_GOAL_DB:.0f} dB |"
        )
    for task, edit in scores.edits.items():
        lines.append(
            f"| {task}, PSNR outside | {edit.outside_psnr_db:.1f} dB | inside "
            f"{edit.inside_gain_db:+.1f} dB over the input | {OUTSIDE_GOAL_DB:.0f} dB |"
        )
    lines.append(f"| seconds a picture | {scores.seconds:.2f} | | 6 |")
    return "\n".join(lines) + "\n"


def _contact_sheet(drawn: dict[str, list[_Drawn]]) -> Image.Image:
    """Pictures drawn, a row or two a task; where a source is given it stands to the left."""
    rows: list[list[Picture]] = []
    for found in drawn.values():
        shown = [
            picture
            for each in found
            for picture in (each.source, each.picture)
            if picture is not None
        ]
        num_rows = 2 if found[0].source is None else 1
        for start in range(0, min(num_rows * _SHEET_COLUMNS, len(shown)), _SHEET_COLUMNS):
            rows.append(shown[start : start + _SHEET_COLUMNS])
    height, width, _ = rows[0][0].shape
    sheet = Image.new("RGB", (_SHEET_COLUMNS * (width + 4), len(rows) * (height + 4)), (128,) * 3)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            corner = (column * (width + 4) + 2, row * (height + 4) + 2)
            sheet.paste(Image.fromarray(picture), corner)
    return sheet


def _stacked(pictures: Sequence[Picture]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
