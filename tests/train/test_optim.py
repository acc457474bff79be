import pytest
import torch

from tests.train.made_samples import plan
from unimoe.errors import ConfigError
from unimoe.train.optim import Learner, choose_learned, learning_report


class Two(torch.nn.Module):
    """A frozen half and a learned one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(3, 2)
        self.second = torch.nn.Linear(2, 2)

    def loss(self) -> torch.Tensor:
        return self.second(self.first(torch.ones(1, 3))).square().sum()


def learner(model: Two, **changes) -> Learner:
    values = {"learns": {"second.*": 1.0}, "warmup_steps": 0, "lr": 0.1, "ema_decay": None}
    return Learner(model, plan(**(values | changes)))


def one_step(model: Two, optimiser: Learner, step: int = 0) -> None:
    model.loss().backward()
    optimiser.clip()
    optimiser.step(step)


def test_what_no_pattern_names_is_frozen_and_stays():
    model = Two()
    before = model.first.weight.clone()
    one_step(model, learner(model))
    assert model.first.weight.equal(before)
    assert not model.first.weight.requires_grad
    assert model.first.weight.grad is None


def test_the_first_pattern_that_fits_gives_the_rate():
    learned = choose_learned(Two(), {"second.bias": 0.5, "second.*": 1.0})
    assert {name: entry.lr_factor for name, entry in learned.items()} == {
        "second.weight": 1.0,
        "second.bias": 0.5,
    }


def test_a_pattern_that_fits_nothing_is_refused_with_names_that_exist():
    with pytest.raises(ConfigError, match=r"'third\.\*': it fits no .*4 .*first\.weight"):
        choose_learned(Two(), {"second.*": 1.0, "third.*": 1.0})


def test_a_pattern_that_earlier_ones_leave_nothing_is_refused():
    with pytest.raises(ConfigError, match="earlier patterns took all it fits"):
        choose_learned(Two(), {"second.*": 1.0, "second.bias": 0.5})


def test_a_rate_of_zero_leaves_the_weights_where_they_are():
    model = Two()
    before = model.second.weight.clone()
    one_step(model, learner(model, learns={"second.weight": 0.0, "second.bias": 1.0}))
    assert model.second.weight.equal(before)


def test_matrices_decay_and_vectors_do_not():
    model = Two()
    optimiser = learner(model, weight_decay=0.5)
    weight, bias = model.second.weight.clone(), model.second.bias.clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(0)
    torch.testing.assert_close(model.second.weight.detach(), weight.detach() * 0.95)
    assert model.second.bias.equal(bias)


def test_the_norm_of_the_gradients_is_bounded():
    model = Two()
    optimiser = learner(model, clip_norm=0.01)
    model.loss().backward()
    assert optimiser.clip() > 0.01
    norm = torch.cat([e.parameter.grad.flatten() for e in optimiser.learned.values()]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_the_average_is_lent_to_the_model_and_taken_back():
    model = Two()
    optimiser = learner(model, ema_decay=0.9)
    start = model.second.weight.clone()
    one_step(model, optimiser)
    stepped = model.second.weight.clone()
    with optimiser.handed_on():
        # The first average has a decay of 1 / 10.
        torch.testing.assert_close(model.second.weight, start + 0.9 * (stepped - start))
    assert model.second.weight.equal(stepped)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_what_is_handed_on_has_its_share_of_the_start(ema_decay):
    model = Two()
    optimiser = learner(model, ema_decay=ema_decay, start_share=0.25)
    start = model.second.weight.clone()
    one_step(model, optimiser)
    stepped = model.second.weight.clone()
    learned = start + 0.9 * (stepped - start) if ema_decay else stepped
    with optimiser.handed_on():
        torch.testing.assert_close(model.second.weight, 0.75 * learned + 0.25 * start)
    assert model.second.weight.equal(stepped)


def test_a_restored_run_hands_on_its_share_of_the_first_start():
    model, again = Two(), Two()
    again.load_state_dict(model.state_dict())
    optimiser = learner(model, start_share=0.5)
    one_step(model, optimiser)
    resumed = learner(again, start_share=0.5)
    resumed.restore(optimiser.tensors())
    with optimiser.handed_on(), resumed.handed_on():
        assert again.second.weight.equal(model.second.weight)


def test_restored_tensors_give_the_same_next_step():
    model = Two()
    optimiser = learner(model, ema_decay=0.9)
    one_step(model, optimiser)
    kept = {name: tensor.clone() for name, tensor in optimiser.tensors().items()}
    one_step(model, optimiser, 1)
    wanted = {name: tensor.clone() for name, tensor in optimiser.tensors().items()}
    optimiser.restore(kept)
    one_step(model, optimiser, 1)
    found = optimiser.tensors()
    assert found.keys() == wanted.keys()
    assert all(found[name].equal(wanted[name]) for name in wanted)


def test_a_state_of_other_parameters_is_refused():
    other = learner(Two(), learns={"first.*": 1.0})
    with pytest.raises(ConfigError, match=r"4 parameters differ, such as first\.bias"):
        learner(Two()).restore(other.tensors())


def test_the_report_counts_what_learns():
    model = Two()
    report = learning_report(choose_learned(model, {"second.*": 0.5}), model)
    assert report.splitlines() == [
        "second.*: 2 tensors, 6 parameters, lr x 0.5",
        "learned: 6 of 14 parameters (42.86%)",
    ]
