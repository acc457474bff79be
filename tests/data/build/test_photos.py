from pathlib import Path

import pytest
from PIL import Image

from unimoe.data import read_manifest
from unimoe.data.build.photos import build_photos, read_photos
from unimoe.errors import DataError


def _write_photos(folder: Path) -> Path:
    """Stand-ins for the part `photos`, each of its own colour; some are cut out."""
    for index, photo in enumerate(photo for photo in read_photos() if photo.part == "photos"):
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (20 * index, 90, 200)
        Image.new("RGB", (400, 200), colour).save(path, path.suffix[1:].replace("jpg", "jpeg"))
    return folder


def test_all_photos_are_test(tmp_path: Path) -> None:
    build_photos({"photos": _write_photos(tmp_path / "part")}, tmp_path / "set")

    test = read_manifest(tmp_path / "set/test.jsonl")
    cat = next(sample for sample in test if sample.traits["concept"] == "cat")
    assert (tmp_path / "set/train.jsonl").read_text() == ""
    assert {"cat", "kitten", "tabby"} <= set(cat.answers)
    with Image.open(tmp_path / "set" / cat.images[0]) as picture:
        assert picture.size == (336, 168)


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"chelsea\.png: not there"):
        build_photos({"photos": tmp_path}, tmp_path / "set")


def test_no_photo_is_listed_twice() -> None:
    paths = [photo.path for photo in read_photos()]

    assert len(set(paths)) == len(paths)
