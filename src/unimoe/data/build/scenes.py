"""Scenes: several shapes and drawn things a picture; how many, which colour, where, how large?

In:  parts of emoji, training styles only.  Out: a data set of composed 168-pixel pictures.
Of training pictures one in four holds one thing alone. Training asks up to eight questions on a
picture, of every kind or all of one, the last of some to describe it or to list what is where;
validation and test ask one. Of what could be asked, the answer given least so far is asked for: no
answer of a kind of question is a good guess.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split
from unimoe.data.build.canvas import SIDE
from unimoe.data.build.drawings import TRAINING_STYLES, Drawings
from unimoe.data.build.questions import Asked, Balance, turns_of
from unimoe.data.build.scene_layout import Scene, Sprite, compose_scene, read_sprites
from unimoe.data.build.scene_questions import (
    KINDS,
    caption_of,
    inventory_of,
    places_of,
    questions_on,
)
from unimoe.parts import fetch, part

TASK = "scenes"
_NUM_PICTURES: dict[Split, int] = {"train": 18_000, "validation": 300, "test": 1000}
_TRAINING_TURNS = 8
_ALONE_EVERY = 4
"""Of so many training pictures one holds a single thing. A connector that meets a thing alone only
where all of the picture is told its name says it everywhere, and so not where it is; then nobody
can tell which way it moves (docs/log.md)."""
_CAPTION_SHARE, _INVENTORY_SHARE = 0.15, 0.5
_FOCUS = {
    KINDS: 0.35,
    ("position",): 0.2,
    ("count",): 0.15,
    ("colour", "shape"): 0.1,
    ("relation", "neighbour"): 0.15,
    ("presence", "size"): 0.05,
}
"""What a picture of training is asked about, and how often: several questions of one kind on one
picture tell its things apart."""

_CARD = DataCard(
    subject=f"A picture of {SIDE} x {SIDE} pixels with up to nine coloured shapes and drawn "
    "things. Asked are colours, shapes, numbers, places, neighbours, sizes, and what is there; "
    "training also asks for a description, or what is where.",
    source="Composed for this set: circles, squares, triangles, stars and hearts in eight "
    "colours, and emoji of the styles that `naming` learns from.",
    licence="Fluent Emoji MIT; Noto Emoji Apache-2.0; Twemoji CC-BY-4.0; EmojiOne 2 CC-BY-4.0; "
    "the rest Apache-2.0, as this package.",
    split_rule="Each split composes its own pictures from its own random numbers; a scene of the "
    "same things in the same places does not come twice.",
    notes="Left and right are the viewer's. A thing is left of another if its middle is so by "
    "more than a seventh of the picture; no question is asked where it is close.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of all that is drawn.
        scale: share of the pictures made.
    """
    sources = {name: fetch(part(name)) for name in TRAINING_STYLES}
    build_scenes(sources, folder, seed=seed, scale=scale)


def build_scenes(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from unpacked parts, by part name."""
    sprites = read_sprites(
        Drawings(sources), [style for style in TRAINING_STYLES if style in sources]
    )
    with DatasetWriter(folder, TASK, seed, disjoint=["scene"]) as writer:
        for split, number in _NUM_PICTURES.items():
            balance = Balance()
            for index in range(max(1, round(number * scale))):
                key = f"{split} {index}"
                rng = random.Random(f"{seed} {TASK} {key}")
                is_alone = split == "train" and index % _ALONE_EVERY == 0
                # The kinds take turns, so that all are asked and judged equally often.
                kinds = KINDS if is_alone else (KINDS[index % len(KINDS)],)
                scene, kind, possible = _scene_to_ask(kinds, sprites, rng, is_alone=is_alone)
                asked = _asked(scene, possible, kind, split, balance, rng)
                path = writer.image(key, scene.picture)
                writer.add(split, _sample(key, path, scene, asked))
        writer.close(_CARD)


def _scene_to_ask(
    kinds: Sequence[str], sprites: Sequence[Sprite], rng: random.Random, *, is_alone: bool
) -> tuple[Scene, str, dict[str, list[Asked]]]:
    """A scene with an answer to a question of one of these kinds; which; all that can be asked."""
    while True:
        scene = compose_scene(sprites, rng, is_alone=is_alone)
        possible = questions_on(scene, rng)
        if answered := [kind for kind in kinds if possible[kind]]:
            # A choice of one would draw a number too, and make other pictures of every split.
            kind = answered[0] if len(answered) == 1 else rng.choice(answered)
            return scene, kind, possible


def _asked(
    scene: Scene,
    possible: Mapping[str, list[Asked]],
    kind: str,
    split: Split,
    balance: Balance,
    rng: random.Random,
) -> list[Asked]:
    """A question of this kind; to learn from, several, and a description."""
    if split != "train":
        return [balance.choose(possible[kind])]
    (focus,) = rng.choices(list(_FOCUS), [*_FOCUS.values()])
    candidates = {each: list(possible[each]) for each in focus}
    candidates.setdefault(kind, list(possible[kind]))
    chosen: list[Asked] = []
    while any(candidates.values()) and len(chosen) < _TRAINING_TURNS:
        for left in candidates.values():
            if left:
                chosen.append(balance.choose(left))
                left.remove(chosen[-1])
    rng.shuffle(chosen)
    draw = rng.random()
    if draw < _CAPTION_SHARE + _INVENTORY_SHARE:
        describe = caption_of if draw < _CAPTION_SHARE else inventory_of
        chosen[_TRAINING_TURNS - 1 :] = [describe(scene, rng)]
    return chosen[:_TRAINING_TURNS]


def _sample(key: str, path: str, scene: Scene, asked: Sequence[Asked]) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of(asked, "image"),
        images=(path,),
        task=TASK,
        answers=asked[-1].accepted,
        traits={"kind": asked[-1].kind, "scene": scene.key},
        places=places_of(scene),
    )
