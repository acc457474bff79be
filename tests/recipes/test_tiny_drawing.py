import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from heads.made_speakers import small_speaker
from PIL import Image
from safetensors.torch import save_file

from unimoe import cli
from unimoe.checkpoint import mini
from unimoe.checkpoint.weights import load_model, save_model
from unimoe.cli import talk
from unimoe.config import MoEConfig
from unimoe.data.leaks import find_leaks
from unimoe.demo import TOUR
from unimoe.errors import CheckpointError, MediaError, RequestError, UnimoeError
from unimoe.heads.painter import Painter
from unimoe.heads.speaker import write_speaker
from unimoe.infer.drawing import draw, painter_in
from unimoe.infer.session import OmniInference
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import with_deltas
from unimoe.nn.precision import product_dtype
from unimoe.recipes import mini_drawing
from unimoe.recipes.tiny import tiny_config
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


@pytest.mark.parametrize("stage", ["draft", "image"])
def test_the_loss_of_new_pictures_falls(runs: Path, stage: str) -> None:
    first, last = (line["squares"] for line in held_out(runs / stage))

    assert last < first


def test_a_stage_begins_the_same_whatever_was_drawn_at_random_before(
    runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "vae", tmp_path / "vae")
    shutil.copytree(runs / "random", tmp_path / "random")
    torch.rand(7)

    run_stages("tiny", tiny_drawing().stages(), tmp_path, only="draft")

    own, other = (
        [line["loss"] for line in read_journal(folder / "draft") if "loss" in line]
        for folder in (runs, tmp_path)
    )
    assert own == other


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
    name = "dit.layers.0.attention.q_proj.weight"
    assert torch.allclose(before.state_dict()[name], after.state_dict()[name], atol=1e-2)


def test_of_a_former_painter_the_transformer_alone_can_be_taught(
    runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "painter", tmp_path / "former")

    run_stages(
        "tiny",
        tiny_drawing().stages(),
        tmp_path,
        only="image",
        overrides=["train.steps=2", "train.warmup_steps=0"],
    )

    before, after = (painter_in(folder / "painter").state_dict() for folder in (runs, tmp_path))
    assert torch.equal(before["draft.out.weight"], after["draft.out.weight"])
    name = "dit.layers.0.attention.q_proj.weight"
    assert not torch.equal(before[name], after[name])


def test_a_former_painter_first_reads_what_its_own_core_said(
    runs: Path, model: OmniModel, tmp_path: Path
) -> None:
    shutil.copytree(runs / "painter", tmp_path / "former")
    recipe = dataclasses.replace(tiny_drawing(), former_core=lambda _: model)
    plan = ["train.steps=1", "train.warmup_steps=0", "train.lr=1e-9"]

    run_stages("tiny", recipe.stages(), tmp_path, only="image", overrides=plan)

    before, after = (painter_in(folder / "painter").state_dict() for folder in (runs, tmp_path))
    name = "draft.gather.weight"
    assert not torch.allclose(before[name], after[name], atol=1e-2)  # only its part of the states
    assert torch.allclose(before["draft.out.weight"], after["draft.out.weight"], atol=1e-2)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the parts of mini, dense and in bf16."""
    config = tiny_config()
    core = dataclasses.replace(config.core, moe=None, attention_delta_rank=2)
    dense = OmniModel(dataclasses.replace(config, core=core)).to(torch.bfloat16)
    save_model(dense, tmp_path / "base")
    monkeypatch.setattr(mini, "base_directory", lambda: tmp_path / "base")
    return tmp_path / "base"


def test_the_former_core_is_as_mini_was_put_together_of_it(base: Path, tmp_path: Path) -> None:
    assert mini_drawing.mini_drawing().former_core(tmp_path) is None
    moe = MoEConfig(routed_width=128, shared_width=16, delta_rank=2)
    trained = with_deltas(load_model(base), moe)
    for name, parameter in trained.named_parameters():
        if mini._is_trained(name):
            torch.nn.init.normal_(parameter)
    mini.export_trained(trained, tmp_path / "former")
    save_model(mini.mini_model(tmp_path / "former/trained.safetensors"), tmp_path / "mini")

    former = mini_drawing.mini_drawing().former_core(tmp_path)

    assert former is not None
    stored = load_model(tmp_path / "mini", dtype=product_dtype("cpu"))
    named = dict(former.named_parameters())
    for name, parameter in stored.named_parameters():
        torch.testing.assert_close(named[name], parameter, rtol=0, atol=0)


def test_a_former_core_of_another_kind_is_refused(base: Path, tmp_path: Path) -> None:
    moe = MoEConfig(routed_width=128, shared_width=16, delta_rank=2)
    mini.export_trained(with_deltas(load_model(base), moe), tmp_path / "former")
    save_file({"core.layers.0.x": torch.zeros(2)}, tmp_path / "former" / "trained.safetensors")
    with pytest.raises(CheckpointError, match="has no place in the model"):
        mini_drawing.mini_drawing().former_core(tmp_path)


def test_without_a_former_painter_the_stages_before_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UnimoeError, match="vae"):
        run_stages("tiny", tiny_drawing().stages(), tmp_path, only="image")


def test_an_empty_prompt_is_refused(
    model: OmniModel, vocabulary: Vocabulary, painter: Painter
) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        list(draw(model, vocabulary, painter, " "))


def test_a_checkpoint_without_a_painter_cannot_draw(runs: Path) -> None:
    with pytest.raises(RequestError, match="brings no painter"):
        painter_in(runs / "random")


@pytest.fixture(scope="module")
def session(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> OmniInference:
    directory = tmp_path_factory.mktemp("whole") / "checkpoint"
    shutil.copytree(runs / "random", directory)
    for ending in ("json", "safetensors"):
        shutil.copyfile(runs / "painter" / f"painter.{ending}", directory / f"painter.{ending}")
    write_speaker(small_speaker(), directory)
    return OmniInference(directory)


ALL = ("text", "speech", "image")


def test_one_call_answers_in_text_speech_and_a_picture(
    session: OmniInference, tmp_path: Path
) -> None:
    options = {"output_form": ALL, "max_new_tokens": 6, "steps": 2, "seed": 1}
    text, speech, image = session.chat("Draw red.", **options)
    assert text
    assert speech.samples.any()
    assert image.pixels.shape == (16, 16, 3)
    image.save(tmp_path / "answer.png")
    with Image.open(tmp_path / "answer.png") as kept:
        assert (np.asarray(kept) == image.pixels).all()
    with pytest.raises(MediaError, match="a picture ends in"):
        image.save(tmp_path / "answer.doc")
    again = session.chat("Draw red.", **options)
    assert (again.image.pixels == image.pixels).all()


def test_a_picture_given_is_what_drawing_begins_with(session: OmniInference) -> None:
    white = Image.new("RGB", (40, 40), "white")
    options = {"output_form": ("text", "image"), "max_new_tokens": 2, "steps": 2, "seed": 1}
    plain = session.chat("Make it red.", **options).image.pixels
    begun = session.chat("Make it red.", image=white, **options).image.pixels
    other = session.chat("Make it red.", image=Image.new("RGB", (40, 40)), **options).image.pixels
    assert plain.shape == begun.shape == other.shape
    assert (begun != other).any()


def test_an_answer_beside_words_is_not_drawn_from(session: OmniInference) -> None:
    options = {"output_form": ("text", "image"), "steps": 2, "seed": 1}
    short = session.chat("Draw red.", max_new_tokens=1, **options)
    longer = session.chat("Draw red.", max_new_tokens=6, **options)
    assert short.text != longer.text
    assert (short.image.pixels == longer.image.pixels).all()


def test_speech_comes_between_the_steps_of_a_picture(session: OmniInference) -> None:
    events = list(session.stream("Draw red.", output_form=ALL, max_new_tokens=8, steps=80, seed=1))
    kinds = [type(event).__name__ for event in events]
    assert kinds.index("ImageProgress") > max(
        place for place, kind in enumerate(kinds) if kind == "TextDelta"
    )
    assert kinds.count("Drawing") == 1
    assert kinds[-1] == "Usage"
    assert kinds.index("SpeechChunk") < kinds.index("Drawing")


def test_drawing_options_without_a_picture_are_told(session: OmniInference) -> None:
    with pytest.raises(RequestError, match="add 'image' to output_form"):
        session.chat("Draw red.", steps=3)
    with pytest.raises(RequestError, match="steps"):
        session.chat("Draw red.", output_form=ALL, steps=0)


def test_chat_draws_into_a_file(
    session: OmniInference, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(talk, "load", lambda model, device, dtype: session)
    out = tmp_path / "answer.png"
    cli.main(["chat", "--draw", str(out), "--max-new-tokens", "2", "Draw red."])
    with Image.open(out) as drawn:
        assert drawn.size == (16, 16)


def test_the_demo_shows_what_was_drawn_and_keeps_it(
    session: OmniInference, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(talk, "load", lambda model, device, dtype: session)
    out = tmp_path / "page.html"
    assert cli.main(["demo", "--out", str(out)]) == 0
    with Image.open(tmp_path / "answer.png") as drawn:
        assert drawn.size == (16, 16)
    assert (tmp_path / "answer.wav").stat().st_size > 1000
    assert out.read_text().count("what it drew") == sum(each.is_drawn for each in TOUR) > 0
