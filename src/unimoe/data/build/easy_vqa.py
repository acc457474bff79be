"""easy-VQA: one coloured shape a picture, and questions on shape, colour and presence.

In:  the folder of the part `easy-vqa`: 64 x 64 pictures and (question, answer, image) triples.
Out: a data set. Training holds every question of an image in conversations of up to six turns;
     validation asks two questions of each of its images; test is the official one, whole.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split, SplitRatios, split_of
from unimoe.data.build.questions import Asked, turns_of
from unimoe.data.sample import Box, Place
from unimoe.errors import DataError
from unimoe.parts import fetch, part

TASK = "easy_vqa"
_MAX_TURNS = 6
_VALIDATION_QUESTIONS = 2
_TRAINING_RATIOS = SplitRatios(train=0.95, validation=0.05, test=0.0)
_KINDS = {"yes": "presence", "no": "presence"} | dict.fromkeys(
    ("circle", "rectangle", "triangle"), "shape"
)

_CARD = DataCard(
    subject="A picture holds one coloured shape; what shape, what colour, is it there, is it not?",
    source="The Python package `easy-vqa` 1.0 by Victor Zhou: pictures, questions and answers as "
    "they are; the answers are single lowercase words.",
    licence="MIT.",
    split_rule="The official test split is the test split. One official training image in twenty, "
    "by the hash of its number, is validation.",
    notes="Three of four questions are answered yes or no, half of them each. In training most "
    "conversations ask those first, so that no earlier answer gives the later ones away.",
)


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its part, fetched if it is not there yet.

    Args:
        folder: where the set will stand.
        seed: of the order of questions and the choice of validation images.
        scale: share of the images used.
    """
    build_easy_vqa(fetch(part("easy-vqa")), folder, seed=seed, scale=scale)


def build_easy_vqa(source: Path, folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from an unpacked package."""
    with DatasetWriter(folder, TASK, seed, disjoint=["picture"]) as writer:
        for official in ("train", "test"):
            images = source / "easy_vqa" / "data" / official / "images"
            for number, questions in _questions(source, official, scale).items():
                picture = f"{official} {number}"
                split: Split = (
                    "test" if official == "test" else split_of(picture, seed, _TRAINING_RATIOS)
                )
                drawn = _read(images / f"{number}.png")
                path = writer.image(picture, drawn)
                asked = _conversations(questions, split, random.Random(f"{seed} {picture}"))
                places = _places(_shown(questions), drawn)
                for index, conversation in enumerate(asked):
                    key = f"{picture} {index}"
                    writer.add(split, _sample(key, path, conversation, picture, places))
        writer.close(_CARD)


def _questions(source: Path, official: str, scale: float) -> dict[int, list[Asked]]:
    """Questions by the number of their image, for the first images up to the wanted share."""
    path = source / "easy_vqa" / "data" / official / "questions.json"
    if not path.is_file():
        raise DataError(f"{path}: not there; need the package easy-vqa 1.0 unpacked in {source}")
    found: dict[int, list[Asked]] = defaultdict(list)
    for text, answer, number in json.loads(path.read_text()):
        kind = _KINDS.get(answer, "colour")
        found[number].append(Asked(text, answer, (answer,), kind))
    num_images = max(1, round(len(found) * scale))
    return {number: found[number] for number in sorted(found)[:num_images]}


def _conversations(
    questions: Sequence[Asked], split: Split, rng: random.Random
) -> list[Sequence[Asked]]:
    """What one image is asked: many turns to learn from, one turn to be judged by."""
    shuffled = rng.sample(questions, len(questions))
    if split == "test":
        return [[question] for question in questions]
    if split == "validation":
        return [[question] for question in shuffled[:_VALIDATION_QUESTIONS]]
    num_conversations = -(-len(shuffled) // _MAX_TURNS)
    size = -(-len(shuffled) // num_conversations)
    starts = range(0, len(shuffled), size)
    return [_ordered(shuffled[start : start + size], rng) for start in starts]


def _ordered(turns: Sequence[Asked], rng: random.Random) -> list[Asked]:
    """Two times of three, what shape and what colour come last."""
    if rng.random() < 1 / 3:
        return list(turns)
    return sorted(turns, key=lambda question: question.kind != "presence")


def _shown(questions: Sequence[Asked]) -> str:
    """Such as "blue | circle", as far as the questions tell."""
    answers = {question.kind: question.answer for question in questions}
    told = [answers.get(kind, "") for kind in ("colour", "shape")]
    return " | ".join(told) if any(told) else ""


def _places(shown: str, picture: Image.Image) -> tuple[Place, ...]:
    """What is told of the one shape, where it is: all that has not the commonest colour."""
    pixels = np.asarray(picture)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    edges = Image.fromarray((pixels != colours[counts.argmax()]).any(-1)).getbbox()
    if not shown or edges is None:
        return ()
    shares = zip(edges, picture.size * 2, strict=True)
    return (Place(shown, Box(*(round(edge / side, 3) for edge, side in shares))),)


def _sample(
    key: str, path: str, questions: Sequence[Asked], picture: str, places: tuple[Place, ...]
) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of(questions, "image"),
        images=(path,),
        task=TASK,
        answers=questions[-1].accepted,
        traits={"picture": picture, "kind": questions[-1].kind},
        places=places,
    )


def _read(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
