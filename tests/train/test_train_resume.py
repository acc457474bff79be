"""A killed run that is resumed takes the steps it would have taken, bit for bit."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.train.killed_run import run
from tests.train.made_samples import curve
from unimoe.train.journal import read_journal

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, resume=False).reason == "finished"
    return folder


def require_equal(folder: Path, whole: Path) -> None:
    assert curve(read_journal(folder)) == curve(read_journal(whole))
    ours = load_file(folder / "trained.safetensors")
    theirs = load_file(whole / "trained.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def test_a_run_killed_at_a_random_moment_and_resumed_equals_one_that_was_not(whole, tmp_path):
    lines_until_killed = random.SystemRandom().randint(1, 12)
    command = [sys.executable, "-m", "tests.train.killed_run", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        for _ in range(lines_until_killed):
            process.stdout.readline()
        process.kill()
    assert not (tmp_path / "trained.safetensors").exists()
    run(tmp_path, resume=True)
    require_equal(tmp_path, whole)


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_a_run_that_broke_off_after_any_step_is_gone_on_with(step, whole, tmp_path):
    def break_off(record):
        if "loss" in record and record["step"] == step:
            raise KeyError("power")

    with pytest.raises(KeyError, match="power"):
        run(tmp_path, resume=False, on_record=break_off)
    run(tmp_path, resume=True)
    require_equal(tmp_path, whole)


def test_a_state_that_was_half_written_when_the_run_was_killed_is_no_state(whole, tmp_path):
    def break_off(record):
        if record["step"] == 4:
            raise KeyError("power")

    with pytest.raises(KeyError, match="power"):
        run(tmp_path, resume=False, on_record=break_off)
    (tmp_path / "state-00000006.partial").write_bytes(b"half")
    with (tmp_path / "journal.jsonl").open("a") as stream:
        stream.write('{"step": 5, "lo')
    run(tmp_path, resume=True)
    require_equal(tmp_path, whole)


def test_resuming_a_finished_run_changes_nothing(whole):
    before = (whole / "journal.jsonl").read_bytes()
    assert run(whole, resume=True).steps == 8
    assert (whole / "journal.jsonl").read_bytes() == before
