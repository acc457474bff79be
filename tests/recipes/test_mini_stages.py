"""What the stages of mini may change."""

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from unimoe.checkpoint.mini import _is_trained, mini_config
from unimoe.model.allocate import meta_model
from unimoe.model.omni import OmniModel
from unimoe.model.specialists import specialist_moe
from unimoe.recipes.mini import (
    _WORDS_NAME,
    DELTA_RANK,
    SPECIALISTS,
    Encoder,
    _words_of,
    _write_words,
    mini_moe,
    mini_stages,
)
from unimoe.recipes.tiny import tiny_config
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
