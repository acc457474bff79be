"""`unimoe parts`: folders and licences on stdout, one clear line when it fails."""

import json
from pathlib import Path

import pytest

from tests.parts.made_archives import archive_of, part_of, wheel
from unimoe.cli import main
from unimoe.parts import folder_of


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of one part, whose archive lies on a shelf."""
    monkeypatch.setenv("UNIMOE_CACHE", str(tmp_path / "cache"))
    archive = wheel(tmp_path / "thing-1.0-py3-none-any.whl", {"thing/a.txt": b"A"})
    parts = (part_of(archive_of(archive, "thing/*")),)
    monkeypatch.setattr("unimoe.parts.PARTS", parts)
    monkeypatch.setattr("unimoe.parts.catalog.PARTS", parts)
    return tmp_path


def test_list_marks_what_is_here(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "list"]) == 0
    assert main(["parts", "pull", "thing", "--from", str(shelf), "--offline"]) == 0
    assert main(["parts", "list"]) == 0
    before, *_, after = capsys.readouterr().out.splitlines()
    assert before.split() == ["thing", "text", "0.0", "MB", "a", "thing", "[MIT]"]
    assert after.startswith("* thing")


def test_list_as_json_gives_folder_licence_and_pins(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parts", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["folder"] is None
    assert row["licence"] == "MIT"
    assert len(row["archives"][0]["sha256"]) == 64


def test_pull_prints_folder_and_licence(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts", "pull", "all", "--from", str(shelf)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    (folder,) = (shelf / "cache" / "parts").glob("thing-*")
    assert line == f"thing: {folder} [MIT; nobody]"
    assert (folder / "thing/a.txt").read_bytes() == b"A"


def test_pull_of_an_unknown_part_names_the_nearest(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parts", "pull", "thin"]) == 1
    assert capsys.readouterr().err == "unimoe: no part is named 'thin'; did you mean thing?\n"


def test_verify_tells_every_claim_and_fails_on_damage(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["parts", "pull", "thing", "--from", str(shelf)])
    assert main(["parts", "verify"]) == 0
    assert "ok    thing: sha256 of every file: as they came" in capsys.readouterr().out
    from unimoe.parts import PARTS

    (folder_of(PARTS[0]) / "thing/a.txt").write_bytes(b"B")
    assert main(["parts", "verify", "thing"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("WRONG thing: sha256 of every file: differ or are missing: thing/a.txt")
    assert "1 of the checks failed" in err


def test_verify_of_an_empty_cache_says_what_to_do(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parts", "verify"]) == 1
    assert "`unimoe parts pull NAME` fetches one" in capsys.readouterr().err
