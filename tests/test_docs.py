"""The pages keep their promises: every file, test and anchor they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "docs" / "sources.md").read_text()
HOMES = (ROOT, ROOT / "src" / "unimoe", ROOT / "tests", ROOT / "docs", ROOT / "bench")


@pytest.mark.parametrize("page", ["README.md", "docs/sources.md", "docs/architecture.md"])
def test_every_python_file_named_on_a_page_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"(?<![\w./])((?:[\w-]+/)+[\w-]+\.(?:py|md))\b", text))
    missing = [name for name in named if not any((home / name).exists() for home in HOMES)]
    assert named
    assert missing == []


def test_every_anchor_that_the_code_points_to_exists() -> None:
    wanted = {
        anchor
        for file in (ROOT / "src").rglob("*.py")
        for anchor in re.findall(r"docs/sources\.md#([\w-]+)", file.read_text())
    }
    there = set(re.findall(r'<a id="([\w-]+)">', SOURCES))
    assert wanted
    assert wanted - there == set()


def test_every_function_in_the_sources_table_exists() -> None:
    rows = re.findall(r"\| (\w+/\w+\.py) ((?:`\w+`(?:, )?)+)", SOURCES)
    assert rows
    for file, names in rows:
        code = next(path for home in HOMES if (path := home / file).exists()).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b(def|class) {name}\b|^{name}\b", code, re.MULTILINE), (file, name)


def test_the_project_names_no_place_of_its_workshop() -> None:
    suffixes = {".py", ".md", ".toml", ".txt", ".json"}
    files = [f for f in ROOT.rglob("*") if f.suffix in suffixes and ".venv" not in f.parts]
    words = re.compile("/" + "work/|/" + "tmp/|\\.\\./" + "shared")
    assert [str(f) for f in files if words.search(f.read_text(errors="ignore"))] == []
