"""`unimoe data`: what it prints, and how it fails."""

from pathlib import Path

import pytest

from tests.data.small_sets import build_shapes
from unimoe import cli, recipes
from unimoe.data import build


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMOE_CACHE", str(tmp_path / "cache"))


def test_every_module_that_builds_a_set_is_named() -> None:
    places = (Path(package.__file__).parent for package in (build, recipes))
    sources = (file for place in places for file in place.glob("*.py"))

    builders = {file.stem for file in sources if "\ndef build(" in file.read_text()}

    assert builders == set(build.SETS)


def test_a_built_set_is_shown_with_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    build_shapes(build.set_folder("shapes"))

    assert cli.main(["data", "show", "shapes"]) == 0

    shown = capsys.readouterr().out
    assert "# shapes" in shown
    assert "## validation" in shown
    assert "user: '<audio> What is it?'" in shown


def test_a_file_of_ones_own_is_checked_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_shapes(tmp_path / "mine")

    assert cli.main(["data", "show", str(tmp_path / "mine" / "train.jsonl")]) == 0

    assert capsys.readouterr().out.startswith("1 samples, 0 of them bad\nby input: image 1\n")


def test_a_missing_medium_of_ones_own_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_shapes(tmp_path / "mine")
    next((tmp_path / "mine" / "images").iterdir()).unlink()

    assert cli.main(["data", "show", str(tmp_path / "mine" / "train.jsonl")]) == 1

    assert "1 of 1 samples are bad, more than 2%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "shapes"], "no data set. Build it first"),
        (["build", "shapes"], "no data set 'shapes'; there are easy_vqa, naming"),
        (["build", "easy_vqa", "--scale", "0"], "scale is 0.0"),
    ],
)
def test_a_data_command_fails_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", *words]) == 1

    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
