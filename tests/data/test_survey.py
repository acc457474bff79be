from pathlib import Path

import pytest

from unimoe.data import OmniSample, Turn, read_manifest, write_manifest
from unimoe.data.survey import lengths_by_task, survey_samples
from unimoe.errors import DataError


def manifest_with_bad_lines(path: Path, num_bad: int):
    samples = [
        OmniSample(id=str(i), conversations=(Turn("user", "x" * i),), task="ab"[i % 2])
        for i in range(1, 100)
    ]
    write_manifest(path, samples)
    with path.open("a") as stream:
        stream.write("broken\n" * num_bad)
    return read_manifest(path)


def num_letters(sample: OmniSample) -> int:
    return len(sample.conversations[0].text)


def test_a_bad_sample_is_told_counted_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = manifest_with_bad_lines(tmp_path / "a.jsonl", 1)

    found = survey_samples(manifest, num_letters)

    assert found.lengths.tolist() == [*range(1, 100), 0]
    assert [bad.number for bad in found.bad] == [99]
    assert "a.jsonl, line 100: Expecting value" in caplog.text
    assert "1 of 100 samples are bad and skipped" in caplog.text


def test_a_bug_is_no_bad_sample(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        survey_samples(manifest_with_bad_lines(tmp_path / "a.jsonl", 0), lambda sample: 1 // 0)


def test_many_bad_samples_are_no_accident(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 of 102 samples are bad, more than 2%. The first: "):
        survey_samples(manifest_with_bad_lines(tmp_path / "a.jsonl", 3), num_letters)


def test_each_task_is_a_source_of_its_own(tmp_path: Path) -> None:
    found = survey_samples(manifest_with_bad_lines(tmp_path / "a.jsonl", 1), num_letters)

    sources = lengths_by_task(found)

    assert list(sources) == ["a", "b"]
    assert sources["b"][:4].tolist() == [1, 0, 3, 0]
    assert (sources["a"] + sources["b"] == found.lengths).all()
