"""A whole evaluation of the tiny model: records, report, continuation."""

import json

import pytest

from tests.evals.made_data import made_data
from unimoe.data.manifest import write_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.errors import DataError, RequestError
from unimoe.evals.judges import Judges
from unimoe.evals.records import EvalFolder
from unimoe.evals.report import write_report
from unimoe.evals.run import run_task
from unimoe.evals.suite import EvalOptions, Pair, PlainText, Suite, Tools, evaluate, fingerprint
from unimoe.evals.task import Task, load_items
from unimoe.evals.tasks.mini import MINI
from unimoe.infer.session import OmniInference
from unimoe.recipes.tiny import build_tiny

TASKS = (
    Task(name="shown", title="Shown", dataset="colours", judge="exact", kinds=("shown",), goal=0.9),
    Task(name="told", title="Told", dataset="colours", judge="exact", kinds=("told",)),
    Task(name="words", title="Words", dataset="words", judge="wer", by=("voice",), goal=0.2),
)
PAIR = Pair(name="pair", title="Told by shown", task="told", reference="shown", trait="question")
SUITE = Suite(name="tiny", tasks=TASKS, pairs=(PAIR,), text=PlainText(dataset="plain", goal=1.15))


@pytest.fixture(scope="module")
def session(tiny_directory):
    return OmniInference(tiny_directory)


@pytest.fixture
def data(tmp_path):
    folder = made_data(tmp_path / "data")
    (folder / "plain").mkdir()
    texts = ["The picture shows a red square.", "Who is speaking?"]
    samples = [OmniSample(id=text, conversations=(Turn("assistant", text),)) for text in texts]
    write_manifest(folder / "plain/test.jsonl", samples)
    return folder


def run(session, folder, data, **options):
    tools = Tools(judges=Judges({}), base=session.model)
    evaluate(session, SUITE, EvalOptions(data=data, **options), folder, tools, name="tiny")
    return write_report(folder, SUITE)


def test_a_whole_evaluation_is_reported(session, data, tmp_path):
    folder = EvalFolder(tmp_path / "out")
    report = run(session, folder, data)
    scores = json.loads((folder.path / "scores.json").read_text())
    assert scores.keys() == {"shown", "told", "words", "pair", "perplexity"}
    assert scores["pair"]["value"] is None  # noise answers nothing right, so there is no share
    assert scores["perplexity"]["value"] == 1.0
    assert "| Shown | 6 |" in report
    assert "≥ 90%: missed" in report
    assert "perplexity by that of the dense base | 2 texts" in report
    assert scores["words"]["parts"].keys() == {"voice ann", "voice bob"}
    assert "| image |" in report  # experts a token by modality
    assert (folder.path / "report.md").read_text() == report


def test_the_same_evaluation_gives_the_same_bytes(session, data, tmp_path):
    for name in ("one", "two"):
        run(session, EvalFolder(tmp_path / name), data, tasks=("shown", "words"))
    for file in ("shown.jsonl", "words.jsonl", "expert_use.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_tasks_can_be_added_to_a_folder_one_by_one(session, data, tmp_path):
    folder = EvalFolder(tmp_path / "out")
    run(session, folder, data, tasks=("shown",))
    before = (folder.path / "shown.jsonl").read_bytes()
    report = run(session, folder, data, tasks=("told",))
    assert "| Shown | 6 |" in report
    assert "| Told | 1 |" in report
    assert (folder.path / "shown.jsonl").read_bytes() == before


def test_another_model_or_threshold_needs_another_folder(session, data, tmp_path):
    folder = EvalFolder(tmp_path / "out")
    run(session, folder, data, tasks=("told",))
    with pytest.raises(RequestError, match="another options"):
        run(session, folder, data, tasks=("told",), top_p_routing=0.5)
    build_tiny(tmp_path / "other", seed=1)
    other = OmniInference(tmp_path / "other")
    assert fingerprint(other.model) != fingerprint(session.model)
    with pytest.raises(RequestError, match="another model"):
        run(other, folder, data, tasks=("told",))


def test_a_missing_data_set_is_told_before_anything_is_asked(session, tmp_path):
    data = made_data(tmp_path / "data")
    (data / "words/test.jsonl").unlink()
    folder = EvalFolder(tmp_path / "out")
    with pytest.raises(DataError, match="task words needs"):
        run(session, folder, data)
    assert not (folder.path / "shown.jsonl").exists()


def test_an_unknown_task_is_told_with_those_there_are(session, data, tmp_path):
    with pytest.raises(RequestError, match="shown, told, words, perplexity"):
        run(session, EvalFolder(tmp_path / "out"), data, tasks=("shwon",))


def test_baselines_stand_beside_the_score(session, data, tmp_path):
    from tests.evals.test_run import Parrot

    folder = EvalFolder(tmp_path / "out")
    run(session, folder, data, tasks=("shown",))
    items = load_items(TASKS[0], data)
    run_task(items, Parrot("red"), Judges(), folder, who="parrot")
    assert "| parrot 33.3 % (6) |" in write_report(folder, SUITE)
    scores = json.loads((folder.path / "scores.json").read_text())
    assert scores["shown"]["instead"]["parrot"]["value"] == 0.3333
    assert scores["shown"]["chance"] == 0.3333


def test_the_tasks_of_mini_have_names_of_their_own():
    assert len(set(MINI.names)) == len(MINI.names)
    for pair in MINI.pairs:
        assert {pair.task, pair.reference} <= set(MINI.names)
