import pytest

from tests.train.made_samples import plan
from unimoe.config import overridden
from unimoe.errors import ConfigError


def test_the_rate_warms_up_linearly_and_falls_to_the_final_fraction():
    linear = plan(steps=6, warmup_steps=2, schedule="linear", final_lr_fraction=0.0, lr=1.0)
    assert [linear.lr_at(step) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_a_cosine_is_half_way_down_in_the_middle():
    cosine = plan(steps=4, warmup_steps=0, schedule="cosine", final_lr_fraction=0.2, lr=1.0)
    assert cosine.lr_at(2) == pytest.approx(0.6)


def test_a_constant_rate_stays():
    constant = plan(schedule="constant", warmup_steps=0, lr=1.0)
    assert {constant.lr_at(step) for step in range(8)} == {1.0}


def test_the_balance_weight_goes_from_its_first_to_its_last_value():
    annealed = plan(steps=3)
    assert [annealed.balance_weight_at(step) for step in range(3)] == pytest.approx(
        [0.025, 0.013, 0.001]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "train.steps is 0; need 1 or more"),
        ({"tokens_per_step": 65}, "multiple of train.row_length, 32"),
        ({"mixture": {"copies": 0.0}}, "shares above 0"),
        ({"learns": {}}, r"train\.learns must name something"),
        ({"lr": 0.0}, "train.lr is 0.0; need more than 0"),
        ({"ema_decay": 1.0}, "train.ema_decay is 1.0"),
        ({"start_share": 1.0}, "train.start_share is 1.0; need 0 to less than 1"),
    ],
)
def test_an_impossible_plan_is_refused_by_the_name_of_its_field(changes, message):
    with pytest.raises(ConfigError, match=message):
        plan(**changes)


def test_words_override_fields_by_their_types():
    words = [
        "train.lr=3e-4",
        "train.schedule=linear",
        "train.betas=[0.9, 0.95]",
        "train.ema_decay=null",
        "train.mixture.copies=5",
        "train.guard.window=7",
    ]
    changed = overridden(plan(), words, root="train")
    assert changed.lr == 3e-4
    assert changed.schedule == "linear"
    assert changed.betas == (0.9, 0.95)
    assert changed.ema_decay is None
    assert changed.mixture == {"copies": 5.0, "pictures": 1.0}
    assert changed.guard.window == 7
    assert changed.steps == plan().steps


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.lrr=1", "train.lrr: no such field; did you mean 'lr'"),
        ("train.gard.window=1", "train.gard: no such field; did you mean 'guard'"),
        ("train.steps=many", "train.steps is 'many'; need int"),
        ("train.steps=1.5", "train.steps is 1.5; need int"),
        ("train.lr.first=1", "train.lr is a single value"),
        ("model.lr=1", "did you mean 'train'"),
        ("train.lr", "sets nothing; write as in train.field=value"),
        ("train.schedule=sine", "need one of constant, linear, cosine"),
        ("train.steps=0", "train.steps is 0"),
    ],
)
def test_a_word_that_sets_nothing_is_refused_with_the_nearest_name(word, message):
    with pytest.raises(ConfigError, match=message):
        overridden(plan(), [word], root="train")
