from collections import Counter
from pathlib import Path

import pytest

from tests.data.build.drawn_parts import write_styles
from unimoe.data.build.canvas import COLOURS
from unimoe.data.build.drawings import (
    Drawings,
    draw_clip_art,
    read_clip_art,
    read_concepts,
)
from unimoe.data.build.scene_layout import SPRITE_NAMES
from unimoe.errors import DataError

_LINKS = 'xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/"'
_SVG = '<svg {links} {size}>{title}<rect width="{w}" height="9"/></svg>'


def _write_clip_art(path: Path, title: str, *, size: str = 'width="20" height="10"') -> None:
    path.write_text(
        _SVG.format(links=_LINKS, size=size, title=f"<dc:title>{title}</dc:title>", w=len(title))
    )


def test_there_are_three_hundred_concepts_or_more_each_with_one_name_of_its_own() -> None:
    names = Counter(concept.name for concept in read_concepts())

    assert len(names) >= 300
    assert names.most_common(1)[0][1] == 1


def test_no_emoji_draws_two_concepts() -> None:
    codes = Counter(code for concept in read_concepts() for code in concept.codes)

    assert codes.most_common(1)[0][1] == 1


def test_a_concept_accepts_its_name_and_its_synonyms_once() -> None:
    assert all(len(set(c.names)) == len(c.names) for c in read_concepts())


def test_colours_of_concepts_are_named_like_those_of_shapes() -> None:
    colours = {concept.colour for concept in read_concepts() if concept.colour}

    assert colours <= {*COLOURS, "brown", "pink", "white"}


def test_the_article_is_no_part_of_the_name() -> None:
    phrases = {concept.phrase: concept.name for concept in read_concepts()}

    assert phrases["an apple"] == "apple"
    assert phrases["the sun"] == "sun"
    assert phrases["grapes"] == "grapes"


def test_every_thing_of_a_scene_is_a_concept() -> None:
    names = {concept.name for concept in read_concepts()}

    assert {name.replace("_", " ") for name in SPRITE_NAMES.split()} <= names


@pytest.mark.parametrize("style", ["fluent-emoji", "twemoji", "openmoji"])
def test_a_drawing_is_cut_to_what_is_drawn(style: str, tmp_path: Path) -> None:
    picture = Drawings(write_styles(tmp_path)).draw(style, "1f98a", 64)

    assert picture is not None
    assert picture.getchannel("A").getextrema()[1] == 255
    assert picture.width < 64
    assert picture.height < 64


def test_a_style_without_a_table_of_names_uses_that_of_another(tmp_path: Path) -> None:
    sources = write_styles(tmp_path)
    (sources["emojione"] / "package" / "chars.json").unlink()

    assert Drawings(sources).draw("emojione", "1f98a", 32) is not None


def test_what_a_style_lacks_is_none(tmp_path: Path) -> None:
    assert Drawings(write_styles(tmp_path)).draw("twemoji", "ffff", 32) is None


def test_clip_art_counts_if_its_title_is_a_name(tmp_path: Path) -> None:
    _write_clip_art(tmp_path / "a.svg", "The Cat 2")
    _write_clip_art(tmp_path / "b.svg", "cat on a roof")
    _write_clip_art(tmp_path / "c.svg", "mouse")

    found = read_clip_art(tmp_path, read_concepts())

    assert [(concept.name, path.name) for concept, path in found] == [("cat", "a.svg")]


@pytest.mark.parametrize("size", ['width="20mm" height="10mm"', 'viewBox="0 0 76 38"'])
def test_clip_art_of_any_unit_is_drawn_whole(size: str, tmp_path: Path) -> None:
    _write_clip_art(tmp_path / "a.svg", "a" * 38, size=size)

    picture = draw_clip_art(tmp_path / "a.svg", 76)

    assert picture is not None
    assert picture.size == pytest.approx((38, 9), abs=1)


def test_what_is_no_svg_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("<svg><rect")

    with pytest.raises(DataError, match="no SVG that can be drawn"):
        draw_clip_art(tmp_path / "a.svg", 32)
