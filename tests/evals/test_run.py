"""Interrupted or not, an evaluation leaves the same records, and they can be judged again."""

import contextlib
import dataclasses

import pytest

from tests.evals.made_data import made_data
from unimoe.data.sample import Turn
from unimoe.errors import DataError, RequestError
from unimoe.evals import run
from unimoe.evals.answer import Answer, Answers, ModelAnswerer
from unimoe.evals.judges import Judges
from unimoe.evals.records import EvalFolder
from unimoe.evals.run import rescore, run_task
from unimoe.evals.task import Task, load_items
from unimoe.evals.tower_states import TowerStates
from unimoe.infer.session import OmniInference
from unimoe.train.store import prepared_folder

COLOURS = Task(name="colour", title="Colours", dataset="colours", judge="exact")
WORDS = Task(name="words", title="Words", dataset="words", judge="wer")
JUDGES = Judges({})


class Parrot:
    """Says what it is told to, and counts how often it was asked."""

    def __init__(self, says="red", fails_after=None):
        self.says, self.fails_after, self.num_asked = says, fails_after, 0

    def answer(self, samples, folder, max_new_tokens):
        if self.fails_after is not None and self.num_asked >= self.fails_after:
            raise KeyboardInterrupt
        self.num_asked += len(samples)
        return Answers([Answer(text=self.says) for _ in samples])


@pytest.fixture
def data(tmp_path):
    return made_data(tmp_path / "data")


def folder_in(path):
    folder = EvalFolder(path)
    folder.begin(model={"name": "parrot"}, options={"limit": None}, about={})
    return folder


def test_every_sample_has_a_line_with_its_verdict(data, tmp_path):
    items = load_items(COLOURS, data)
    records = run_task(items, Parrot(), JUDGES, folder_in(tmp_path / "out"))
    assert [item.id for item in records.items] == [sample.id for sample in items.samples]
    by_id = {item.id: item for item in records.items}
    assert by_id["colour-0"].correct
    assert by_id["colour-0"].prompt == "<image>What colour?"
    assert by_id["colour-0"].media == ("images/0.png",)
    assert not by_id["colour-1"].correct


def test_an_interrupted_run_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 2)
    items = load_items(COLOURS, data)
    whole = run_task(items, Parrot(), JUDGES, folder_in(tmp_path / "whole"))
    folder = folder_in(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        run_task(items, Parrot(fails_after=4), JUDGES, folder)
    second = Parrot()
    assert run_task(items, second, JUDGES, folder).items == whole.items
    assert second.num_asked == 3
    same = [(tmp_path / name / "colour.jsonl").read_bytes() for name in ("whole", "cut")]
    assert same[0] == same[1]


def test_a_torn_line_is_asked_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 4)
    items = load_items(COLOURS, data)
    folder = folder_in(tmp_path / "out")
    whole = run_task(items, Parrot(), JUDGES, folder)
    path = folder.path / "colour.windows.jsonl"
    path.write_text(path.read_text()[:-5])
    again = Parrot()
    assert run_task(items, again, JUDGES, folder).items == whole.items
    assert again.num_asked == 3


def test_lines_that_are_gone_are_an_error(data, tmp_path):
    folder = folder_in(tmp_path / "out")
    run_task(load_items(COLOURS, data), Parrot(), JUDGES, folder)
    (folder.path / "colour.jsonl").write_text("")
    with pytest.raises(DataError, match="0 items, its windows count 7"):
        folder.read("colour")


def test_a_folder_is_of_one_model_and_one_choice_of_data(data, tmp_path):
    folder = folder_in(tmp_path / "out")
    run_task(load_items(COLOURS, data), Parrot(), JUDGES, folder)
    with pytest.raises(RequestError, match="another model"):
        folder.begin(model={"name": "crow"}, options={"limit": None}, about={})
    with pytest.raises(RequestError, match=r"another num_items, sha256"):
        run_task(load_items(COLOURS, data, limit=2), Parrot(), JUDGES, folder)


def test_judging_again_needs_nobody_to_ask(data, tmp_path):
    folder = folder_in(tmp_path / "out")
    run_task(load_items(WORDS, data), Parrot("one color"), JUDGES, folder)
    before = folder.read("words")
    rescore(folder, JUDGES)
    assert folder.read("words") == before
    rescore(folder, Judges({"colour": "color"}))
    assert all(item.correct for item in folder.read("words").items)


def test_a_folder_without_an_evaluation_is_told(tmp_path):
    with pytest.raises(RequestError, match=r"need the --out"):
        rescore(EvalFolder(tmp_path), JUDGES)


@pytest.fixture(scope="module")
def session(tiny_directory):
    return OmniInference(tiny_directory)


def asked(session, items, max_new_tokens, **options):
    answerer = ModelAnswerer(session.model, session.vocabulary, **options)
    return answerer.answer(items.samples, items.folder, max_new_tokens)


def test_a_model_answers_in_batches_as_it_does_alone(session, data):
    for task in (COLOURS, WORDS):
        items = load_items(task, data)
        together = asked(session, items, 6, batch_size=4)
        alone = asked(session, items, 6, batch_size=1)
        assert [a.text for a in together.answers] == [a.text for a in alone.answers]
        assert together.expert_use["num_tokens"] == alone.expert_use["num_tokens"]


def test_a_model_is_not_shown_the_answer(session, data):
    items = load_items(COLOURS, data)
    turns = [sample.conversations for sample in items.samples]
    others = tuple(
        dataclasses.replace(sample, conversations=(question, Turn("assistant", "Other")))
        for sample, (question, _) in zip(items.samples, turns, strict=True)
    )
    told = dataclasses.replace(items, samples=others)
    assert asked(session, told, 4) == asked(session, items, 4)


def test_a_lower_routing_threshold_takes_fewer_experts(session, data):
    items = load_items(COLOURS, data)

    def experts(top_p):
        given = asked(session, items, 2, top_p_routing=top_p)
        return sum(answer.experts_per_token for answer in given.answers)

    assert experts(0.3) < experts(0.95)


def test_an_answer_is_the_one_of_a_chat(session, data):
    items = load_items(COLOURS, data)
    given = asked(session, items, 12)
    for sample, answer in zip(items.samples, given.answers, strict=True):
        image = [str(items.folder / path) for path in sample.images]
        said = session.chat("What colour?", image=image, max_new_tokens=12).text
        assert answer.text == said.strip()


def test_kept_states_answer_like_fresh_ones(session, data, tmp_path):
    items = load_items(COLOURS, data)
    fresh = asked(session, items, 8)
    folder = prepared_folder(tmp_path, session.model, session.vocabulary)
    for _ in range(2):
        with contextlib.closing(TowerStates(session.model, folder)) as states:
            kept = asked(session, items, 8, states=states)
        assert [answer.text for answer in kept.answers] == [a.text for a in fresh.answers]
