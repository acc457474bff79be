"""The tour that `unimoe demo` gives."""

import re
from pathlib import Path

import pytest

from unimoe.cli import main
from unimoe.demo import TOUR, page, sample, tour
from unimoe.infer.session import OmniInference


def test_the_tour_asks_everything_and_the_page_holds_it(
    tiny_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["demo", "--model", str(tiny_directory), "--out", str(out)]) == 0
    told, written = capsys.readouterr().out, out.read_text()
    for question in TOUR:
        assert (question.prompt or "(asked aloud)") in told
    assert written.count("<section>") == len(TOUR)
    assert not re.search(r'src="(?!data:)', written)  # it needs no other file


def test_answers_cannot_write_into_the_page(tiny_directory: Path) -> None:
    first = next(tour(OmniInference(tiny_directory)))
    written = page([first._replace(answer="<script>alert(1)</script>")], "<b>")
    assert "<script>" not in written
    assert "<b>" not in written


def test_what_is_shown_is_there() -> None:
    for question in TOUR:
        assert all(len(sample(file)) > 1000 for file in question.media.values())
