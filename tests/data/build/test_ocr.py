import dataclasses
import random
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from data.made_texts import HELD_OUT, text_sources
from PIL import Image

from unimoe.data import Split, read_manifest
from unimoe.data.build import ocr
from unimoe.data.build.canvas import SIDE
from unimoe.data.build.letter_builds import PLAIN, Build
from unimoe.data.build.ocr import (
    LINE_END,
    WrittenTexts,
    build_ocr,
    common_words,
    split_of_number,
)
from unimoe.data.sample import Place
from unimoe.errors import DataError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ocr")
    build_ocr(text_sources(root), root / "set", scale=0.02, held_out_families=HELD_OUT)
    return root / "set"


def test_held_out_letters_are_half_of_the_test_and_never_learnt(built: Path) -> None:
    train, test = (read_manifest(built / f"{name}.jsonl") for name in ("train", "test"))

    assert not {s.traits["family"] for s in train} & set(HELD_OUT)
    assert [s.traits["letters"] for s in test].count("held out") == len(test) / 2


def _texts(folder: Path, split: str, *kinds: str) -> set[str]:
    samples = read_manifest(folder / f"{split}.jsonl")
    return {
        text
        for sample in samples
        if sample.traits["kind"] in kinds
        for text in sample.traits["text"].split()
    }


def test_no_number_of_the_test_is_learnt(built: Path) -> None:
    numbers = {text for text in _texts(built, "test", "number", "two") if text.isdigit()}

    assert numbers
    assert all(split_of_number(number) == "test" for number in numbers)
    assert not numbers & _texts(built, "train", "number", "two")


def test_new_words_are_in_the_test_alone(built: Path) -> None:
    learnt = _texts(built, "train", "word", "two", "further word")
    assert _texts(built, "test", "new word")
    assert not _texts(built, "test", "new word") & learnt
    assert not _texts(built, "train", "new word")


def test_further_words_are_learnt_from_and_never_asked_in_a_test(built: Path) -> None:
    further = _texts(built, "train", "further word")
    assert further
    assert not further & _texts(built, "train", "word")
    assert not _texts(built, "test", "further word")


def test_the_answer_is_the_text(built: Path) -> None:
    for sample in read_manifest(built / "train.jsonl"):
        assert sample.conversations[-1].text == sample.answers[0]
        assert sample.answers[0].lower() == sample.traits["text"]
        assert sample.is_spelt


def test_words_used_most_come_first() -> None:
    assert common_words(["the cat sat, Tom sat the", "the dog is"]) == ["the", "sat", "cat", "dog"]


def test_a_held_out_family_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="need Cabin"):
        build_ocr(text_sources(tmp_path), tmp_path / "set", held_out_families=("Cabin",))


def test_letters_are_placed_from_left_to_right_and_lines_downwards(built: Path) -> None:
    for sample in read_manifest(built / "train.jsonl"):
        lines: dict[float, dict[float, str]] = {}
        for letter, box, _ in sample.places:
            if letter == LINE_END:
                continue
            lines.setdefault(box.top, {})[box.left] = letter
        read = ["".join(line[left] for left in sorted(line)) for _, line in sorted(lines.items())]
        assert " ".join(read) == sample.answers[0]


@pytest.mark.parametrize("build", [PLAIN, Build(width=0.8, lean=0.15, finer=(0.5, 0.0))])
@pytest.mark.parametrize("seed", range(5))
def test_a_letter_is_where_it_is_told_to_be(tmp_path: Path, seed: int, build: Build) -> None:
    faces = ocr.read_typefaces(text_sources(tmp_path)["fonts"])
    mono = next(face for face in faces if "Mono" in face.family)

    def written(*lines: str) -> tuple[np.ndarray, tuple[Place, ...]]:
        picture, places = ocr._picture(ocr.Text(lines, "two"), mono, build, random.Random(seed))
        return np.asarray(picture).astype(float), places

    # Nothing else moves when one of these is left out.
    whole, places = written("MxM", "MzM")
    for missing, place in ((("M M", "MzM"), places[1]), (("MxM", "M M"), places[5])):
        without, _ = written(*missing)
        weight = np.abs(whole - without).sum(-1)
        down, across = np.mgrid[:SIDE, :SIDE] + 0.5
        middle = [(axis * weight).sum() / weight.sum() / SIDE for axis in (across, down)]
        # Small letters stand on the line, and a line may be turned by 6 degrees.
        assert place.words == {1: "x", 5: "z"}[places.index(place)]
        assert abs(middle[0] - place.box.left) < 0.02
        assert abs(middle[1] - place.box.top) < 0.07


def test_a_picture_beyond_the_set_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    texts = WrittenTexts(text_sources(tmp_path), held_out_families=HELD_OUT)
    picture, sample = texts.draw("train", 10**6)
    again, same = texts.draw("train", 10**6)
    other, _ = texts.draw("train", 10**6 + 1)

    assert picture.tobytes() == again.tobytes() != other.tobytes()
    assert sample == same
    assert sample.answers == (texts.text("train", 10**6).words,)
    told = [" " if place.words == LINE_END else place.words for place in sample.places]
    assert "".join(told) == sample.answers[0]


@pytest.mark.parametrize(("lines", "is_behind"), [(("MM", "MMMM"), True), (("MMMM", "MM"), False)])
def test_the_end_of_a_line_is_told_beside_the_shorter_line(
    tmp_path: Path, lines: tuple[str, str], is_behind: bool
) -> None:
    face = ocr.read_typefaces(text_sources(tmp_path)["fonts"])[0]
    _, places = ocr._picture(ocr.Text(lines, "two"), face, PLAIN, random.Random(0))

    number = len(lines[0])
    end, shorter = places[number], places[number - 1 if is_behind else number + 1]
    others = [place.box for place in places if place.words == "M"]
    assert end.words == LINE_END
    assert end.box.top == shorter.box.top
    step = places[1].box.left - places[0].box.left
    expected = shorter.box.left + (step if is_behind else -step)
    assert abs(end.box.left - expected) < 0.01
    assert end.box not in others


def test_pictures_of_the_set_are_those_drawn_alone(tmp_path: Path) -> None:
    sources = text_sources(tmp_path)
    build_ocr(sources, tmp_path / "set", scale=0.02, held_out_families=HELD_OUT)
    texts = WrittenTexts(sources, held_out_families=HELD_OUT)
    stored = read_manifest(tmp_path / "set" / "test.jsonl")
    for index in range(4):
        picture, sample = texts.draw("test", index)
        assert dataclasses.replace(sample, images=stored[index].images) == stored[index]
        with Image.open(tmp_path / "set" / stored[index].images[0]) as image:
            assert image.tobytes() == picture.tobytes()


def test_further_fonts_change_training_drawn_beside_the_set_and_nothing_else(
    tmp_path: Path,
) -> None:
    sources = text_sources(tmp_path)
    further = tmp_path / "further"
    further.mkdir()
    shutil.copy(Path(matplotlib.get_data_path()) / "fonts/ttf/STIXGeneral.ttf", further)
    plain = WrittenTexts(sources, held_out_families=HELD_OUT)
    more = WrittenTexts(sources | {ocr.FURTHER_FONTS: further}, held_out_families=HELD_OUT)

    def families(texts: WrittenTexts, split: Split) -> set[str]:
        return {texts.draw(split, index)[1].traits["family"] for index in range(40)}

    assert families(more, "train") == families(plain, "train") | {"STIXGeneral"}
    for index in range(1, 20, 2):  # in letters held out
        picture, sample = more.draw("test", index)
        own, same = plain.draw("test", index)
        assert (picture.tobytes(), sample) == (own.tobytes(), same)


def test_half_of_what_is_drawn_beside_the_set_is_built_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = text_sources(tmp_path)
    texts = WrittenTexts(
        sources | {ocr.FURTHER_FONTS: sources["fonts"]}, held_out_families=HELD_OUT
    )
    builds = []
    draw = ocr._written

    def written(*given: Any) -> Any:
        builds.append(given[2])
        return draw(*given)

    monkeypatch.setattr(ocr, "_written", written)
    for index in range(60):
        texts.draw("train", index)
    assert 15 < builds.count(PLAIN) < 45
