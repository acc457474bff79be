import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.small_sets import build_shapes, picture, sample, tone
from unimoe.data import DatasetWriter, read_manifest
from unimoe.errors import DataError
from unimoe.media import load_audio, load_image


def test_a_built_set_reads_back_with_its_media(tmp_path: Path) -> None:
    build_shapes(tmp_path / "shapes")

    train, test = (read_manifest(tmp_path / "shapes" / f"{s}.jsonl") for s in ("train", "test"))

    assert (load_image(train.folder / train[0].images[0]) == 90).all()
    heard = load_audio(test.folder / test[0].audios[0]).samples
    assert np.abs(heard - tone(440)).max() < 1e-4
    assert test[0].traits == {"voice": "slt"}


def test_one_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    build_shapes(tmp_path / "one")
    build_shapes(tmp_path / "two")

    names = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))

    assert len(names) == 9
    assert all(
        (tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names
    )


def test_the_card_counts_samples_by_task_and_split(tmp_path: Path) -> None:
    build_shapes(tmp_path / "shapes")

    card = (tmp_path / "shapes" / "card.md").read_text()

    assert "| shape | 1 | 1 | 1 |" in card
    assert "Never in training.** voice: slt" in card
    facts = json.loads((tmp_path / "shapes" / "dataset.json").read_text())
    assert facts["samples"] == {"train": 1, "validation": 1, "test": 1}


def test_a_failed_build_leaves_the_old_set_as_it_was(tmp_path: Path) -> None:
    build_shapes(tmp_path / "shapes")
    before = (tmp_path / "shapes" / "train.jsonl").read_bytes()

    with DatasetWriter(tmp_path / "shapes", "shapes") as writer:
        writer.image("x", picture(1))

    assert (tmp_path / "shapes" / "train.jsonl").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["shapes"]


def test_a_medium_in_two_splits_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", "set") as writer:
        image = writer.image("x", picture(1))
        writer.add("train", sample("a", "<image> One?", images=(image,)))
        with pytest.raises(DataError, match=r"medium images/\w+.webp is already in train"):
            writer.add("test", sample("b", "<image> Two?", images=(image,)))


def test_the_same_words_in_two_splits_are_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", "set") as writer:
        writer.add("train", sample("a"))
        with pytest.raises(DataError, match="already in train"):
            writer.add("test", sample("b"))


def test_a_trait_in_two_splits_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", "set", disjoint=("name",)) as writer:
        writer.add("train", sample("a", "One?", traits={"name": "cat"}))
        with pytest.raises(DataError, match="name cat is already in train"):
            writer.add("test", sample("b", "Two?", traits={"name": "cat"}))


def test_a_held_out_voice_in_training_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", "set", held_out={"voice": ["slt"]}) as writer:
        writer.add("test", sample("a", "One?", traits={"voice": "slt"}))
        with pytest.raises(DataError, match="voice 'slt' is held out of training"):
            writer.add("train", sample("b", "Two?", traits={"voice": "slt"}))


def test_a_file_not_written_here_is_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path / "set", "set") as writer,
        pytest.raises(DataError, match="was not written here"),
    ):
        writer.add("train", sample("a", "<image>?", images=("images/x.webp",)))


def test_what_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", "set") as writer:
        with pytest.raises(DataError, match="ghost: a picture of mode RGBA"):
            writer.image("ghost", Image.new("RGBA", (8, 8)))
        with pytest.raises(DataError, match="loud: sound with a peak of 2"):
            writer.audio("loud", 4 * tone(100), 16000)
