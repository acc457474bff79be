"""What the stages of mini may change."""

import dataclasses
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from safetensors.torch import save_file

from unimoe.checkpoint.mini import _is_trained, export_trained, mini_config
from unimoe.checkpoint.packed import read_packed, write_packed
from unimoe.config import MoEConfig
from unimoe.errors import CheckpointError, TrainingError
from unimoe.model.allocate import meta_model
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import specialist_moe, with_deltas
from unimoe.recipes import mini
from unimoe.recipes.mini import (
    _WORDS_NAME,
    DELTA_RANK,
    SPECIALISTS,
    Encoder,
    _trained_mixture,
    _words_of,
    _write_words,
    mini_moe,
    mini_stages,
)
from unimoe.recipes.mini_dictation import DictationSamples
from unimoe.recipes.mini_letters import LetterSamples
from unimoe.recipes.tiny import tiny_config
from unimoe.train.align import blank_token
from unimoe.train.features import PreparedSet
from unimoe.train.loop import TRAINED_NAME
from unimoe.train.plan import Plan
from unimoe.train.stages import apply_trained

STAGES = {name: stage for name, stage in mini_stages().items() if isinstance(stage.plan, Plan)}
"""Those of the language core; heads have no parts."""
ALIGNED = ("words", "pictures")


def names_of(stage: str) -> list[str]:
    """Of the parameters of the model that the stage trains."""
    moe = mini_moe()
    if stage in ALIGNED:
        moe = None
    elif stage in SPECIALISTS.values():
        moe = specialist_moe(moe.routed_width, DELTA_RANK)
    with_experts = dataclasses.replace(mini_config().core, moe=moe)
    model = meta_model(dataclasses.replace(mini_config(), core=with_experts))
    return [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_learns_nothing_that_a_part_brought(stage: str) -> None:
    learns = STAGES[stage].plan.learns
    learned = [n for n in names_of(stage) if any(fnmatchcase(n, pattern) for pattern in learns)]
    assert learned
    assert [name for name in learned if not _is_trained(name)] == []


@pytest.mark.parametrize(("stage", "encoder"), [("words", "audio"), ("pictures", "vision")])
def test_later_stages_say_the_words_that_alignment_told(
    stage: str, encoder: Encoder, tmp_path: Path
) -> None:
    config = tiny_config()
    assert config.vision is not None
    assert config.audio is not None
    speaking = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, speaks_words=True),
        audio=dataclasses.replace(config.audio, speaks_words=True),
    )
    aligned, later = OmniModel(speaking), OmniModel(speaking)
    _words_of(aligned, encoder).limit_to([40, 42])
    (tmp_path / stage).mkdir()
    _write_words(aligned, encoder, tmp_path / stage)
    apply_trained(later, tmp_path / stage, file_name=_WORDS_NAME)
    for name in ("vision", "audio"):
        words = later.get_submodule(f"{name}.words")
        assert (words.token_ids.tolist() == [40, 42]) == (name == encoder)


@pytest.mark.parametrize(("has_former", "spoken"), [(True, [40, 42]), (False, [])])
def test_alignment_of_a_former_run_unlearns_no_word(
    has_former: bool, spoken: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    assert config.vision is not None
    vision = dataclasses.replace(config.vision, speaks_words=True)
    model = OmniModel(dataclasses.replace(config, vision=vision))
    _words_of(model, "vision").limit_to([40, 42])
    if has_former:
        write_packed({}, tmp_path / "former.safetensors")
    monkeypatch.setattr(mini, "_sets", lambda model, names, split: {})
    plan = STAGES["pictures"].plan
    mini._stage("", plan, lambda runs: model, aligns="vision").material(plan, tmp_path)
    blank = blank_token(config.special_tokens)
    assert _words_of(model, "vision").token_ids.tolist() == sorted([*spoken, blank])


AskedSets: TypeAlias = list[tuple[tuple[str, ...], str]]
"""Names and split."""


@pytest.fixture
def asked_sets(monkeypatch: pytest.MonkeyPatch) -> AskedSets:
    """What a stage asks for, of which there is nothing."""
    asked: AskedSets = []

    def no_sets(model: OmniModel, names: Iterable[str], split: str) -> dict[str, PreparedSet]:
        asked.append((tuple(names), split))
        return {}

    monkeypatch.setattr(mini, "_sets", no_sets)
    return asked


def test_letters_of_an_alignment_are_drawn_and_belong_to_no_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_sets: AskedSets
) -> None:
    config = tiny_config()
    assert config.vision is not None
    vision = dataclasses.replace(config.vision, speaks_words=True)
    model = OmniModel(dataclasses.replace(config, vision=vision))
    drawn = object.__new__(LetterSamples)  # none is drawn
    drawn.lengths = [9]
    monkeypatch.setattr(mini, "_letters", lambda model: drawn)
    plan = dataclasses.replace(STAGES["pictures"].plan, mixture={"ocr": 1.0, "letters": 2.0})
    made = mini._stage("", plan, lambda runs: model, aligns="vision").material(plan, tmp_path)
    assert asked_sets == [(("ocr",), "train"), (("ocr",), "validation")]
    assert made.sources == {"letters": drawn}


def test_dictation_is_made_of_recordings_that_are_validated_with_their_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_sets: AskedSets
) -> None:
    model = OmniModel(tiny_config())
    dictated = object.__new__(DictationSamples)  # of no recording
    dictated.lengths = [9]
    monkeypatch.setattr(mini, "_dictation", lambda model: dictated)
    plan = dataclasses.replace(STAGES["mixed"].plan, mixture={"text": 1.0, "dictation": 2.0})
    made = mini._stage("", plan, lambda runs: model).material(plan, tmp_path)
    assert asked_sets == [(("text",), "train"), (("text", "speech"), "validation")]
    assert made.sources == {"dictation": dictated}


def test_a_mixture_goes_on_from_a_former_one_unless_routers_were_aimed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tiny_config().core
    moe = MoEConfig(routed_width=core.ffn_width, shared_width=16, delta_rank=2)
    dense = dataclasses.replace(tiny_config(), core=dataclasses.replace(core, moe=None))
    monkeypatch.setattr(mini, "mini_moe", lambda: moe)
    monkeypatch.setattr(mini, "_dense", lambda runs: OmniModel(dense))
    former = with_deltas(OmniModel(dense), moe)
    with torch.no_grad():
        for name, parameter in former.named_parameters():
            if _is_trained(name):
                parameter.normal_()
    export_trained(former, tmp_path)
    (tmp_path / "trained.safetensors").rename(tmp_path / "former.safetensors")
    went_on = dict(_trained_mixture(tmp_path).named_parameters())
    learned = [name for name, _ in former.named_parameters() if ".ffn.deltas.r" in name]
    for name, parameter in former.named_parameters():
        if name in learned or ".router." in name:
            torch.testing.assert_close(went_on[name], parameter, rtol=0, atol=0.03)
    exported = read_packed(tmp_path / "former.safetensors")
    cut = {name: value[:1] if name in learned else value for name, value in exported.items()}
    write_packed(cut, tmp_path / "former.safetensors")
    with pytest.raises(CheckpointError, match="exported of a model with other settings"):
        _trained_mixture(tmp_path)
    (tmp_path / "routing").mkdir()
    save_file({}, tmp_path / "routing" / TRAINED_NAME)
    with pytest.raises(TrainingError, match="run stage 'speech' to its end first"):
        _trained_mixture(tmp_path)
