import json

import pytest

from unimoe.train.journal import Journal, read_journal


def written(folder, *records):
    journal = Journal(folder, steps_done=0)
    for record in records:
        journal.write(record)
    journal.close()
    return journal.path


def test_lines_come_back_as_they_were_written(tmp_path):
    records = [{"step": 0, "loss": 1.5}, {"step": 1, "loss": 0.1 + 0.2}]
    assert list(read_journal(written(tmp_path, *records))) == records


def test_what_is_no_number_is_null_for_any_reader(tmp_path):
    path = written(tmp_path, {"step": 0, "loss": float("nan"), "by_task": {"a": float("inf")}})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "step": 0,
        "loss": None,
        "by_task": {"a": None},
    }


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = written(tmp_path, {"step": 0})
    with path.open("a") as stream:
        stream.write('{"step": 1')
    assert list(read_journal(tmp_path)) == [{"step": 0}]


def test_what_is_beyond_the_state_is_dropped_when_a_run_goes_on(tmp_path):
    written(tmp_path, *({"step": step} for step in range(5)))
    with (tmp_path / "journal.jsonl").open("a") as stream:
        stream.write('{"step"')
    Journal(tmp_path, steps_done=3).close()
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 0}, {"step": 1}, {"step": 2}]
