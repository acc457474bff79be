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
from typing import TypeAlias

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
    wanted_relations,
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
NAME_PROMPTS = (
    "Draw {}.",
    "A picture of {}.",
    "Please paint {}.",
    "Could you draw {}?",
    "Show me {}.",
    "I want an image of {}.",
    "Can you sketch {}?",
    "Make a picture of {} for me.",
)
"""So many that what they share is learned, and not their words."""
_FURTHER_PROMPTS = (
    "Sketch {} for us, please.",
    "I would like to see {}.",
    "Would you draw {}, please?",
    "Paint me {}.",
    "Let me see a drawing of {}.",
    "Create an image of {}.",
    "How about a little painting of {}?",
    "May I have a picture of {}?",
    "Would you paint {}?",
    "Give me a drawing of {}, please.",
    "Let us draw {}.",
    "Can I see {}?",
    "Paint a picture that shows {}.",
    "Make me a little sketch of {}.",
    "What does {} look like? Draw it.",
    "Do a painting of {} for us.",
)
"""Further words for whatever has no style. A painter that is fitted to another core knows a name in
words that neither taught it the better, the more words both cores have read it in, and scenes in
words it never saw want as many (docs/log.md)."""
_UNSTYLED_PROMPTS = NAME_PROMPTS + _FURTHER_PROMPTS
STYLED_PROMPTS = ("Draw {} in the {} style.", "Paint {} in the {} style.")
HELD_OUT_PROMPT = "Can you paint {} for me?"
THOUGHT_PROMPTS = (
    "Think of {}, then draw it.",
    "Imagine {} and paint it.",
    "Choose {} and show it to me.",
    "Say what {} could be, and sketch it.",
)
HELD_OUT_THOUGHT_PROMPT = "There is {} on my mind. Paint it."
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
_COPIES_OF_SCENE, _COPIES_OF_PAIR = 6, 3
"""Of one kind of thing, and of two beside each other, of which there are many. Three copies in a
row differ in their wording."""
_LIGHT = ((255, 255, 255), (240, 236, 220), (222, 236, 248), (226, 244, 226), (246, 226, 236))
_NUM_EACH: dict[Split, int] = {"train": 1200, "validation": 20, "test": 60}
"""Of every kind of edit, of depths, and of edge-drawn things."""
_NUM_REPAIRS: dict[Split, int] = {"train": 1600, "test": 60}
"""Of every kind. Their prompts are few and soon read; what they lack is pictures."""
_STYLED_RATIOS = SplitRatios(train=0.95, validation=0.02, test=0.03)
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
    "beside a drawing of Twemoji. Of styled drawings 2 % are validation, and 3 % what "
    "a drawing of Twemoji is to be redrawn like in the test. Scenes and edits by the hash of what "
    "lies where; repairs are tested on Twemoji and OpenMoji.",
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


_Drawn: TypeAlias = list[tuple[str, Concept, Image.Image]]
"""Style, what it shows, and the picture."""


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
    numbers, repairs = (
        {split: max(2, round(number * scale)) for split, number in counts.items()}
        for counts in (_NUM_EACH, _NUM_REPAIRS)
    )
    with DatasetWriter(
        folder,
        TASK,
        seed,
        # Not "drawing", as in `naming`: what is seen and what is drawn need not be apart.
        disjoint=["prompt", "target", "scene"],
        held_out={"style": {*HELD_OUT_STYLES}},
    ) as writer:
        _write(writer, _names(things, seed))
        _write(writer, _scenes(seed, scale))
        _write(writer, _edits(numbers, seed))
        _write(writer, _depths(numbers, seed))
        of_task = dict.fromkeys(DEGRADATIONS, repairs) | {"edges": numbers}
        _write(writer, _from_drawings(things, of_task, seed))
        _write(writer, _restyled(things, seed))
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

    def drawn_in(self, styles: Iterable[str]) -> _Drawn:
        """All concepts in these styles, as far as they are drawn."""
        found: _Drawn = []
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
        split = _split_of_drawing(style, concept, seed)
        if split == "test":  # there a picture is to be redrawn like this one
            continue
        unstyled = _UNSTYLED_PROMPTS if style == USUAL_STYLE else ()
        forms = STYLED_PROMPTS + unstyled
        for form in forms:
            prompt = form.format(concept.phrase, STYLE_WORDS[style])
            yield split, _name(prompt, style, concept, picture)
        if style == USUAL_STYLE and (thought := _riddle(concept)):
            for form in THOUGHT_PROMPTS:
                yield "train", _thought(thought, form, style, concept, picture)
    for style, concept, picture in things.drawn_in(HELD_OUT_STYLES[:1]):
        yield "test", _name(HELD_OUT_PROMPT.format(concept.phrase), style, concept, picture)
        if thought := _riddle(concept):
            yield "test", _thought(thought, HELD_OUT_THOUGHT_PROMPT, style, concept, picture)


def _name(prompt: str, style: str, concept: Concept, picture: Image.Image) -> _Task:
    return _Task(
        task="names" if is_familiar(concept) else "more_names",
        key=prompt,
        prompt=prompt,
        target=picture,
        traits={
            "style": style,
            "concept": concept.name,
            "target": f"{style} {concept.codes[0]}",
        },
    )


def _riddle(concept: Concept) -> str:
    """Such as "an orange animal"; empty: nothing can be asked so."""
    if not concept.colour or concept.category == "thing":
        return ""
    return article(f"{concept.colour} {concept.category}")


def _thought(riddle: str, form: str, style: str, concept: Concept, picture: Image.Image) -> _Task:
    prompt = form.format(riddle)
    return _Task(
        task="thoughts",
        key=f"{prompt} {concept.name}",
        prompt=prompt,
        thought=f"{capital(concept.phrase)}.",
        target=picture,
        traits={"style": style, "concept": concept.name},
    )


def _split_of_drawing(style: str, concept: Concept, seed: int) -> Split:
    """What is drawn in the usual style is asked for without one too, so it stays in training."""
    if style == USUAL_STYLE:
        return "train"
    return split_of(f"{style} {concept.name}", seed, _STYLED_RATIOS)


def _scenes(seed: int, scale: float) -> _Made:
    for each in [*wanted_scenes(), *wanted_relations()][:: max(1, round(1 / scale))]:
        words = each.words
        split = split_of(f"scene {words}", seed, _WORDS_RATIOS)
        copies = _COPIES_OF_PAIR if each.kind == "relation" else _COPIES_OF_SCENE
        for copy in range(copies if split == "train" else 1):
            form = HELD_OUT_PROMPT if split == "test" else _scene_form(words, copy)
            yield split, _scene_task(each, form.format(words), f"{words} {copy}", seed)


def _scene_form(words: str, copy: int) -> str:
    """Another wording every copy; all of them come about equally often."""
    number = len(words) % len(NAME_PROMPTS) + copy * len(NAME_PROMPTS)
    return _UNSTYLED_PROMPTS[number % len(_UNSTYLED_PROMPTS)]


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


def _from_drawings(things: _Things, numbers: Mapping[str, Mapping[Split, int]], seed: int) -> _Made:
    """Repairs and edges: of training drawings, and in the test of styles held out."""
    train: _Drawn = [
        (style, concept, picture)
        for style, concept, picture in things.drawn_in(TRAINING_STYLES)
        if _split_of_drawing(style, concept, seed) == "train"
    ]
    held_out = things.drawn_in(HELD_OUT_STYLES)
    splits: tuple[tuple[Split, _Drawn], ...] = (("train", train), ("test", held_out))
    for task, of_task in numbers.items():
        for split, drawn in splits:
            rng = random.Random(f"{seed} {task} {split}")
            chosen = rng.sample(drawn, min(of_task[split], len(drawn)))
            for index, each in enumerate(chosen):
                yield split, _repair(task, index, *each, rng)


def _restyled(things: _Things, seed: int) -> _Made:
    """From the usual style to the others; in the test from one never seen to drawings unseen."""
    sources: dict[Split, str] = {"train": USUAL_STYLE, "test": HELD_OUT_STYLES[0]}
    styles = [style for style in TRAINING_STYLES if style != USUAL_STYLE]
    for style, concept, picture in things.drawn_in(styles):
        split = _split_of_drawing(style, concept, seed)
        source = things.picture(sources[split], concept) if split in sources else None
        if source is not None and (is_familiar(concept) or split == "test"):
            yield (
                split,
                _Task(
                    task="style",
                    key=f"style {style} {concept.name}",
                    prompt=f"Redraw this in the {STYLE_WORDS[style]} style.",
                    source=source,
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
