"""A task takes the samples it names, always the same ones, and knows when they change."""

import pytest
from PIL import Image

from tests.evals.made_data import made_data, question
from unimoe.data.manifest import write_manifest
from unimoe.data.sample import OmniSample, Turn
from unimoe.errors import ConfigError, DataError
from unimoe.evals.task import Task, load_items

TASK = Task(name="colour", title="Colours", dataset="colours", judge="exact", goal=0.9)


def task(**changes):
    return Task(**{"name": "t", "title": "T", "dataset": "colours", "judge": "exact", **changes})


@pytest.fixture
def data(tmp_path):
    return made_data(tmp_path)


def ids(task, data, **options):
    return [sample.id for sample in load_items(task, data, **options).samples]


def test_kinds_and_traits_choose_samples(data):
    assert len(ids(TASK, data)) == 7
    assert ids(task(kinds=("told",)), data) == ["colour-99"]
    assert ids(task(traits={"style": ("none", "rich")}), data) == ["colour-99"]


def test_a_limit_takes_the_same_samples_every_time_and_others_with_another_seed(data):
    few = ids(TASK, data, limit=3)
    assert few == ids(TASK, data, limit=3)
    assert len(few) == 3
    assert set(ids(TASK, data, limit=3, seed=1)) != set(few)
    assert load_items(TASK, data, limit=3).num_available == 7


def test_a_task_may_take_fewer_than_there_are(data):
    assert ids(task(most=3), data) == ids(TASK, data, limit=3)
    assert len(ids(task(most=3), data, limit=2)) == 2
    assert len(ids(task(most=30), data)) == 7


def test_the_hash_changes_with_a_picture_and_with_an_answer(data):
    before = load_items(TASK, data).sha256
    assert load_items(TASK, data).sha256 == before
    Image.new("RGB", (40, 40), "black").save(data / "colours/images/0.png")
    with_other_picture = load_items(TASK, data).sha256
    assert with_other_picture != before
    path = data / "colours/test.jsonl"
    path.write_text(path.read_text().replace('"white"', '"snow"'))
    assert load_items(TASK, data).sha256 not in (before, with_other_picture)


def test_what_is_missing_is_told_with_what_to_do(data):
    with pytest.raises(DataError, match="unimoe data build stars"):
        load_items(task(dataset="stars"), data)
    with pytest.raises(DataError, match=r"no sample with .*sung"):
        load_items(task(kinds=("sung",)), data)
    (data / "colours/images/0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png: no such file"):
        load_items(TASK, data)


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        ([question(1, "red"), question(1, "red")], "two samples"),
        (
            [OmniSample(id="a", conversations=(Turn("user", "?"), Turn("assistant", "!")))],
            "answers",
        ),
        ([OmniSample(id="a", conversations=(Turn("user", "?"),), answers=("!",))], "ends with"),
    ],
)
def test_samples_that_cannot_be_scored_are_refused(tmp_path, samples, fault):
    (tmp_path / "colours").mkdir()
    write_manifest(tmp_path / "colours/test.jsonl", samples)
    with pytest.raises(DataError, match=fault):
        load_items(TASK, tmp_path)


def test_a_goal_is_a_floor_for_right_answers_and_a_ceiling_for_word_errors():
    assert TASK.reaches_goal(0.9)
    assert not TASK.reaches_goal(0.89)
    assert task(judge="wer", goal=0.08).reaches_goal(0.05)
    assert task().reaches_goal(0.5) is None


def test_an_answer_has_room_for_a_token():
    with pytest.raises(ConfigError, match="max_new_tokens"):
        task(max_new_tokens=0)


def test_questions_on_one_picture_stand_side_by_side(tmp_path):
    (tmp_path / "colours/images").mkdir(parents=True)
    paths = ["images/a.png", "images/b.png"]
    for path in paths:
        Image.new("RGB", (8, 8)).save(tmp_path / "colours" / path)
    samples = [question(number, "red", images=(paths[number % 2],)) for number in range(10)]
    write_manifest(tmp_path / "colours/test.jsonl", samples)
    shown = [sample.images for sample in load_items(TASK, tmp_path).samples]
    assert len(set(shown[:5])) == len(set(shown[5:])) == 1
