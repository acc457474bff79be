"""Photos that packages ship: what is it? A test for a model that has only seen drawings.

In:  the parts `tuxpaint` (cut-out photos) and `photos`; `photos.tsv` beside this file: what each
shows.  Out: a data set with a test split only.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from unimoe.data import DataCard, DatasetWriter, OmniSample
from unimoe.data.build.drawings import read_concepts
from unimoe.data.build.naming import NAME_QUESTIONS
from unimoe.data.build.questions import Asked, capital, turns_of
from unimoe.errors import DataError
from unimoe.parts import fetch, part

TASK = "photos"
PARTS = ("tuxpaint", "photos")
_LONGEST_SIDE = 336
_MARGIN = 0.05

_CARD = DataCard(
    subject="Photos of animals, fruit, vegetables, tools, instruments, vehicles and more, most of "
    "them cut out on white. Asked is what they show.",
    source="Stamps of Tux Paint that are photos, and photos of scikit-image. Names and synonyms "
    "were written for this set; where a thing is a concept of `naming`, its synonyms count too.",
    licence="Tux Paint stamps: GPL-2.0-or-later; scikit-image: BSD-3-Clause, most photos CC0. "
    "They are built here and not passed on.",
    split_rule="All are test.",
    notes="Nothing of mini is trained on photos, apart from a few pieces of clip-art made of them.",
)


class Photo(NamedTuple):
    """A file and what it shows."""

    part: str
    path: str
    name: str
    synonyms: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All that is right, the best first."""
        found = [c.names for c in read_concepts() if c.name == self.name]
        return tuple(dict.fromkeys((self.name, *self.synonyms, *(found[0] if found else ()))))

    @property
    def phrase(self) -> str:
        """With its article."""
        phrases = [c.phrase for c in read_concepts() if c.name == self.name]
        return phrases[0] if phrases else f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of the questions.
        scale: share of the photos used.
    """
    sources = {name: fetch(part(name)) for name in PARTS}
    build_photos(sources, folder, seed=seed, scale=scale)


def build_photos(
    sources: Mapping[str, Path], folder: Path, *, seed: int = 0, scale: float = 1.0
) -> None:
    """Build the data set from unpacked parts, by part name.

    Raises:
        DataError: a photo is not where it should be.
    """
    with DatasetWriter(folder, TASK, seed) as writer:
        photos = [photo for photo in read_photos() if photo.part in sources]
        for photo in photos[:: max(1, round(1 / scale))]:
            key = f"{photo.part} {photo.path}"
            path = sources[photo.part] / photo.path
            if not path.is_file():
                raise DataError(f"{path}: not there; need the part {photo.part!r} as unpacked")
            rng = random.Random(f"{seed} {TASK} {key}")
            answer = f"{capital(photo.phrase)}."
            asked = Asked(rng.choice(NAME_QUESTIONS), answer, photo.names, "name")
            writer.add("test", _sample(key, writer.image(key, _on_white(path)), photo, asked))
        writer.close(_CARD)


def read_photos() -> list[Photo]:
    """All photos, in the order of the table."""
    text = (files("unimoe.data.build") / "photos.tsv").read_text("utf-8")
    return [
        Photo(
            row["part"],
            row["path"],
            row["name"],
            tuple(row["synonyms"].split(", ")) if row["synonyms"] else (),
        )
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
    ]


def _on_white(path: Path) -> Image.Image:
    """Scaled down; what is cut out is laid on white with a margin, in a square."""
    with Image.open(path) as opened:
        is_cut_out = "A" in opened.getbands() or "transparency" in opened.info
        photo = opened.convert("RGBA")
    photo.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    if not is_cut_out:
        return photo.convert("RGB")
    photo = photo.crop(photo.getbbox())
    side = round(max(photo.size) * (1 + 2 * _MARGIN))
    picture = Image.new("RGB", (side, side), (255, 255, 255))
    picture.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2), photo)
    return picture


def _sample(key: str, path: str, photo: Photo, asked: Asked) -> OmniSample:
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of([asked], "image"),
        images=(path,),
        task=TASK,
        answers=asked.accepted,
        traits={"concept": photo.name, "source": photo.part, "kind": asked.kind},
    )
