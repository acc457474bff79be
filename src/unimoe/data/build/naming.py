"""Naming: one drawn thing a picture. What is it, of what kind and colour, is it this or that?

In:  parts of emoji in six styles and of clip-art.  Out: a data set of 168-pixel pictures.
Two styles are never learnt from: Twemoji, flat drawings as two of those learnt from, and OpenMoji,
outlines by another hand than all the others. They are the test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops, ImageFilter, ImageOps

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split, SplitRatios, split_of
from unimoe.data.build.canvas import SIDE, Spot, contrasting_background, lay
from unimoe.data.build.drawings import (
    HELD_OUT_STYLES,
    OPENCLIPART,
    STYLES,
    Concept,
    Drawings,
    draw_clip_art,
    read_clip_art,
    read_concepts,
)
from unimoe.data.build.questions import Asked, capital, short, turns_of
from unimoe.data.sample import Place
from unimoe.parts import fetch, part

TASK = "naming"
NAME_QUESTIONS = (
    "What is this?",
    "What is this?",
    "What is in the picture?",
    "What does the picture show?",
    "Name the object.",
    "What do you see?",
    "What is shown here?",
)
_KIND_QUESTIONS = ("What kind of thing is this?", "What sort of thing is it?")
_COLOUR_QUESTIONS = ("What color is it?", "Which color does it have?")
_KIND_ANSWERS = {
    "animal": "An animal.",
    "plant": "A plant.",
    "food": "Food.",
    "drink": "A drink.",
    "vehicle": "A vehicle.",
    "building": "A building.",
    "clothing": "Clothing.",
    "instrument": "A musical instrument.",
    "furniture": "Furniture.",
}
# Things whose mirror image is as good: no letters on them, no left and right hand.
_MIRRORED = ("animal", "plant", "food", "vehicle")
_RATIOS = SplitRatios(train=0.95, validation=0.05, test=0.0)
_DRAWN_PIXELS = 256
_TRAINING_PICTURES = 10
# Training pictures by number, redrawn as other hands might have: the test's styles are none of
# those learnt from.
_OUTLINED, _FLAT, _OTHER_TONES, _SOFT = (2, 7), (6,), (8,), (9,)
_STRETCHED = range(5, 10)

_CARD = DataCard(
    subject="A drawing of one of 540 things: animals, food, plants, vehicles, tools, clothes and "
    "more. Asked are its name, its kind, its colour where all styles agree, and whether it is "
    "this or that.",
    source="Emoji as drawn by Microsoft (fluent-emoji, fluent-emoji-flat), Google (noto-emoji), "
    "Twitter (twemoji), EmojiOne and OpenMoji; clip-art of openclipart whose title is the name of "
    "one of the things. Names, synonyms, kinds and colours were written for this set.",
    licence="Fluent Emoji MIT; Noto Emoji Apache-2.0; Twemoji CC-BY-4.0; EmojiOne 2 CC-BY-4.0; "
    "OpenMoji CC-BY-SA-4.0 (it and Twemoji test only); openclipart public domain.",
    split_rule="All drawings of Twemoji and of OpenMoji are the test. Of the others one in twenty, "
    "by the hash of style and emoji, is validation. Clip-art is for training only.",
    notes="Drawings are turned by up to 12 degrees, some mirrored, of 45 to 95 % of the picture, "
    "on white, plain or graded backgrounds that they stand out from. Of ten training pictures of "
    "a drawing two are redrawn in few colours with dark outlines, one in few colours, one in other "
    "tones (its colour is not asked), one softened; the last five are stretched by up to a "
    "quarter. Some concepts overlap (a taxi is a car, a pigeon a dove): synonyms accept what a "
    "person would.",
)


class Drawing(NamedTuple):
    """One picture to be asked about."""

    concept: Concept
    style: str
    key: str
    """What was drawn: an emoji or a file."""
    sprite: Image.Image


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of positions, sizes, backgrounds and questions.
        scale: share of the concepts used.
    """
    sources = {name: fetch(part(name)) for name in (*STYLES, OPENCLIPART)}
    build_naming(sources, folder, seed=seed, scale=scale)


def build_naming(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from unpacked parts, by part name."""
    concepts = read_concepts()
    concepts = concepts[:: max(1, round(1 / scale))]
    with DatasetWriter(
        folder, TASK, seed, disjoint=["drawing"], held_out={"style": {*HELD_OUT_STYLES}}
    ) as writer:
        for drawing in _drawings(sources, concepts):
            split = _split(drawing, seed)
            for number in range(_TRAINING_PICTURES if split == "train" else 1):
                key = f"{drawing.style} {drawing.key} {number}"
                rng = random.Random(f"{seed} {key}")
                shown = drawing._replace(sprite=_redrawn(drawing.sprite, number, rng))
                path = writer.image(key, _picture(shown, rng))
                shows_colour = drawing.style != OPENCLIPART and number not in _OTHER_TONES
                asked = _questions(drawing.concept, concepts, split, rng, shows_colour=shows_colour)
                writer.add(split, _sample(key, path, drawing, asked))
        writer.close(_CARD)


def _drawings(sources: Mapping[str, Path], concepts: tuple[Concept, ...]) -> Iterator[Drawing]:
    drawings = Drawings(sources)
    for style in (style for style in STYLES if style in sources):
        for concept in concepts:
            for code in concept.codes:
                sprite = drawings.draw(style, code, _DRAWN_PIXELS)
                if sprite is not None:
                    yield Drawing(concept, style, code, sprite)
    if OPENCLIPART in sources:
        for concept, path in read_clip_art(sources[OPENCLIPART], concepts):
            sprite = draw_clip_art(path, _DRAWN_PIXELS)
            if sprite is not None:
                key = path.relative_to(sources[OPENCLIPART]).as_posix()
                yield Drawing(concept, OPENCLIPART, key, sprite)


def _split(drawing: Drawing, seed: int) -> Split:
    if drawing.style in HELD_OUT_STYLES:
        return "test"
    if drawing.style == OPENCLIPART:
        return "train"
    return split_of(f"{drawing.style} {drawing.key}", seed, _RATIOS)


def _redrawn(sprite: Image.Image, number: int, rng: random.Random) -> Image.Image:
    """As the picture of that number shows it."""
    if number in _OUTLINED:
        sprite = _outlined(sprite)
    if number in _FLAT:
        sprite = _with_alpha_of(sprite, _few_colours(sprite))
    if number in _OTHER_TONES:
        sprite = _with_alpha_of(sprite, _in_other_tones(sprite, rng))
    if number in _SOFT:
        sprite = sprite.filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
    if number in _STRETCHED:
        ratio = rng.uniform(0.8, 1.25)
        width, height = sprite.size
        sprite = sprite.resize((round(width * min(1, ratio)), round(height / max(1, ratio))))
    return sprite


def _with_alpha_of(sprite: Image.Image, colours: Image.Image) -> Image.Image:
    colours.putalpha(sprite.getchannel("A"))
    return colours


def _few_colours(sprite: Image.Image) -> Image.Image:
    return ImageOps.posterize(sprite.convert("RGB").filter(ImageFilter.MedianFilter(5)), 3)


def _in_other_tones(sprite: Image.Image, rng: random.Random) -> Image.Image:
    """Hues turned by up to an eighth of the circle, colours stronger or weaker."""
    hue, saturation, value = sprite.convert("RGB").convert("HSV").split()
    turn = rng.randint(-32, 32)
    strength = rng.uniform(0.6, 1.3)
    hue = hue.point(lambda level: (level + turn) % 256)
    saturation = saturation.point(lambda level: min(255, round(level * strength)))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _outlined(sprite: Image.Image) -> Image.Image:
    """The same in few colours, with dark lines where colours meet and around it."""
    alpha = sprite.getchannel("A")
    flat = _few_colours(sprite)
    within = flat.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda x: 255 * (x > 40))
    around = alpha.filter(ImageFilter.FIND_EDGES).point(lambda x: 255 * (x > 60))
    lines = ImageChops.lighter(within, around).filter(ImageFilter.MaxFilter(5))
    flat.paste((20, 20, 20), mask=lines)
    flat.putalpha(ImageChops.lighter(alpha, ImageChops.multiply(lines, around)))
    return flat


def _picture(drawing: Drawing, rng: random.Random) -> Image.Image:
    sprite = drawing.sprite
    if drawing.concept.category in _MIRRORED and rng.random() < 0.5:
        sprite = ImageOps.mirror(sprite)
    picture = contrasting_background(rng, sprite)
    length = SIDE * rng.uniform(0.45, 0.95)
    free = (SIDE - length) / 2
    x, y = (SIDE / 2 + rng.uniform(-free, free) for _ in "xy")
    lay(picture, sprite, Spot(x, y, length), rng.uniform(-12, 12))
    return picture


def _questions(
    concept: Concept,
    concepts: Sequence[Concept],
    split: Split,
    rng: random.Random,
    *,
    shows_colour: bool,
) -> list[Asked]:
    """The name alone to be judged by; more to learn from, the name not always first."""
    name = Asked(rng.choice(NAME_QUESTIONS), f"{capital(concept.phrase)}.", concept.names, "name")
    if split != "train":
        return [name]
    asked = [name]
    if concept.category in _KIND_ANSWERS and rng.random() < 0.4:
        answer = _KIND_ANSWERS[concept.category]
        asked.append(Asked(rng.choice(_KIND_QUESTIONS), answer, (answer,), "kind"))
    colour = concept.colour if shows_colour else None
    if colour and rng.random() < 0.6:
        asked.append(short(rng.choice(_COLOUR_QUESTIONS), colour, "colour"))
    if rng.random() < 0.4:
        asked.append(_presence(concept, concepts, rng))
    if rng.random() < 0.5:
        rng.shuffle(asked)
    return asked


def _presence(concept: Concept, concepts: Sequence[Concept], rng: random.Random) -> Asked:
    """Half of the time something else of the same kind, or of any."""
    shown = concept
    if rng.random() < 0.5:
        alike = [other for other in concepts if other.category == concept.category]
        others = [
            other
            for other in (alike if rng.random() < 0.5 else concepts)
            if not {*other.names} & {*concept.names}
        ]
        shown = rng.choice(others) if others else concept
    answer = "yes" if shown is concept else "no"
    return short(f"Does the picture show {shown.phrase}?", answer, "presence")


def _sample(key: str, path: str, drawing: Drawing, asked: Sequence[Asked]) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of(asked, "image"),
        images=(path,),
        task=TASK,
        answers=asked[-1].accepted,
        traits={
            "style": drawing.style,
            "concept": drawing.concept.name,
            "category": drawing.concept.category,
            "kind": asked[-1].kind,
            "drawing": f"{drawing.style} {drawing.key}",
        },
        places=(Place(f" | {drawing.concept.name}"),),
    )
