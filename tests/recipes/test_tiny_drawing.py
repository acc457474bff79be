import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from unimoe.checkpoint.weights import load_model
from unimoe.data.leaks import find_leaks
from unimoe.errors import RequestError
from unimoe.heads.painter import Painter
from unimoe.infer.drawing import draw, painter_in
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny_drawing import tiny_drawing
from unimoe.tokens.vocabulary import Vocabulary
from unimoe.train.journal import read_journal
from unimoe.train.stages import run_stages


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_drawing")
    run_stages("tiny", tiny_drawing().stages(), folder)
    return folder


def held_out(stage: Path) -> list[dict[str, float]]:
    """What was measured after 10 and after 20 steps, with the same random numbers."""
    lines = read_journal(stage)
    return [line["evaluations"]["held out"] for line in lines if "evaluations" in line]


@pytest.fixture(scope="module")
def painter(runs: Path) -> Painter:
    return painter_in(runs / "painter")


@pytest.fixture(scope="module")
def model(runs: Path) -> OmniModel:
    return load_model(runs / "random").eval()


@pytest.fixture(scope="module")
def vocabulary(runs: Path, model: OmniModel) -> Vocabulary:
    return Vocabulary.from_directory(runs / "random", model.config.special_tokens)


def test_the_decoder_comes_nearer_to_its_pictures(runs: Path) -> None:
    first, last = (line["psnr_db"] for line in held_out(runs / "vae"))

    assert first < last


def test_the_loss_of_new_pictures_falls(runs: Path) -> None:
    first, last = (line["squares"] for line in held_out(runs / "image"))

    assert last < first


def test_what_was_trained_draws(model: OmniModel, vocabulary: Vocabulary, painter: Painter) -> None:
    *progress, picture = draw(model, vocabulary, painter, "Draw red.", steps=2)

    assert [event.step for event in progress] == [0, 1, 2]  # type: ignore[union-attr]
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (16, 16, 3)


def test_a_thought_changes_what_is_drawn(
    model: OmniModel, vocabulary: Vocabulary, painter: Painter
) -> None:
    *_, plain = draw(model, vocabulary, painter, "Draw it.", steps=2)
    *_, thought = draw(model, vocabulary, painter, "Draw it.", steps=2, thought="A blue one.")

    assert not np.array_equal(plain, thought)


def test_a_picture_of_any_size_can_be_given(
    model: OmniModel, vocabulary: Vocabulary, painter: Painter
) -> None:
    photo = np.zeros((30, 50, 3), np.uint8)

    *_, picture = draw(model, vocabulary, painter, "Make it red.", photo, steps=2)

    assert isinstance(picture, np.ndarray)
    assert picture.shape == (16, 16, 3)


def test_states_are_computed_once(runs: Path) -> None:
    store = next((runs / "prepared" / "drawing").glob("states-*")) / "prompts.f16"
    places, hidden, prompts = 5, 64, 3

    assert store.stat().st_size == 2 * places * hidden * prompts


def test_the_squares_do_not_leak(runs: Path) -> None:
    assert find_leaks([runs / "data" / "squares"]) == []


def test_a_former_painter_is_gone_on_from(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "painter", tmp_path / "former")
    tune = ["train.steps=1", "train.warmup_steps=0", "train.lr=1e-9"]

    run_stages("tiny", tiny_drawing().stages(), tmp_path, overrides=tune)

    before, after = (painter_in(folder / "painter") for folder in (runs, tmp_path))
    assert torch.allclose(before.vae.components, after.vae.components, atol=1e-2)
    name = "head.dit.layers.0.attention.q_proj.weight"
    assert torch.allclose(before.state_dict()[name], after.state_dict()[name], atol=1e-2)


def test_an_empty_prompt_is_refused(
    model: OmniModel, vocabulary: Vocabulary, painter: Painter
) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        list(draw(model, vocabulary, painter, " "))


def test_a_checkpoint_without_a_painter_cannot_draw(runs: Path) -> None:
    with pytest.raises(RequestError, match="brings no painter"):
        painter_in(runs / "random")
