import json

import pytest
import torch
from torch import nn

from unimoe.errors import TrainingError
from unimoe.train.head_loop import HeadLoss, train_head
from unimoe.train.plan import GuardPlan, HeadPlan


class Counter(nn.Module):
    """A line, and how many batches it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("window", torch.ones(2), persistent=False)


def _batch_of(step: int) -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def _objective(head: Counter, batch: torch.Tensor) -> HeadLoss:
    if head.training:
        head.seen += 1
    noise = 0.01 * torch.randn(8, 1)
    total = (head.line(batch) + noise - batch.sum(1, keepdim=True)).square().mean()
    return HeadLoss(total, {"square": float(total.detach())})


def _plan(**changes) -> HeadPlan:
    values = {"steps": 12, "learns": {"line.*": 1.0}, "lr": 0.1, "save_every": 4,
              "evaluate_every": 6} | changes  # fmt: skip
    return HeadPlan(**values)


def _head() -> Counter:
    torch.manual_seed(3)
    return Counter()


def _losses(folder) -> list[float]:
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if '"loss"' in line]


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    whole = _head()
    train_head(whole, _batch_of, _objective, _plan(), tmp_path / "whole")
    steps = 0

    class Killed(Exception):
        pass

    def killed_objective(head, batch):
        nonlocal steps
        steps += 1
        if steps == 7:
            raise Killed
        return _objective(head, batch)

    with pytest.raises(Killed):
        train_head(_head(), _batch_of, killed_objective, _plan(), tmp_path / "killed")
    again = _head()
    train_head(again, _batch_of, _objective, _plan(), tmp_path / "killed", resume=True)
    assert torch.equal(whole.line.weight, again.line.weight)
    assert torch.equal(whole.seen, again.seen)
    assert _losses(tmp_path / "whole") == _losses(tmp_path / "killed")


def test_what_is_handed_on_holds_buffers_that_a_checkpoint_keeps(tmp_path):
    from safetensors.torch import load_file

    head = _head()
    train_head(head, _batch_of, _objective, _plan(), tmp_path)
    handed = load_file(tmp_path / "trained.safetensors")
    assert sorted(handed) == ["line.bias", "line.weight", "seen"]
    assert float(handed["seen"]) == 12


def test_evaluations_are_taken_when_due_and_at_the_end(tmp_path):
    records = []
    train_head(
        _head(),
        _batch_of,
        _objective,
        _plan(steps=8),
        tmp_path,
        evaluation=lambda head: {"training": float(head.training)},
        on_record=records.append,
    )
    found = [record for record in records if "evaluations" in record]
    assert [record["step"] for record in found] == [5, 7]
    assert all(record["evaluations"]["held out"] == {"training": 0.0} for record in found)


def test_a_folder_with_a_run_is_not_taken_for_an_empty_one(tmp_path):
    train_head(_head(), _batch_of, _objective, _plan(), tmp_path)
    with pytest.raises(TrainingError, match="resume it"):
        train_head(_head(), _batch_of, _objective, _plan(), tmp_path)
    with pytest.raises(TrainingError, match=r"train\.lr"):
        train_head(_head(), _batch_of, _objective, _plan(lr=0.2), tmp_path, resume=True)


def test_a_loss_that_is_no_number_changes_no_weight_and_ends_the_run(tmp_path):
    def sick(head, batch):
        return HeadLoss(head.line(batch).sum() * torch.nan, {})

    head = _head()
    before = head.line.weight.clone()
    plan = _plan(guard=GuardPlan(patience=2, max_rollbacks=1))
    with pytest.raises(TrainingError, match="returns to earlier weights"):
        train_head(head, _batch_of, sick, plan, tmp_path)
    assert torch.equal(head.line.weight, before)
