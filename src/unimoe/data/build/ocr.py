"""Reading: common words and numbers, rendered in many letters and colours.

In:  the parts `fonts` and `wordnet` (for words in use).  Out: a data set of 168-pixel pictures.
Two families of letters are never learnt from, and no number of the test is in training. The words
used most are the same ones in all splits, in other pictures. A third of training shows thousands of
further words, so that words are spelt from their letters and not only known; words of the kind "new
word", which no other split has, show how well. Answers are spelt: a word is learned letter by
letter, as the tokens of a picture say it, and a number digit by digit.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from unimoe.data import DataCard, DatasetWriter, OmniSample, Split, SplitRatios, split_of
from unimoe.data.build.canvas import COLOURS, RGB, SIDE, Spot, lay, make_background, shade
from unimoe.data.build.corpora import read_glosses
from unimoe.data.build.letter_builds import PLAIN, Build, any_build, moved, rebuilt
from unimoe.data.build.questions import Asked, turns_of
from unimoe.data.sample import Box, Place
from unimoe.errors import DataError
from unimoe.parts import fetch, part

TASK = "ocr"
PARTS = ("fonts", "wordnet")
FURTHER_FONTS = "further-fonts"
"""A part of families that no set shows: for what is drawn beside it."""
HELD_OUT_FAMILIES = ("Cabin", "Old Standard TT")
_NUM_PICTURES: dict[Split, int] = {"train": 18_000, "validation": 150, "test": 600}
_QUESTIONS = (
    "What does it say?",
    "What is written here?",
    "Read the text.",
    "What does the text say?",
    "Read what is in the picture.",
)
_RATIOS = SplitRatios(train=0.8, validation=0.05, test=0.15)
_NUM_WORDS, _NUM_NEW_WORDS, _NUM_FURTHER_WORDS = 300, 100, 4000
# Cuts whose strokes vanish, or that show other letters than those written.
_LEFT_OUT = re.compile("Thin|ExtraLight|Light|Book|Code|Sans Mono Oblique")
# Not to be read on a light ground.
_FAINT = ("yellow",)
_DARK: tuple[RGB, ...] = ((20, 20, 24), (30, 40, 90), (70, 20, 60), (20, 70, 50))
_LETTER_PIXELS = 64
_NEW_SHARE = 0.15
_FURTHER_SHARE = 0.35
_MOST_DIGITS = 4
_REBUILT_SHARE = 0.5
LINE_END = "line"
"""Told once between two lines, so that their parting need not be guessed from where letters are."""
_UNDRAWN = "text.png"
"""A picture that stands nowhere."""

_CARD = DataCard(
    subject="One of 300 common words of 3 to 6 letters, a number, or two of these, in one of "
    "twenty families of letters; in a third of training one of up to 4,000 words less common. "
    "Asked is what it says.",
    source="Free fonts of Debian; the words that WordNet's glosses use most.",
    licence="Fonts: OFL-1.1, Apache-2.0, and the licences of DejaVu and Liberation; pictures made "
    "with them are free. Words: WordNet licence.",
    split_rule="Numbers by their hash; common words are the same in all splits, but for 15 % of "
    "the test (kind: new word), which are nowhere else. Half of the test is in two families of "
    "letters that are never learnt from. No picture is in two splits.",
    notes="Letters are about 25 pixels wide, two patches of the encoder, turned by up to 6 "
    "degrees. Their case is as shown.",
)


@dataclass(frozen=True, slots=True)
class Typeface:
    """A file of letters."""

    family: str
    path: Path


class Text(NamedTuple):
    """What is written: one line or two."""

    lines: tuple[str, ...]
    kind: str
    """word, number, two (words or numbers), further word or new word."""

    @property
    def words(self) -> str:
        """As it is read."""
        return " ".join(self.lines)

    @property
    def own(self) -> Mapping[str, str]:
        """As a trait: what of it belongs to one split alone."""
        is_own = self.kind == "new word" or self.lines[0].isdigit()
        return {"own_text": self.words.lower()} if is_own else {}


class Words(NamedTuple):
    """What is written besides numbers."""

    known: tuple[str, ...]
    new: tuple[str, ...]
    """Of the test alone."""
    further: tuple[str, ...]
    """Of training alone."""


def build(folder: Path, *, seed: int = 0, scale: float = 1.0) -> None:
    """Build the data set from its parts, fetched if they are not there yet.

    Args:
        folder: where the set will stand.
        seed: of all that is drawn.
        scale: share of the pictures made.
    """
    sources = {name: fetch(part(name)) for name in PARTS}
    build_ocr(sources, folder, seed=seed, scale=scale)


def build_ocr(
    sources: Mapping[str, Path],
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
    held_out_families: tuple[str, ...] = HELD_OUT_FAMILIES,
) -> None:
    """Build the data set from unpacked parts, by part name.

    Raises:
        DataError: a held-out family is not among the fonts, or they are all that there is.
    """
    texts = WrittenTexts(sources, seed=seed, held_out_families=held_out_families)
    held_out = {"family": set(held_out_families)}
    with DatasetWriter(folder, TASK, seed, disjoint=["own_text"], held_out=held_out) as writer:
        for split, number in _NUM_PICTURES.items():
            for index in range(max(2, round(number * scale))):
                picture, sample = texts.draw(split, index)
                path = writer.image(f"{split} {index}", picture)
                writer.add(split, dataclasses.replace(sample, images=(path,)))
        writer.close(_CARD)


class WrittenTexts:
    """Pictures of text without end; that of a number is the same whenever it is drawn."""

    def __init__(
        self,
        sources: Mapping[str, Path],
        *,
        seed: int = 0,
        held_out_families: tuple[str, ...] = HELD_OUT_FAMILIES,
    ) -> None:
        """Read letters and words from unpacked parts, by part name.

        Args:
            sources: `PARTS`; with `FURTHER_FONTS` too, training is in these as well, and half of
                it in other builds of the letters.
            seed: of all that is drawn.
            held_out_families: of the test alone.

        Raises:
            DataError: a held-out family is not among the fonts, or they are all that there is.
        """
        self._seed = seed
        typefaces = read_typefaces(sources["fonts"])
        self._has_builds = FURTHER_FONTS in sources
        if self._has_builds:
            typefaces += read_typefaces(sources[FURTHER_FONTS])
        self._held_out, self._learned = _parted(typefaces, held_out_families)
        texts = (text for gloss in read_glosses(sources["wordnet"]) for text in gloss.spoken_texts)
        self._words = _parted_words(common_words(texts))

    def text(self, split: Split, index: int) -> Text:
        """What is written in a picture."""
        return self._begin(split, index)[1]

    def draw(self, split: Split, index: int) -> tuple[Image.Image, OmniSample]:
        """A picture, 168 pixels a side, and what is asked of it; of where it will stand nothing."""
        typeface, text, rng = self._begin(split, index)
        is_rebuilt = self._has_builds and split == "train" and rng.random() < _REBUILT_SHARE
        picture, places = _picture(text, typeface, any_build(rng) if is_rebuilt else PLAIN, rng)
        letters = "held out" if self._is_new(split, index) else "training"
        key, question = f"{split} {index}", rng.choice(_QUESTIONS)
        return picture, _sample(key, text, typeface.family, letters, question, places)

    def _begin(self, split: Split, index: int) -> tuple[Typeface, Text, random.Random]:
        rng = random.Random(f"{self._seed} {TASK} {split} {index}")
        faces = self._held_out if self._is_new(split, index) else self._learned
        typeface = _choose(faces, rng)
        return typeface, _draw_text(split, self._words, self._seed, rng), rng

    @staticmethod
    def _is_new(split: Split, index: int) -> bool:
        """Half of the test is in letters never learnt from."""
        return split == "test" and index % 2 == 1


def read_typefaces(folder: Path) -> list[Typeface]:
    """All upright and italic letters of the folder, in the order of their files.

    Raises:
        DataError: there are none.
    """
    paths = [path for ending in ("ttf", "otf") for path in sorted(folder.rglob(f"*.{ending}"))]
    found = [
        Typeface(ImageFont.truetype(path, 20).getname()[0] or path.stem, path)
        for path in paths
        if not _LEFT_OUT.search(path.stem)
    ]
    if not found:
        raise DataError(f"{folder}: no .ttf or .otf files; need a part of fonts as unpacked")
    return found


def common_words(texts: Iterable[str]) -> list[str]:
    """Words of 3 to 6 small letters, those used most often first."""
    pattern = re.compile(r"(?<!\S)[a-z]{3,6}(?=[\s,;.]|$)")
    uses = Counter(word for text in texts for word in pattern.findall(text))
    return sorted(uses, key=lambda word: (-uses[word], word))


def split_of_number(number: str, seed: int = 0) -> Split:
    """The split of all pictures of this number."""
    return split_of(f"ocr {number}", seed, _RATIOS)


def _parted_words(words: Sequence[str]) -> Words:
    """The words used most, those used most after them, and as many of the rest as there are.

    Raises:
        DataError: too few words.
    """
    known, others = words[:_NUM_WORDS], words[_NUM_WORDS:]
    new, further = others[:_NUM_NEW_WORDS], others[_NUM_NEW_WORDS:]
    if not further:
        raise DataError(
            f"{len(words)} words; need more than {_NUM_WORDS + _NUM_NEW_WORDS} to be read. Give "
            "more texts"
        )
    return Words(tuple(known), tuple(new), tuple(further[:_NUM_FURTHER_WORDS]))


def _parted(
    typefaces: Sequence[Typeface], held_out_families: Sequence[str]
) -> tuple[list[Typeface], list[Typeface]]:
    """Those held out, and those to be learnt from."""
    families = {face.family for face in typefaces}
    missing = sorted(set(held_out_families) - families)
    if missing or families == set(held_out_families):
        raise DataError(
            f"fonts of {', '.join(sorted(families))}; need {', '.join(held_out_families)} to be "
            "held out, and others to learn from"
        )
    held_out = [face for face in typefaces if face.family in held_out_families]
    return held_out, [face for face in typefaces if face.family not in held_out_families]


def _choose(typefaces: Sequence[Typeface], rng: random.Random) -> Typeface:
    """Families are equally likely, however many cuts they have."""
    family = rng.choice(sorted({face.family for face in typefaces}))
    return rng.choice([face for face in typefaces if face.family == family])


def _draw_text(split: Split, words: Words, seed: int, rng: random.Random) -> Text:
    if split == "test" and rng.random() < _NEW_SHARE:
        return Text((_cased(rng.choice(words.new), rng),), "new word")
    if split == "train" and rng.random() < _FURTHER_SHARE:
        return Text((_cased(rng.choice(words.further), rng),), "further word")
    make = rng.random()
    if make < 0.6:
        return Text((_cased(rng.choice(words.known), rng),), "word")
    if make < 0.85:
        return Text((_number(split, seed, rng),), "number")
    if make < 0.95:
        case = rng.randrange(2**32)
        pair = [_cased(word, random.Random(case)) for word in rng.sample(words.known, 2)]
        return Text(tuple(pair), "two")
    return Text((_number(split, seed, rng), _number(split, seed, rng)), "two")


def _number(split: Split, seed: int, rng: random.Random) -> str:
    """Two to four digits that belong to the split."""
    while True:
        number = str(rng.randrange(10, 10 ** rng.randint(2, _MOST_DIGITS)))
        if split_of_number(number, seed) == split:
            return number


def _cased(word: str, rng: random.Random) -> str:
    return rng.choice((str.lower, str.lower, str.lower, str.capitalize, str.upper))(word)


class _Written(NamedTuple):
    """Lines of letters, RGBA, cut to the letters."""

    picture: Image.Image
    middles: tuple[tuple[str, float, float], ...]
    """Of every letter and end of a line, across and down from the middle of the picture, in its
    pixels."""


def _picture(
    text: Text, typeface: Typeface, build: Build, rng: random.Random
) -> tuple[Image.Image, tuple[Place, ...]]:
    """The text somewhere on a background, and where each letter and end of a line is."""
    picture = make_background(rng)
    colour = rng.choice(tuple(COLOURS))
    ink = shade(colour, rng)
    if colour in _FAINT:
        picture = Image.new("RGB", picture.size, rng.choice(_DARK))
    elif rng.random() < 0.15:
        picture = Image.new("RGB", picture.size, ink)
        ink = (255, 255, 255)
    written = _written(text.lines, typeface, build, ink)
    letters = written.picture
    widest = 0.94 * SIDE
    tallest = 0.3 * SIDE * len(text.lines)
    largest = min(widest, tallest * max(1.0, letters.width / letters.height))
    length = largest * rng.uniform(0.85, 1.0)
    height = length * letters.height / max(letters.size)
    width = length * letters.width / max(letters.size)
    x = SIDE / 2 + rng.uniform(-1, 1) * max(0.0, (SIDE - width) / 2 - 6)
    y = SIDE / 2 + rng.uniform(-1, 1) * max(0.0, (SIDE - height) / 2 - 10)
    lay(picture, letters, Spot(x, y, length), rng.choice((0.0, 0.0, rng.uniform(-6, 6))))
    scale = length / max(letters.size)
    places = [
        Place(letter, _point((x + right * scale) / SIDE, (y + below * scale) / SIDE))
        for letter, right, below in written.middles
    ]
    return picture, tuple(places)


def _point(x: float, y: float) -> Box:
    """Where a letter has its middle; the turn of the text is left out, so its lines stay lines."""
    across, down = (min(1.0, max(0.0, round(share, 3))) for share in (x, y))
    return Box(across, down, across, down)


def _written(lines: Sequence[str], typeface: Typeface, build: Build, ink: RGB) -> _Written:
    """Lines one below the other, each in the middle."""
    font = ImageFont.truetype(typeface.path, _LETTER_PIXELS)
    text = "\n".join(lines)
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = pen.multiline_textbbox((0, 0), text, font=font, align="center")
    size = (round(box[2] - box[0]) + 8, round(box[3] - box[1]) + 8)
    picture = Image.new("RGBA", size, (*ink, 0))
    corner = (4 - box[0], 4 - box[1])
    ImageDraw.Draw(picture).multiline_text(corner, text, font=font, align="center", fill=ink)
    middles = _middles(lines, font, pen)
    at = [(sign, *moved(right, below, build)) for sign, right, below in middles]
    return _Written(rebuilt(picture, build), tuple(at))


class _Line(NamedTuple):
    """Where a line of letters is, in the pixels it is drawn with."""

    letters: str
    ends: tuple[float, ...]
    """Where the first letter begins and each one ends, across from the middle of all lines."""
    below: float
    """Its middle, from that of all lines together."""

    @property
    def half_letter(self) -> float:
        """Of a letter of mean width."""
        return self.ends[-1] / len(self.letters)


def _middles(
    lines: Sequence[str], font: ImageFont.FreeTypeFont, pen: ImageDraw.ImageDraw
) -> Iterator[tuple[str, float, float]]:
    """Every letter and end of a line, and where its middle is from that of all lines together."""
    above: _Line | None = None
    for line in _lines(lines, font, pen):
        if above is not None:
            yield LINE_END, *_parting(above, line)
        for letter, (left, right) in zip(line.letters, pairwise(line.ends), strict=True):
            yield letter, (left + right) / 2, line.below
        above = line


def _lines(
    lines: Sequence[str], font: ImageFont.FreeTypeFont, pen: ImageDraw.ImageDraw
) -> Iterator[_Line]:
    whole = pen.multiline_textbbox((0, 0), "\n".join(lines), font=font)
    for count, line in enumerate(lines, start=1):
        bottom = pen.multiline_textbbox((0, 0), "\n".join(lines[:count]), font=font)[3]
        own = pen.textbbox((0, 0), line, font=font)
        below = bottom - (own[3] - own[1]) / 2 - (whole[1] + whole[3]) / 2
        ends = [pen.textlength(line[:count], font=font) for count in range(len(line) + 1)]
        yield _Line(line, tuple(end - ends[-1] / 2 for end in ends), below)


def _parting(above: _Line, line: _Line) -> tuple[float, float]:
    """Across and down: beside the shorter one, behind the upper or before the lower."""
    if above.ends[-1] < line.ends[-1]:
        return above.ends[-1] + above.half_letter, above.below
    return line.ends[0] - line.half_letter, line.below


def _sample(
    key: str,
    text: Text,
    family: str,
    letters: str,
    question: str,
    places: tuple[Place, ...],
) -> OmniSample:
    asked = [Asked(question, text.words, (text.words,))]
    return OmniSample(
        id=f"{TASK} {key}",
        conversations=turns_of(asked, "image"),
        images=(_UNDRAWN,),
        task=TASK,
        answers=(text.words,),
        is_spelt=True,
        traits={
            "kind": text.kind,
            "text": text.words.lower(),
            "family": family,
            "letters": letters,
            **text.own,
        },
        places=places,
    )
