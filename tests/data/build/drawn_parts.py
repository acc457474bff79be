"""Small stand-ins for the parts that pictures are made of, drawn on the spot."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from unimoe.data.build.drawings import STYLES, read_concepts
from unimoe.data.build.scene_layout import Sprite

_COLOURS = ("#c02020", "#2040c0", "#208040", "#c0a020", "#8020a0")
_NAMES = ("fox", "cat", "bus", "apple", "tree")


def write_easy_vqa(folder: Path, num_train: int = 30, num_test: int = 4) -> Path:
    """Like the package easy-vqa, unpacked: nine questions a picture, of a block on one colour."""
    random = np.random.default_rng(0)
    for split, number in (("train", num_train), ("test", num_test)):
        images = folder / "easy_vqa" / "data" / split / "images"
        images.mkdir(parents=True)
        questions: list[tuple[str, str, int]] = []
        for index in range(number):
            pixels = np.empty((8, 8, 3), np.uint8)
            pixels[:] = random.integers(0, 200, 3)
            pixels[2:6, 1:5] = random.integers(200, 255, 3)
            Image.fromarray(pixels).save(images / f"{index}.png")
            questions.append(("what shape is present?", "circle", index))
            questions.append(("what color is the shape?", "teal", index))
            questions += [(f"is there a {n} shape?", "no", index) for n in range(6)]
            questions.append(("is there a teal shape?", "yes", index))
        (images.parent / "questions.json").write_text(json.dumps(questions))
    return folder


def write_styles(folder: Path, styles: tuple[str, ...] = STYLES) -> dict[str, Path]:
    """Some concepts, drawn as bars whose colour and length tell style and emoji."""
    return {style: _write_style(folder / style, number) for number, style in enumerate(styles)}


def write_unlike_styles(folder: Path, styles: tuple[str, ...] = STYLES) -> dict[str, Path]:
    """Likewise, but no two drawings are alike: steps of one colour, their heights a number."""
    concepts = [c for i, c in enumerate(read_concepts()) if i % 20 == 0]
    found = {}
    for number, style in enumerate(styles):
        drawn = folder / style / "package"
        drawn.mkdir(parents=True)
        codes = [concept.codes[0] for concept in concepts]
        icons = {
            f"icon-{code}": {"body": _steps(len(styles) * index + number)}
            for index, code in enumerate(codes)
        }
        (drawn / "icons.json").write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
        (drawn / "chars.json").write_text(json.dumps({code: f"icon-{code}" for code in codes}))
        found[style] = folder / style
    return found


def make_sprites() -> list[Sprite]:
    """A few concepts as one-coloured bars."""
    concepts = [concept for concept in read_concepts() if concept.name in _NAMES]
    bars = [Image.new("RGBA", (40, 24 + 4 * i), _COLOURS[i]) for i in range(len(concepts))]
    return [Sprite(concept, (bar,)) for concept, bar in zip(concepts, bars, strict=True)]


def _write_style(folder: Path, number: int) -> Path:
    concepts = [c for i, c in enumerate(read_concepts()) if i % 50 == 0 or c.name in _NAMES]
    codes = [code for concept in concepts for code in concept.codes]
    drawn = folder / "package"
    if number == 0:  # as files of pictures, like the part fluent-emoji
        (drawn / "assets").mkdir(parents=True)
        for index, code in enumerate(codes):
            picture = Image.new("RGBA", (64, 64))
            picture.paste(_COLOURS[index % 5], (8, 8, 30 + index % 19, 56))
            picture.save(drawn / "assets" / f"{code}.webp", lossless=True)
        return folder
    bodies = {code: _bar(index, number) for index, code in enumerate(codes)}
    if number == len(STYLES) - 1:  # as files of SVG, like the part openmoji
        (drawn / "color" / "svg").mkdir(parents=True)
        for code, body in bodies.items():
            text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{body}</svg>'
            (drawn / "color" / "svg" / f"{code.upper()}.svg").write_text(text)
        return folder
    drawn.mkdir(parents=True)
    icons = {f"icon-{code}": {"body": body} for code, body in bodies.items()}
    (drawn / "icons.json").write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
    (drawn / "chars.json").write_text(json.dumps({code: f"icon-{code}" for code in codes}))
    return folder


def _bar(index: int, number: int) -> str:
    width, height = 4 + index % 9, 3 + number + index % 4
    return f'<rect x="2" y="2" width="{width}" height="{height}" fill="{_COLOURS[index % 5]}"/>'


def _steps(number: int) -> str:
    """A full square's outline, so that nothing is cut off, and within it the digits to base 8."""
    digits = [number // 8**place % 8 for place in range(4)]
    bars = [
        f'<rect x="{2 + 3 * place}" y="2" width="3" height="{3 + digit}" fill="{_COLOURS[0]}"/>'
        for place, digit in enumerate(digits)
    ]
    return "".join(['<rect width="16" height="1"/><rect y="15" width="16" height="1"/>', *bars])
