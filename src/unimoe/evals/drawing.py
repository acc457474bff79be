"""How well a model draws: the test split of drawing_tasks drawn and measured.

    autoencoder     drawings of a style never seen, to latents and back
    drawn_names     things by their name, named again by a judge; and as a whole, how like real ones
    drawn_scenes    colours, numbers and places, measured in the pixels
    repairs         spoilt pictures against what they were, beside a classical filter
    edits           what was to change against what is wanted, the rest against what was given
    redrawn         styles by a judge of styles, lines and depths by what was given
    drawing_speed   seconds a picture

In:  an `Artist`, the data set, a network whose features judges use.  Out: `Figure`s in the folder
of an evaluation, and of every measure a sheet of what was drawn.
The judges are fitted to real drawings of training styles; their accuracy on real drawings of a
style they never saw stands beside that on the drawn ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unimoe.data.build.degrade import DEGRADATIONS
from unimoe.data.build.drawing_edits import EDIT_KINDS
from unimoe.data.manifest import media_file, read_manifest
from unimoe.data.sample import PLACEHOLDER, OmniSample
from unimoe.data.splits import unit_hash
from unimoe.errors import DataError
from unimoe.evals.drawn_sheet import Shown, draw_sheet
from unimoe.evals.efficientnet import EfficientNetLite
from unimoe.evals.figures import Figure, Measured, figure_json, mean_of, share_of
from unimoe.evals.name_judge import NameJudge, frechet_distance
from unimoe.evals.records import EvalFolder
from unimoe.evals.restored import (
    changed_region,
    classically_repaired,
    lines_followed,
    psnr_db,
)
from unimoe.evals.run import Progress
from unimoe.evals.scene_check import fills_depth, is_as_asked
from unimoe.evals.suite import EvalOptions, Suite, wanted_names
from unimoe.media.image import load_image

DATASET = "drawing_tasks"
NAMES_GOAL, SCENES_GOAL, REPAIR_GOAL_DB, OUTSIDE_GOAL_DB = 0.60, 0.75, 3.0, 25.0
AUTOENCODER_GOAL_DB, SECONDS_GOAL = 28.0, 6.0
_TIMED = 10
_SHOWN_OF_WORDS, _SHOWN_OF_SOURCES = 24, 6
"""Of a task, on the sheets."""

Picture = UInt8[np.ndarray, "height width 3"]


@runtime_checkable
class Artist(Protocol):
    """A painter behind its core."""

    def draw(self, prompt: str, thought: str, source: Picture | None) -> Picture:
        """What is asked for; a thought precedes the picture, a source is to be changed."""
        ...

    def rebuild(self, picture: Picture) -> Picture:
        """A picture to latents and back."""
        ...


class Drawn(NamedTuple):
    """A sample of the test, and what was made of it."""

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

    @property
    def caption(self) -> str:
        """What was to be drawn, or done."""
        traits, task = self.sample.traits, self.sample.task
        asked = PLACEHOLDER.sub("", self.sample.conversations[0].text)
        return {"names": traits.get("concept"), "scenes": traits.get("scene")}.get(task) or asked

    def trait(self, name: str) -> str:
        """A trait of the sample."""
        return self.sample.traits[name]


class Familiar(NamedTuple):
    """Drawings that judges are fitted to."""

    samples: list[OmniSample]
    features: Float[Tensor, "drawings features"]


class DrawingEval:
    """One evaluation of one artist; its methods are what can be measured.

    Args:
        artist: draws.
        options: where the data is, and how much of it is asked.
        folder: of the evaluation; sheets are saved there.
        network: gives the judges their features.
        progress: told about every picture of a task.

    Raises:
        DataError: the data set is missing.
    """

    def __init__(
        self,
        artist: Artist,
        options: EvalOptions,
        folder: EvalFolder,
        network: EfficientNetLite,
        progress: Progress | None = None,
    ) -> None:
        self._artist, self._options, self._folder = artist, options, folder
        self._network, self._progress = network, progress
        self._test = read_manifest(options.data / DATASET / "test.jsonl")
        self._training = read_manifest(options.data / DATASET / "train.jsonl")

    def autoencoder(self) -> list[Figure]:
        """Pictures of the test rebuilt."""
        samples = self._samples("names", "more_names")
        pictures = [load_image(media_file(self._test.folder, s.images[-1])) for s in samples]
        kept = [psnr_db(self._artist.rebuild(picture), picture) for picture in pictures]
        return [
            Figure(
                title="Autoencoder: PSNR of drawings of a style never seen",
                measured=mean_of(kept),
                unit="dB",
                goal=AUTOENCODER_GOAL_DB,
            )
        ]

    def drawn_names(self) -> list[Figure]:
        """Things by their name, and such as were thought of in words before."""
        drawn, thoughts = self._drawn("names"), self._drawn("thoughts")
        judge, fitted = self._judge_of("concept"), self._familiar.features
        features, real = (
            self._features(d.picture for d in drawn),
            self._features(d.wanted for d in drawn),
        )
        asked = [each.trait("concept") for each in drawn]
        beside = {
            "real drawings of a style never seen": _agreement(judge.named(real), asked).value,
            "chance": 1 / len(judge.names),
        }
        known = [each for each in thoughts if each.trait("concept") in judge.names]
        named = judge.named(self._features(d.picture for d in known)) if known else []
        self._save_sheet("drawn_names", drawn[: 2 * _SHOWN_OF_WORDS])
        return [
            Figure(
                title=f"Drawn by name, {len(judge.names)} things: the judge names them",
                measured=_agreement(judge.named(features), asked),
                unit="%",
                goal=NAMES_GOAL,
                instead=beside,
            ),
            Figure(
                title="Thought of in words, then drawn: the judge names them",
                measured=_agreement(named, [each.trait("concept") for each in known]),
                unit="%",
                instead={"chance": 1 / len(judge.names)},
            ),
            Figure(
                title="Frechet distance to the training drawings",
                measured=Measured(frechet_distance(features, fitted), len(drawn)),
                instead={"real drawings of a style never seen": frechet_distance(real, fitted)},
            ),
        ]

    def drawn_scenes(self) -> list[Figure]:
        """Coloured shapes: alone, at a place, so many, beside each other."""
        right: dict[str, list[bool]] = {}
        drawn = self._drawn("scenes")
        for each in drawn:
            kind = each.trait("kind")
            found = is_as_asked(each.picture, kind, each.trait("scene"))
            right.setdefault(kind, []).append(found)
        self._save_sheet("drawn_scenes", drawn[:_SHOWN_OF_WORDS])
        return [
            Figure(
                title=f"Drawn scenes, {kind}: as asked, by their pixels",
                measured=share_of(hits),
                unit="%",
                goal=SCENES_GOAL,
            )
            for kind, hits in sorted(right.items())
        ]

    def repairs(self) -> list[Figure]:
        """Rain, noise, blur and lost pixels."""
        figures, shown = [], []
        for task in DEGRADATIONS:
            drawn = self._drawn(task)
            before = [psnr_db(each.given, each.wanted) for each in drawn]
            filtered = [
                psnr_db(classically_repaired(each.given, task), each.wanted) - spoilt
                for each, spoilt in zip(drawn, before, strict=True)
            ]
            gained = [
                psnr_db(each.picture, each.wanted) - spoilt
                for each, spoilt in zip(drawn, before, strict=True)
            ]
            figures.append(
                Figure(
                    title=f"Repair, {task}: PSNR over that of the picture given",
                    measured=mean_of(gained),
                    unit="dB",
                    goal=REPAIR_GOAL_DB,
                    instead={"classical filter": float(np.mean(filtered))},
                )
            )
            shown += drawn[:_SHOWN_OF_SOURCES]
        self._save_sheet("repairs", shown)
        return figures

    def edits(self) -> list[Figure]:
        """Things recoloured, removed, added, replaced."""
        figures, shown = [], []
        for task in EDIT_KINDS:
            drawn = self._drawn(task)
            regions = [changed_region(each.given, each.wanted) for each in drawn]
            pairs = list(zip(drawn, regions, strict=True))
            inside = [
                psnr_db(each.picture, each.wanted, region)
                - psnr_db(each.given, each.wanted, region)
                for each, region in pairs
            ]
            figures += [
                Figure(
                    title=f"Edit, {task}: PSNR of what was to stay",
                    measured=mean_of(
                        [psnr_db(each.picture, each.given, ~region) for each, region in pairs]
                    ),
                    unit="dB",
                    goal=OUTSIDE_GOAL_DB,
                ),
                Figure(
                    title=f"Edit, {task}: PSNR of what was to change, over the picture given",
                    measured=mean_of(inside),
                    unit="dB",
                ),
            ]
            shown += drawn[:_SHOWN_OF_SOURCES]
        self._save_sheet("edits", shown)
        return figures

    def redrawn(self) -> list[Figure]:
        """In another style, from lines, from a map of depths."""
        restyled, outlined, behind = (self._drawn(task) for task in ("style", "edges", "depth"))
        judge = self._judge_of("style")
        asked = [each.trait("style") for each in restyled]
        made, real = (
            judge.named(self._features(pictures))
            for pictures in ([d.picture for d in restyled], [d.wanted for d in restyled])
        )
        others = [*outlined[1:], *outlined[:1]]
        of_another = [
            lines_followed(other.picture, each.given)
            for each, other in zip(outlined, others, strict=True)
        ]
        filled = [fills_depth(each.picture, each.given, each.trait("scene")) for each in behind]
        few = [each for drawn in (restyled, outlined, behind) for each in drawn[:_SHOWN_OF_SOURCES]]
        self._save_sheet("redrawn", few)
        return [
            Figure(
                title="Redrawn in a style: the judge sees that style",
                measured=_agreement(made, asked),
                unit="%",
                instead={
                    "real drawings": _agreement(real, asked).value,
                    "chance": 1 / len(judge.names),
                },
            ),
            Figure(
                title="Drawn from lines: F measure of edges",
                measured=mean_of([lines_followed(each.picture, each.given) for each in outlined]),
                instead={"of another picture": float(np.mean(of_another))},
            ),
            Figure(
                title="Drawn from depths: both colours in their place",
                measured=share_of(filled),
                unit="%",
            ),
        ]

    def drawing_speed(self) -> list[Figure]:
        """From prompt to picture."""
        seconds = []
        for sample in self._samples("scenes")[:_TIMED]:
            begun = time.monotonic()
            self._artist.draw(sample.conversations[0].text, "", None)
            seconds.append(time.monotonic() - begun)
        return [
            Figure(
                title="Seconds a picture of 15 steps",
                measured=mean_of(seconds),
                unit="s",
                goal=SECONDS_GOAL,
                is_at_most=True,
            )
        ]

    def _samples(self, *tasks: str) -> list[OmniSample]:
        """Of these tasks, as many as asked for of each, drawn by hash."""
        found: list[OmniSample] = []
        for task in tasks:
            own = [sample for sample in self._test if sample.task == task]
            if not own:
                raise DataError(
                    f"{self._test.path} has no samples of {task!r}; build {DATASET} anew"
                )
            own.sort(key=lambda sample: unit_hash(sample.id, self._options.seed))
            found += own[: self._options.limit]
        return found

    def _drawn(self, task: str) -> list[Drawn]:
        found: list[Drawn] = []
        samples = self._samples(task)
        for sample in samples:
            *given, wanted = (
                load_image(media_file(self._test.folder, path)) for path in sample.images
            )
            asked, thought = (
                PLACEHOLDER.sub("", sample.conversations[place].text) for place in (0, -1)
            )
            source = given[0] if given else None
            picture = self._artist.draw(asked, thought, source)
            found.append(Drawn(sample, source, wanted, picture))
            if self._progress is not None:
                self._progress(task, len(found), len(samples))
        return found

    def _judge_of(self, trait: str) -> NameJudge:
        """Fitted to a trait of the familiar things."""
        samples, features = self._familiar
        return NameJudge(features, [sample.traits[trait] for sample in samples])

    @cached_property
    def _familiar(self) -> Familiar:
        """Every picture of `names` in training, once."""
        shown = {s.images[-1]: s for s in self._training if s.task == "names"}
        pictures = (load_image(media_file(self._training.folder, path)) for path in shown)
        return Familiar([*shown.values()], self._features(pictures))

    def _features(self, pictures: Iterable[Picture]) -> Float[Tensor, "drawings features"]:
        stacked = torch.from_numpy(np.stack(list(pictures)))
        return self._network.features(stacked.permute(0, 3, 1, 2).float() / 255)

    def _save_sheet(self, name: str, drawn: Sequence[Drawn]) -> None:
        shown = [
            Shown(
                each.caption,
                (each.picture,) if each.source is None else (each.source, each.picture),
            )
            for each in drawn
        ]
        draw_sheet(shown).save(self._folder.path / f"{name}.png")


MEASURES: Mapping[str, Callable[[DrawingEval], list[Figure]]] = {
    "autoencoder": DrawingEval.autoencoder,
    "drawn_names": DrawingEval.drawn_names,
    "drawn_scenes": DrawingEval.drawn_scenes,
    "repairs": DrawingEval.repairs,
    "edits": DrawingEval.edits,
    "redrawn": DrawingEval.redrawn,
    "drawing_speed": DrawingEval.drawing_speed,
}


def evaluate_drawing(
    artist: Artist,
    suite: Suite,
    options: EvalOptions,
    folder: EvalFolder,
    network: Callable[[], EfficientNetLite],
    *,
    progress: Progress | None = None,
) -> None:
    """Measure what is wanted of an artist, and note it in a folder that was begun.

    Args:
        artist: draws.
        suite: names the measures.
        options: which of them, and how much.
        folder: of the evaluation.
        network: fetches the network of the judges, if anything is left to measure.
        progress: as of `DrawingEval`.

    Raises:
        DataError: the data set is missing.
        PartsError: the network cannot be fetched.
    """
    left = [
        name
        for name in wanted_names(suite, options.tasks)
        if name in MEASURES and folder.result(name) is None
    ]
    if left:
        own = DrawingEval(artist, options, folder, network(), progress)
        for name in left:
            folder.write_result(name, [figure_json(figure) for figure in MEASURES[name](own)])


def _agreement(named: Sequence[str], asked: Sequence[str]) -> Measured:
    return share_of([one == other for one, other in zip(named, asked, strict=True)])
