"""Drawing tasks: words, and often a picture, to a picture of 96 pixels.

In:  parts of emoji in six styles.  Out: a data set; of a sample's images the last is to be drawn.

    names, more_names       a thing by its name, in a named style or in the usual one
    thoughts                a thing of a colour and a kind, thought of in words first
    scenes                  coloured shapes: which, how many, where
    recolour, remove, add,
    replace, style          a picture and an instruction
    edges, depth            lines, or a map of what is near
    derain, denoise,
    deblur, enlarge         a spoilt picture

`names` are familiar things: one word, of the emoji that came first; `more_names` all the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split, SplitRatios, split_of
from unimoe.data.build.canvas import Spot, lay
from unimoe.data.build.degrade import DEGRADATIONS, edges
from unimoe.data.build.drawing_edits import EDIT_KINDS, make_edit
from unimoe.data.build.drawing_scenes import (
    PICTURE_SIDE,
    Wanted,
    article,
    draw_depth,
    draw_scene,
    jittered,
    wanted_depth,
    wanted_relation,
    wanted_scenes,
)
from unimoe.data.build.drawings import (
    HELD_OUT_STYLES,
    STYLES,
    TRAINING_STYLES,
    Concept,
    Drawings,
    read_concepts,
)
from unimoe.data.build.questions import capital
from unimoe.data.sample import Turn
from unimoe.parts import fetch, part

TASK = "drawing_tasks"
STYLE_WORDS = {
    "fluent-emoji": "glossy",
    "fluent-emoji-flat": "flat",
    "noto-emoji": "cartoon",
    "emojione": "bold",
}
USUAL_STYLE = "fluent-emoji-flat"
"""Of a name without a style."""
NAME_PROMPTS = ("Draw {}.", "A picture of {}.")
HELD_OUT_PROMPT = "Can you paint {} for me?"
REPAIR_PROMPTS = {
    "derain": ("Remove the rain.", "Take the rain out of this picture."),
    "denoise": ("Remove the noise.", "Clean up this noisy picture."),
    "deblur": ("Sharpen this picture.", "Remove the blur."),
    "enlarge": ("Make this picture sharp and detailed.", "Enlarge this small picture."),
}
_EARLY_EMOJI = re.compile("1f[3-6]..")
_FAMILIAR_KINDS = ("animal", "plant", "food", "vehicle", "instrument")
_DRAWN_SIDE = 86
_RENDERED_SIDE = 192
_COPIES_OF_SCENE = 3
_LIGHT = ((255, 255, 255), (240, 236, 220), (222, 236, 248), (226, 244, 226), (246, 226, 236))
_RELATIONS = 600
_NUM_EACH: dict[Split, int] = {"train": 400, "validation": 20, "test": 60}
"""Of every kind of edit and repair, of depths, and of restyled and edge-drawn things."""
_STYLED_RATIOS = SplitRatios(train=0.95, validation=0.05, test=0.0)
_WORDS_RATIOS = SplitRatios(train=0.88, validation=0.02, test=0.10)

_CARD = DataCard(
    subject="What is to be drawn, in words: names of 540 things in four styles, coloured shapes "
    "with number and place; or a picture with what is to be done to it: edits of scenes, drawing "
    "from edges or depth, and four kinds of repair.",
    source="Emoji as drawn by Microsoft, Google, EmojiOne, Twitter and OpenMoji; shapes, rain, "
    "noise, edges and depth were made for this set.",
    licence="Fluent Emoji MIT; Noto Emoji Apache-2.0; Twemoji CC-BY-4.0; EmojiOne 2 CC-BY-4.0; "
    "OpenMoji CC-BY-SA-4.0 (it and Twemoji test only); the rest Apache-2.0, as this package.",
    split_rule="Names: in the test all of them are asked for in words that training never uses, "
    "beside a drawing of Twemoji; one in twenty of styled drawings is validation. Scenes and edits "
    "by the hash of what lies where; repairs are tested on Twemoji and OpenMoji.",
    notes="The last image of a sample is the one to be drawn; another one before it is given. A "
    "name of the test can be drawn in many ways: its image is an example, not the answer.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """One sample before it is written."""

    task: str
    key: str
    prompt: str
    target: Image.Image
    source: Image.Image | None = None
    thought: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of all that is drawn.
        scale: share of the concepts, scenes and pairs.
    """
    sources = {name: fetch(part(name)) for name in STYLES}
    build_drawing_tasks(sources, folder, seed=seed, scale=scale)


def build_drawing_tasks(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from unpacked parts, by part name."""
    things = _Things(sources, round(1 / scale))
    numbers = {split: max(2, round(number * scale)) for split, number in _NUM_EACH.items()}
    with DatasetWriter(
        folder,
        TASK,
        seed,
        disjoint=["prompt", "drawing", "scene"],
        held_out={"style": {*HELD_OUT_STYLES}},
    ) as writer:
        _write(writer, _names(things, seed))
        _write(writer, _scenes(seed, scale))
        _write(writer, _edits(numbers, seed))
        _write(writer, _depths(numbers, seed))
        _write(writer, _from_drawings(things, numbers, seed))
        writer.close(_CARD)


def is_familiar(concept: Concept) -> bool:
    """Whether it is one of the things that `names` holds."""
    is_early = _EARLY_EMOJI.fullmatch(concept.codes[0]) is not None
    return is_early and concept.category in _FAMILIAR_KINDS and " " not in concept.name


class _Things:
    """Drawings of concepts on white, made once."""

    def __init__(self, sources: Mapping[str, Path], every: int) -> None:
        self.concepts = read_concepts()[:: max(1, every)]
        self._drawings = Drawings(sources)
        self._sources = sources
        self._made: dict[tuple[str, str], Image.Image | None] = {}

    def picture(self, style: str, concept: Concept) -> Image.Image | None:
        """In the middle of the picture, 86 pixels long; None: that style lacks it."""
        key = (style, concept.codes[0])
        if key not in self._made:
            self._made[key] = self._drawn(style, concept.codes[0])
        return self._made[key]

    def drawn_in(self, styles: Iterable[str]) -> list[tuple[str, Concept, Image.Image]]:
        """All concepts in these styles, as far as they are drawn."""
        found = []
        for style in styles:
            for concept in self.concepts:
                picture = self.picture(style, concept)
                if picture is not None:
                    found.append((style, concept, picture))
        return found

    def _drawn(self, style: str, code: str) -> Image.Image | None:
        if style not in self._sources:
            return None
        sprite = self._drawings.draw(style, code, _RENDERED_SIDE)
        if sprite is None:
            return None
        picture = Image.new("RGB", (PICTURE_SIDE, PICTURE_SIDE), (255, 255, 255))
        lay(picture, sprite, Spot(PICTURE_SIDE / 2, PICTURE_SIDE / 2, _DRAWN_SIDE))
        return picture


_Made = Iterable[tuple[Split, _Task]]


def _names(things: _Things, seed: int) -> _Made:
    for style, concept, picture in things.drawn_in(TRAINING_STYLES):
        task = "names" if is_familiar(concept) else "more_names"
        traits = _traits(style, concept)
        key = f"{style} {concept.name}"
        styled = f"Draw {concept.phrase} in the {STYLE_WORDS[style]} style."
        yield (
            _split_of_drawing(style, concept, seed),
            _Task(task=task, key=key, prompt=styled, target=picture, traits=traits),
        )
        if style == USUAL_STYLE:
            for form in NAME_PROMPTS:
                prompt = form.format(concept.phrase)
                yield (
                    "train",
                    _Task(task=task, key=prompt, prompt=prompt, target=picture, traits=traits),
                )
            if concept.colour and concept.category != "thing":
                yield "train", _thought(concept, picture, traits)
    for style, concept, picture in things.drawn_in(HELD_OUT_STYLES[:1]):
        task = "names" if is_familiar(concept) else "more_names"
        prompt = HELD_OUT_PROMPT.format(concept.phrase)
        traits = _traits(style, concept)
        yield "test", _Task(task=task, key=prompt, prompt=prompt, target=picture, traits=traits)


def _split_of_drawing(style: str, concept: Concept, seed: int) -> Split:
    """What is drawn in the usual style is asked for without one too, so it stays in training."""
    if style == USUAL_STYLE:
        return "train"
    return split_of(f"{style} {concept.name}", seed, _STYLED_RATIOS)


def _thought(concept: Concept, picture: Image.Image, traits: Mapping[str, str]) -> _Task:
    return _Task(
        task="thoughts",
        key=f"thought {concept.name}",
        prompt=f"Think of {article(f'{concept.colour} {concept.category}')}, then draw it.",
        thought=f"{capital(concept.phrase)}.",
        target=picture,
        traits={name: value for name, value in traits.items() if name != "prompt"},
    )


def _traits(style: str, concept: Concept) -> dict[str, str]:
    return {"style": style, "concept": concept.name, "drawing": f"{style} {concept.codes[0]}"}


def _scenes(seed: int, scale: float) -> _Made:
    rng = random.Random(f"{seed} relations")
    relations = (wanted_relation(rng) for _ in range(_RELATIONS))
    wanted = {each.words: each for each in (*wanted_scenes(), *relations)}
    for words in list(wanted)[:: max(1, round(1 / scale))]:
        each = wanted[words]
        split = split_of(f"scene {words}", seed, _WORDS_RATIOS)
        form = HELD_OUT_PROMPT if split == "test" else NAME_PROMPTS[len(words) % 2]
        for copy in range(_COPIES_OF_SCENE if split == "train" else 1):
            yield split, _scene_task(each, form.format(words), f"{words} {copy}", seed)


def _scene_task(wanted: Wanted, prompt: str, key: str, seed: int) -> _Task:
    things = jittered(wanted.things, random.Random(f"{seed} {key}"))
    return _Task(
        task="scenes",
        key=key,
        prompt=prompt,
        target=draw_scene(things, key),
        traits={"kind": wanted.kind, "scene": wanted.words, "prompt": prompt},
    )


def _edits(numbers: Mapping[Split, int], seed: int) -> _Made:
    for kind in EDIT_KINDS:
        for split, number in numbers.items():
            for index in range(number):
                key = f"{kind} {split} {index}"
                rng = random.Random(f"{seed} {key}")
                edit = make_edit(kind, rng)
                light = rng.choice(_LIGHT)
                yield (
                    split,
                    _Task(
                        task=kind,
                        key=key,
                        prompt=edit.instruction,
                        source=draw_scene(edit.before, key, light),
                        target=draw_scene(edit.after, key, light),
                        traits={"scene": f"{key} {edit.key}"},
                    ),
                )


def _depths(numbers: Mapping[Split, int], seed: int) -> _Made:
    for split, number in numbers.items():
        for index in range(number):
            key = f"depth {split} {index}"
            rng = random.Random(f"{seed} {key}")
            wanted = wanted_depth(rng)
            things = jittered(wanted.things, rng)
            yield (
                split,
                _Task(
                    task="depth",
                    key=key,
                    prompt=f"Draw {wanted.words} from this depth map.",
                    source=draw_depth(things),
                    target=draw_scene(things, key),
                    traits={"scene": f"{key} {wanted.words}"},
                ),
            )


def _from_drawings(things: _Things, numbers: Mapping[Split, int], seed: int) -> _Made:
    """Repairs, edges and styles: of training drawings, and in the test of those held out."""
    train = [
        (style, concept, picture)
        for style, concept, picture in things.drawn_in(TRAINING_STYLES)
        if _split_of_drawing(style, concept, seed) == "train"
    ]
    held_out = things.drawn_in(HELD_OUT_STYLES)
    splits: tuple[tuple[Split, list[tuple[str, Concept, Image.Image]]], ...] = (
        ("train", train),
        ("test", held_out),
    )
    for task in (*DEGRADATIONS, "edges"):
        for split, drawn in splits:
            rng = random.Random(f"{seed} {task} {split}")
            chosen = rng.sample(drawn, min(numbers[split], len(drawn)))
            for index, each in enumerate(chosen):
                yield split, _repair(task, index, *each, rng)
    yield from _restyled(train)


def _restyled(drawn: list[tuple[str, Concept, Image.Image]]) -> _Made:
    """From the usual style to the others."""
    usual = {concept.name: picture for style, concept, picture in drawn if style == USUAL_STYLE}
    for style, concept, picture in drawn:
        if style != USUAL_STYLE and is_familiar(concept) and concept.name in usual:
            yield (
                "train",
                _Task(
                    task="style",
                    key=f"style {style} {concept.name}",
                    prompt=f"Redraw this in the {STYLE_WORDS[style]} style.",
                    source=usual[concept.name],
                    target=picture,
                    traits={"style": style, "concept": concept.name},
                ),
            )


def _repair(
    task: str, index: int, style: str, concept: Concept, picture: Image.Image, rng: random.Random
) -> _Task:
    if task == "edges":
        prompt, source = f"Draw {concept.phrase} from these lines.", edges(picture)
    else:
        forms = REPAIR_PROMPTS[task]
        prompt, source = forms[index % len(forms)], DEGRADATIONS[task](picture, rng)
    return _Task(
        task=task,
        key=f"{task} {style} {concept.name}",
        prompt=prompt,
        source=source,
        target=picture,
        traits={"style": style, "concept": concept.name},
    )


def _write(writer: DatasetWriter, made: _Made) -> None:
    for split, task in made:
        pictures = [task.target] if task.source is None else [task.source, task.target]
        given = "" if task.source is None else "<image>"
        traits = dict(task.traits)
        if task.source is None and task.task != "thoughts":
            traits["prompt"] = task.prompt
        writer.add(
            split,
            OmniSample(
                id=f"{TASK} {task.task} {task.key}",
                conversations=(
                    Turn("user", f"{given}{task.prompt}"),
                    Turn("assistant", f"{task.thought}<image>"),
                ),
                images=tuple(writer.image(task.key, picture) for picture in pictures),
                task=task.task,
                traits=traits,
            ),
        )
