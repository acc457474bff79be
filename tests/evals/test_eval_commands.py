"""`unimoe eval`, `rescore` and `plot router` from the command line."""

import shutil

import pytest

from tests.evals.made_data import made_data
from tests.heads.made_speakers import small_speaker
from unimoe.cli import main
from unimoe.evals.judges import Judges
from unimoe.evals.suite import EvalOptions, Suite, Tools
from unimoe.evals.sweep import sweep_thresholds
from unimoe.evals.task import Task
from unimoe.evals.tasks.mini_run import mini_speaker
from unimoe.heads.speaker import write_speaker
from unimoe.infer.session import OmniInference


@pytest.fixture(scope="module")
def evaluated(tiny_directory, tmp_path_factory):
    """The data, the folder of an evaluation, and what it was called with."""
    root = tmp_path_factory.mktemp("eval")
    data = made_data(root / "data")
    shutil.copytree(data / "colours", data / "easy_vqa")
    shutil.copy(data / "easy_vqa/test.jsonl", data / "easy_vqa/train.jsonl")
    words = ["eval", str(tiny_directory), "--task", "easy_vqa", "--data", str(data)]
    words += ["--out", str(root / "out"), "--baseline", "blind", "--limit", "5"]
    assert main(words) == 0
    return root / "out", words


def test_eval_writes_a_report_and_prints_it_when_asked_again(evaluated, capsys):
    folder, words = evaluated
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "report.md").read_text()
    assert "| easy-VQA, official test | 5 |" in printed
    assert "blind" in printed


def test_rescore_needs_no_model(evaluated, capsys):
    folder, _ = evaluated
    before = (folder / "easy_vqa.jsonl").read_bytes()
    assert main(["rescore", str(folder)]) == 0
    assert capsys.readouterr().out == (folder / "report.md").read_text()
    assert (folder / "easy_vqa.jsonl").read_bytes() == before


def test_plot_router_draws_an_evaluation_and_a_chat(evaluated, tiny_directory, tmp_path, capsys):
    folder, _ = evaluated
    assert main(["plot", "router", str(folder), "--out", str(tmp_path / "a.png")]) == 0
    words = ["plot", "router", str(tiny_directory), "--question", "What?"]
    picture = str(next((folder.parent / "data/colours/images").glob("*.png")))
    assert main([*words, "--image", picture, "--out", str(tmp_path / "b.png")]) == 0
    assert capsys.readouterr().out.strip()
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (tmp_path / "b.png").stat().st_size > 1000


def test_media_without_a_question_and_unknown_tasks_are_misuse(evaluated, tmp_path, capsys):
    folder, words = evaluated
    assert main(["plot", "router", str(folder), "--image", "a.png"]) == 2
    assert main([*words, "--task", "easy_vqua"]) == 2
    assert "easy_vqa, naming" in capsys.readouterr().err
    assert main([*words, "--baseline", "owl"]) == 2
    assert "blind, cascade, probe" in capsys.readouterr().err
    assert main(["rescore", str(tmp_path)]) == 2


def test_a_model_without_a_speech_head_is_told_apart_from_one_that_speaks(
    evaluated, tiny_directory, tmp_path, capsys
):
    _, words = evaluated
    assert main([*words, "--task", "codec"]) == 2
    assert "this model has no speech head" in capsys.readouterr().err
    assert main([*words, "--task", "repairs"]) == 2
    assert "this model has no image head, so repairs" in capsys.readouterr().err
    assert main(["plot", "speech", str(tiny_directory), "--out", str(tmp_path)]) == 2
    assert "no speech head" in capsys.readouterr().err
    speaker = small_speaker()
    speaking = shutil.copytree(tiny_directory, tmp_path / "speaking")
    write_speaker(speaker, speaking)
    assert mini_speaker(OmniInference(speaking)).voices == ("ann", "bob")


def test_a_sweep_shows_fewer_experts_at_a_lower_threshold(evaluated, tiny_directory, tmp_path):
    folder, _ = evaluated
    task = Task(name="easy_vqa", title="Colours", dataset="easy_vqa", judge="exact")
    table = sweep_thresholds(
        OmniInference(tiny_directory),
        Suite(name="tiny", tasks=(task,)),
        EvalOptions(data=folder.parent / "data", limit=3),
        tmp_path,
        Tools(judges=Judges()),
        (0.3, None),
    )
    assert table == (tmp_path / "sweep.md").read_text()
    header, _, row = table.splitlines()
    assert header == "| task | top-p 0.3 | top-p own |"
    few, many = (float(cell.split(", ")[2].split()[0]) for cell in row.split("|")[2:4])
    assert few < many
