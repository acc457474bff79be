import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.train.parallel_run import join, run
from unimoe.train.journal import read_journal
from unimoe.train.losses import Tally
from unimoe.train.parallel import ALONE

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def steps(folder: Path) -> list[dict]:
    return [line for line in read_journal(folder) if "loss" in line]


def test_two_processes_take_the_steps_of_one(tmp_path):
    run(tmp_path / "one", ALONE)
    port, folder = free_port(), tmp_path / "two"
    command = [sys.executable, "-m", "tests.train.parallel_run", str(folder), "1", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as other:
        outcome = join(folder, 0, port)
        assert other.wait() == 0
    assert (outcome.reason, outcome.steps) == ("finished", 8)
    one, two = (
        [line for line in read_journal(tmp_path / name) if "loss" in line]
        for name in ("one", "two")
    )
    for ours, theirs in zip(two, one, strict=True):
        # The same sums in another order: float32 keeps six digits of them.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)
        for key in ("tokens", "scored", "samples", "experts_per_token", "null_share", "epochs"):
            assert ours[key] == theirs[key]
        assert ours["by_task"] == pytest.approx(theirs["by_task"], abs=2e-5)
    ours, theirs = (load_file(tmp_path / name / "trained.safetensors") for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    # Adam divides small gradients by their size: rounding shows more than in the gradients.
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)


def test_one_process_alone_needs_no_group():
    assert ALONE.sums(1.0, 2.0) == [1.0, 2.0]
    assert ALONE.gathered({"a": 1}) == [{"a": 1}]
    parameter = torch.nn.Parameter(torch.ones(2))
    ALONE.add_gradients([parameter])
    assert parameter.grad is None


def test_counts_of_two_processes_join_to_those_of_one():
    means = {"see": {"total": 1.0, "count": 2}}
    one, two = Tally(), Tally(tokens=4, scored=2, text_sum=1.0).state() | {"tasks": means}
    for _ in range(2):
        one.join(two)
    assert (one.tokens, one.scored, one.text_sum) == (8, 4, 2.0)
    assert one.record()["by_task"] == {"see": 0.5}
