"""What the stages of mini may change."""

import dataclasses
from fnmatch import fnmatchcase

import pytest

from unimoe.checkpoint.mini import _is_trained, mini_config
from unimoe.model.allocate import meta_model
from unimoe.model.specialists import specialist_moe
from unimoe.recipes.mini import DELTA_RANK, SPECIALISTS, mini_moe, mini_stages
from unimoe.train.plan import Plan

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
