import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from tests.train.made_samples import SOURCES, Source, pictures, plan, text, tiny_model
from unimoe.errors import TrainingError
from unimoe.train.journal import read_journal
from unimoe.train.lock import held_lock
from unimoe.train.loop import train
from unimoe.train.losses import forward_loss
from unimoe.train.plan import GuardPlan


def test_a_run_learns_what_the_plan_names_and_leaves_the_rest(tmp_path):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learns = {"core.layers.*.ffn.*": 1.0}
    outcome = train(model, SOURCES, plan(learns=learns, steps=3), tmp_path)
    assert outcome.reason == "finished"
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name in before if ".ffn." in name}
    assert load_file(tmp_path / "trained.safetensors").keys() == changed


def test_the_loss_falls(tmp_path):
    train(tiny_model(), SOURCES, plan(steps=25, lr=1e-2, ema_decay=None), tmp_path)
    losses = [line["text"] for line in read_journal(tmp_path) if "loss" in line]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_one_forward_of_two_rows_is_the_step_of_two_forwards(tmp_path):
    models = [tiny_model(), tiny_model()]
    # The balance of experts is judged forward by forward, so it is left out here.
    for model, rows in zip(models, (1, 2), strict=True):
        two = plan(rows_per_forward=rows, balance_weight=(0.0, 0.0), steps=2)
        train(model, SOURCES, two, tmp_path / str(rows))
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    # Adam divides small gradients by their size: rounding shows more than in the gradients.
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in pairs)


def test_the_journal_tells_everything_a_step_is_judged_by(tmp_path):
    train(
        tiny_model(),
        SOURCES,
        plan(steps=4),
        tmp_path,
        validation={"pictures": SOURCES["pictures"]},
        evaluations={"answers": lambda model: {"right": float(not model.training)}},
    )
    lines = list(read_journal(tmp_path))
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    assert steps[0].keys() >= {
        "loss",
        "text",
        "balance",
        "by_task",
        "by_modality",
        "lr",
        "gradient_norm",
        "tokens_per_second",
        "experts_per_token",
        "null_share",
        "fill",
        "epochs",
    }
    assert [set(line["expert_use"]) for line in lines if "expert_use" in line] == [
        {"text", "image", "answer"}
    ]
    (evaluated,) = [line for line in lines if "validation" in line]
    assert evaluated["validation"]["pictures"]["by_task"].keys() == {"see"}
    assert evaluated["evaluations"] == {"answers": {"right": 1.0}}


def test_the_plan_and_the_commit_stand_beside_the_weights(tmp_path):
    train(tiny_model(), SOURCES, plan(steps=1), tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["train"]["lr"] == 3e-3
    assert run["train"]["learns"] == {"core.layers.*.ffn.*": 1.0, "vision.aligner.*": 0.5}
    assert run["commit"] is None or len(run["commit"]) == 40


def test_the_average_is_what_a_run_hands_on(tmp_path):
    model = tiny_model()
    train(model, SOURCES, plan(steps=3), tmp_path)
    handed_on = load_file(tmp_path / "trained.safetensors")
    own = dict(model.named_parameters())
    assert not any(tensor.equal(own[name]) for name, tensor in handed_on.items())


def test_rows_without_anything_to_learn_from_cost_no_step(tmp_path):
    sources = {"texts": Source([text(20, 21, 22)]), "pictures": pictures()}
    only = plan(steps=2, learns={"vision.aligner.*": 1.0}, mixture={"texts": 1.0, "pictures": 1.0})
    assert train(tiny_model(), sources, only, tmp_path).steps == 2


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path):
    train(tiny_model(), SOURCES, plan(steps=1), tmp_path)
    with pytest.raises(TrainingError, match="holds a run of 1 steps; resume it"):
        train(tiny_model(), SOURCES, plan(steps=1), tmp_path)


def test_a_run_is_not_resumed_with_another_plan(tmp_path):
    train(tiny_model(), SOURCES, plan(steps=1), tmp_path)
    with pytest.raises(TrainingError, match=r"train.lr is 0.1, the run began with 0.003"):
        train(tiny_model(), SOURCES, plan(steps=1, lr=0.1), tmp_path, resume=True)


def test_two_processes_do_not_write_into_one_run(tmp_path):
    with (
        held_lock(tmp_path / ".lock", TrainingError),
        pytest.raises(TrainingError, match="another process is writing here"),
    ):
        train(tiny_model(), SOURCES, plan(steps=1), tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_with_a_state(number, tmp_path):
    def interrupt(record):
        if "loss" in record and record["step"] == 1:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    outcome = train(tiny_model(), SOURCES, plan(), tmp_path, on_record=interrupt)
    assert (outcome.reason, outcome.steps) == ("stopped", 2)
    assert (tmp_path / "state-00000002.safetensors").exists()
    assert signal.getsignal(number) == before


def sick_from(step: int, until: int):
    """An objective that goes wrong for some steps of one row each."""
    calls = iter(range(1000))

    def objective(model, batch, *, with_z):
        loss = forward_loss(model, batch, with_z=with_z)
        if step <= next(calls) < until:
            return loss._replace(
                text_sum=loss.text_sum * float("nan"), token_losses=loss.token_losses * float("nan")
            )
        return loss

    return objective


def guarded(**changes):
    values = {"tokens_per_step": 32, "evaluate_every": 0, "save_every": 2, "expert_use_every": 0}
    return plan(guard=GuardPlan(patience=2, max_rollbacks=1), **(values | changes))


def test_a_step_that_is_no_number_changes_nothing_and_is_told(tmp_path):
    model = tiny_model()
    train(model, SOURCES, guarded(), tmp_path, objective=sick_from(3, 4))
    (line,) = [line for line in read_journal(tmp_path) if "not_applied" in line]
    assert (line["step"], line["not_applied"]) == (3, "the loss is nan")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_sick_run_goes_back_to_its_last_good_state_and_finishes(tmp_path):
    outcome = train(tiny_model(), SOURCES, guarded(), tmp_path, objective=sick_from(3, 5))
    assert outcome.reason == "finished"
    (event,) = [line for line in read_journal(tmp_path) if line.get("event") == "rolled back"]
    assert (event["step"], event["to"]) == (4, "state-00000002.safetensors")


def test_a_run_that_stays_sick_is_given_up_with_its_last_good_state(tmp_path):
    with pytest.raises(TrainingError, match=r"step 6: the loss is nan, after 1 returns .*00000002"):
        train(tiny_model(), SOURCES, guarded(), tmp_path, objective=sick_from(3, 100))
