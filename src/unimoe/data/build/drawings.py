"""Drawings of 540 everyday concepts in six styles, and clip-art of some of them.

In:  the folders of unpacked parts, by part name; `concepts.tsv` beside this file.
Out: `Concept`s with names, category and colour; pictures with transparency, cut to what is drawn.
A concept is drawn by one or more emoji; an emoji is known by its code points in hexadecimal.
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import resvg_py
from PIL import Image

from unimoe.errors import DataError

OPENCLIPART = "openclipart"
TRAINING_STYLES = (
    "fluent-emoji",
    "fluent-emoji-flat",
    "noto-emoji",
    "emojione",
)
HELD_OUT_STYLES = ("twemoji", "openmoji")
STYLES = (*TRAINING_STYLES, *HELD_OUT_STYLES)

# A style without a table of its own names its drawings as these two do.
_NAMING_STYLES = ("noto-emoji", "twemoji")
_ARTICLE = re.compile("^(an?|the) ")
# Titles of clip-art that show something else than the concept of that name, or show it badly.
_OTHER_CLIP_ART = frozenset(
    """axe bat bison brain bucket cactus cd compass crow eye fly key mouse newspaper orange pear
    phone scale seal sun thermometer ticket""".split()  # noqa: SIM905
) | {"shopping cart"}
_MAX_CLIP_ART = 3
_UNIT_PIXELS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96}
_SIZE = re.compile(r"\s(width|height)\s*=\s*[\"']\s*([\d.]+)\s*(px|pt|pc|mm|cm|in|)\s*[\"']")


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """Something that can be drawn."""

    phrase: str
    """With its article, such as "a cat", "grapes" or "the sun"."""
    category: str
    """Such as animal or food; "thing" where none is plain."""
    colour: str | None
    """If all styles draw it in the same one."""
    synonyms: tuple[str, ...]
    """Names that are right too."""
    codes: tuple[str, ...]
    """The emoji that draw it."""

    @property
    def name(self) -> str:
        """Without the article."""
        return _ARTICLE.sub("", self.phrase)

    @property
    def names(self) -> tuple[str, ...]:
        """All that is right, the best first."""
        return (self.name, *self.synonyms)


@cache
def read_concepts() -> tuple[Concept, ...]:
    """All concepts."""
    text = (files("unimoe.data.build") / "concepts.tsv").read_text("utf-8")
    return tuple(
        Concept(
            phrase=row["phrase"],
            category=row["category"],
            colour=row["colour"] or None,
            synonyms=tuple(row["synonyms"].split(", ")) if row["synonyms"] else (),
            codes=tuple(row["codes"].split()),
        )
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
    )


@runtime_checkable
class Style(Protocol):
    """One hand that drew many emoji."""

    def draw(self, code: str, side: int) -> Image.Image | None:
        """The emoji, `side` pixels wide with its margins; None: it was not drawn."""


class Drawings:
    """Drawings of all styles whose parts are given.

    Args:
        sources: part name -> folder.
    """

    def __init__(self, sources: Mapping[str, Path]) -> None:
        names: dict[str, str] = {}
        for style in reversed(_NAMING_STYLES):
            if style in sources:
                names |= _names_by_code(sources[style])
        self._styles: dict[str, Style] = {
            name: _style(sources[name], names) for name in STYLES if name in sources
        }

    def draw(self, style: str, code: str, side: int) -> Image.Image | None:
        """An emoji in a style, RGBA, cut to what is drawn; None: the style lacks it."""
        picture = self._styles[style].draw(code, side)
        return None if picture is None else trimmed(picture)


def read_clip_art(source: Path, concepts: tuple[Concept, ...]) -> list[tuple[Concept, Path]]:
    """Clip-art whose title is a concept's name and nothing else; a few a concept."""
    wanted = {concept.name.lower(): concept for concept in concepts}
    found: dict[str, list[Path]] = {}
    titles: set[tuple[str, int]] = set()
    for path in sorted(source.rglob("*.svg")):
        title = _title(path)
        size = (title, path.stat().st_size)  # many drawings are there twice
        if title in wanted and title not in _OTHER_CLIP_ART and size not in titles:
            titles.add(size)
            found.setdefault(title, []).append(path)
    return [
        (wanted[title], path)
        for title, paths in sorted(found.items())
        for path in paths[:_MAX_CLIP_ART]
    ]


def draw_clip_art(path: Path, side: int) -> Image.Image | None:
    """A piece of clip-art, RGBA, cut to what is drawn; None: nothing is."""
    text = path.read_text("utf-8", errors="replace")
    picture = render_svg(_without_size(text), side)
    return trimmed(picture) if picture.getbbox() else None


def render_svg(text: str, side: int) -> Image.Image:
    """An SVG in a square, RGBA.

    Raises:
        DataError: it is none.
    """
    try:
        data = resvg_py.svg_to_bytes(
            svg_string=text, width=side, height=side, skip_system_fonts=True
        )
    except ValueError as error:
        raise DataError(f"a drawing is no SVG that can be drawn: {error}") from error
    return Image.open(BytesIO(data)).convert("RGBA")


def trimmed(picture: Image.Image) -> Image.Image:
    """Without transparent margins.

    Raises:
        DataError: nothing is drawn.
    """
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        raise DataError("a drawing is wholly transparent; leave it out of the concepts")
    return picture.crop(box)


class _Iconify:
    """One JSON file of SVG bodies by name."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._set: dict[str, Any] = json.loads((folder / "package" / "icons.json").read_text())
        self._names = {**names, **_names_by_code(folder)}

    def draw(self, code: str, side: int) -> Image.Image | None:
        icon = self._set["icons"].get(self._names.get(code))
        if icon is None:
            return None
        size = [icon.get(key, self._set.get(key, 16)) for key in ("width", "height")]
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {size[0]} {size[1]}"
        links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        return render_svg(f'<svg {links} viewBox="{box}">{icon["body"]}</svg>', side)


class _Files:
    """One file an emoji, named by its code points."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._paths = {_code(path.stem): path for path in sorted(folder.glob(pattern))}

    def draw(self, code: str, side: int) -> Image.Image | None:
        path = self._paths.get(code)
        if path is None:
            return None
        if path.suffix == ".svg":
            return render_svg(_without_size(path.read_text("utf-8")), side)
        with Image.open(path) as picture:
            return picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)


def _style(folder: Path, names: Mapping[str, str]) -> Style:
    for pattern in ("package/assets/*.webp", "package/color/svg/*.svg"):
        if any(folder.glob(pattern)):
            return _Files(folder, pattern)
    if (folder / "package" / "icons.json").is_file():
        return _Iconify(folder, names)
    raise DataError(f"{folder}: no emoji in it; need a part of emoji as it was unpacked")


def _names_by_code(folder: Path) -> dict[str, str]:
    path = folder / "package" / "chars.json"
    if not path.is_file():
        return {}
    return {_code(code): name for code, name in json.loads(path.read_text()).items()}


def _code(written: str) -> str:
    """Without the mark that asks for colour, which some leave out."""
    return written.lower().replace("-fe0f", "")


def _title(path: Path) -> str:
    """Title of a piece of clip-art, in lower case, without article and number."""
    found = re.search("<dc:title>(.*?)</dc:title>", path.read_text("utf-8", "replace"), re.DOTALL)
    title = html.unescape(found[1]).strip().lower().replace("_", " ") if found else ""
    return _ARTICLE.sub("", re.sub(r"[\s\-]*\d+$", "", title))


def _without_size(text: str) -> str:
    """The outer size becomes the view box if there is none: only then can it be scaled."""
    tag = re.search(r"<svg\b[^>]*>", text)
    if tag is None:
        raise DataError("a drawing is no SVG: it has no <svg> tag")
    sizes = {
        key: float(number) * _UNIT_PIXELS[unit] for key, number, unit in re.findall(_SIZE, tag[0])
    }
    bare = re.sub(r"\s(width|height)\s*=\s*(\"[^\"]*\"|'[^']*')", "", tag[0])
    if "viewBox" not in bare and len(sizes) == 2:
        bare = f'{bare[:4]} viewBox="0 0 {sizes["width"]} {sizes["height"]}"{bare[4:]}'
    return text[: tag.start()] + bare + text[tag.end() :]
