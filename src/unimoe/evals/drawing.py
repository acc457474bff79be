"""How well a painter draws: names, scenes, repairs and edits of the test split of drawing_tasks.

In:  states of the core and pictures of the test, a painter, a judge of names.
Out: `DrawingScores`, a table of them in Markdown, a contact sheet.
Names are judged by a classifier fitted to real drawings of training styles; its accuracy on real
drawings of a style it never saw stands beside that on the drawn ones. Scenes are measured in their
pixels, repairs and edits against what they should be, styles by a judge of styles, drawings from
lines and depths by what was given.
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
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from unimoe.data.build.degrade import DEGRADATIONS
from unimoe.data.build.drawing_edits import EDIT_KINDS
from unimoe.data.manifest import Manifest, media_file
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.evals.efficientnet import EfficientNetLite
from unimoe.evals.intervals import wilson
from unimoe.evals.name_judge import NameJudge, frechet_distance
from unimoe.evals.restored import (
    changed_region,
    classically_repaired,
    lines_followed,
    psnr_db,
)
from unimoe.evals.scene_check import fills_depth, is_as_asked
from unimoe.media.image import load_image

Picture = UInt8[np.ndarray, "height width 3"]
Draw = Callable[[str, str, Picture | None], Picture]
"""Of (prompt, thought that precedes the picture or "", source picture or None): the picture."""

TASKS = ("names", "thoughts", "scenes", *DEGRADATIONS, *EDIT_KINDS, "style", "edges", "depth")
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
    thoughts: Share | None = None
    """Things thought of in words, as far as the judge knows them."""
    styles: Share | None = None
    """Redrawn in the style asked for, by a judge fitted to the styles."""
    real_styles: Share | None = None
    """Drawings of those styles, left out of training."""
    lines: Compared | None = None
    """How well the lines given were followed; beside it, those of another sample."""
    depths: Share | None = None
    scenes: dict[str, Share] = field(default_factory=dict)
    repairs: dict[str, Repair] = field(default_factory=dict)
    edits: dict[str, Edited] = field(default_factory=dict)
    seconds: float = 0.0
    """Of a picture, the core's reading of the prompt included."""


class Compared(NamedTuple):
    """Means over samples."""

    drawn: float
    beside: float


class _Drawn(NamedTuple):
    sample: OmniSample
    source: Picture | None
    wanted: Picture
    picture: Picture

    @property
    def given(self) -> Picture:
        """The source, of a task that has one."""
        if self.source is None:
            raise DataError(f"sample {self.sample.id!r} gives no picture to draw from")
        return self.source


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
        _judge_names(scores, names, drawn.get("thoughts", []), training, network)
    if restyled := drawn.get("style"):
        _judge_styles(scores, restyled, training, network)
    if outlined := drawn.get("edges"):
        scores.lines = _lines(outlined)
    if behind := drawn.get("depth"):
        right = sum(fills_depth(d.picture, d.given, d.sample.traits["scene"]) for d in behind)
        scores.depths = Share(right, len(behind))
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
    for task in TASKS:
        samples = sorted(of_task.get(task, ()), key=lambda sample: unit_hash(sample.id))[:limit]
        found = []
        for sample in samples:
            *given, wanted = (load_image(media_file(test.folder, path)) for path in sample.images)
            asked, thought = (
                PLACEHOLDER.sub("", sample.conversations[place].text) for place in (0, -1)
            )
            source = given[0] if given else None
            found.append(_Drawn(sample, source, wanted, draw(asked, thought, source)))
        if found:
            yield task, found


def _judge_names(
    scores: DrawingScores,
    drawn: list[_Drawn],
    thoughts: list[_Drawn],
    training: Manifest,
    network: EfficientNetLite,
) -> None:
    judge, fitted_features = _judge_of("concept", training, network)
    asked = [each.sample.traits["concept"] for each in drawn]
    drawn_features = network.features(_stacked([each.picture for each in drawn]))
    real_features = network.features(_stacked([each.wanted for each in drawn]))
    scores.num_names = len(judge.names)
    scores.names = _share(judge.named(drawn_features), asked)
    scores.real_names = _share(judge.named(real_features), asked)
    scores.frechet = frechet_distance(drawn_features, fitted_features)
    scores.real_frechet = frechet_distance(real_features, fitted_features)
    if known := [each for each in thoughts if each.sample.traits["concept"] in judge.names]:
        features = network.features(_stacked([each.picture for each in known]))
        thought_of = [each.sample.traits["concept"] for each in known]
        scores.thoughts = _share(judge.named(features), thought_of)


def _judge_styles(
    scores: DrawingScores, drawn: list[_Drawn], training: Manifest, network: EfficientNetLite
) -> None:
    judge, _ = _judge_of("style", training, network)
    asked = [each.sample.traits["style"] for each in drawn]
    scores.styles = _share(
        judge.named(network.features(_stacked([each.picture for each in drawn]))), asked
    )
    scores.real_styles = _share(
        judge.named(network.features(_stacked([each.wanted for each in drawn]))), asked
    )


def _judge_of(
    trait: str, training: Manifest, network: EfficientNetLite
) -> tuple[NameJudge, Float[Tensor, "drawings width"]]:
    """Fitted to a trait of the familiar things as they are in training; and their features."""
    samples = (training[number] for number in range(len(training)))
    shown = {s.images[-1]: s.traits[trait] for s in samples if s.task == "names"}
    pictures = [load_image(media_file(training.folder, path)) for path in shown]
    features = network.features(_stacked(pictures))
    return NameJudge(features, list(shown.values())), features


def _lines(drawn: list[_Drawn]) -> Compared:
    others = [*drawn[1:], drawn[0]]
    return Compared(
        float(np.mean([lines_followed(each.picture, each.given) for each in drawn])),
        float(
            np.mean(
                [
                    lines_followed(other.picture, each.given)
                    for each, other in zip(drawn, others, strict=True)
                ]
            )
        ),
    )


def _share(named: Sequence[str], asked: Sequence[str]) -> Share:
    return Share(sum(a == b for a, b in zip(named, asked, strict=True)), len(asked))


def _repair(drawn: list[_Drawn], task: str) -> Repair:
    gains, classical = [], []
    for each in drawn:
        before = psnr_db(each.given, each.wanted)
        gains.append(psnr_db(each.picture, each.wanted) - before)
        filtered = classically_repaired(each.given, task)
        classical.append(psnr_db(filtered, each.wanted) - before)
    return Repair(float(np.mean(gains)), float(np.mean(classical)))


def _edited(drawn: list[_Drawn]) -> Edited:
    outside, inside = [], []
    for each in drawn:
        region = changed_region(each.given, each.wanted)
        outside.append(psnr_db(each.picture, each.given, ~region))
        before = psnr_db(each.given, each.wanted, region)
        inside.append(psnr_db(each.picture, each.wanted, region) - before)
    return Edited(float(np.mean(outside)), float(np.mean(inside)))


def report(scores: DrawingScores) -> str:
    """The scores as a table in Markdown."""
    lines = ["| measured | drawn | beside it | goal |", "|---|---|---|---|"]
    chance = f"chance {1 / max(1, scores.num_names):.1%}"
    if scores.names is not None:
        lines.append(
            f"| names, by the judge | {scores.names} | real drawings of an unseen style "
            f"{scores.real_names}; {chance} | {NAMES_GOAL:.0%} |"
        )
        lines.append(
            f"| Frechet distance to real drawings | {scores.frechet:.1f} | real drawings of an "
            f"unseen style {scores.real_frechet:.1f} | |"
        )
    if scores.thoughts is not None:
        lines.append(f"| thought of in words, then drawn | {scores.thoughts} | {chance} | |")
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
    if scores.styles is not None:
        lines.append(
            f"| style asked for, by the judge | {scores.styles} | real drawings "
            f"{scores.real_styles}; chance 25.0% | |"
        )
    if scores.lines is not None:
        lines.append(
            f"| lines followed, F measure | {scores.lines.drawn:.2f} | another sample's "
            f"{scores.lines.beside:.2f} | |"
        )
    if scores.depths is not None:
        lines.append(f"| depths: both colours in their place | {scores.depths} | | |")
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
