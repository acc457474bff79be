"""What the numbers and the picture of expert use tell."""

import json

import pytest
from PIL import Image

from unimoe.errors import DataError, RequestError
from unimoe.evals.picture import draw_expert_use
from unimoe.evals.routing import combined, read_expert_use, summarise

COLUMNS = ["expert 1", "expert 2", "null 1"]


def record(columns=COLUMNS, **groups):
    return {
        "expert_use": {name: layers for name, (layers, _) in groups.items()},
        "columns": columns,
        "num_tokens": {name: count for name, (_, count) in groups.items()},
    }


APART = record(
    image=([[1.0, 0.0, 0.5], [1.0, 0.0, 0.0]], 10), text=([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 30)
)


def test_records_are_weighed_by_their_tokens():
    one, other = record(text=([[1.0, 0.0, 0.0]], 1)), record(text=([[0.0, 1.0, 0.0]], 3))
    both = combined([one, other, record(image=([[0.0, 0.0, 1.0]], 2))])
    assert both["expert_use"] == {"text": [[0.25, 0.75, 0.0]], "image": [[0.0, 0.0, 1.0]]}
    assert both["num_tokens"] == {"text": 4, "image": 2}
    assert combined([]) is None


def test_records_of_different_models_do_not_add_up():
    with pytest.raises(DataError, match="one model's"):
        combined([APART, record(columns=["a", "b", "c"], text=([[1.0, 0.0, 0.0]], 1))])


def test_null_experts_are_no_experts():
    use = summarise(APART).groups["image"]
    assert use.experts_per_token == 1.0
    assert use.null_share == pytest.approx(0.2)
    assert (use.favourite, use.favourite_share) == ("expert 1", 1.0)


def test_an_expert_nobody_takes_in_a_layer_is_dead_and_a_null_one_never():
    assert summarise(APART).dead == ((2, "expert 2"),)


def test_divergence_is_0_for_the_same_experts_and_1_for_others():
    same = record(a=([[0.5, 0.5, 0.0]], 1), b=([[0.5, 0.5, 0.0]], 1))
    other = record(a=([[1.0, 0.0, 0.0]], 1), b=([[0.0, 1.0, 0.0]], 1))
    assert summarise(same).divergence_bits == 0
    assert summarise(other).divergence_bits == pytest.approx(1)


def test_the_last_record_of_a_journal_counts_and_a_torn_line_does_not(tmp_path):
    lines = [{"step": 1, "expert_use": {"text": [[0.1, 0.2]]}}, {"step": 2, "loss": 1.0}]
    lines.insert(1, {"step": 1, "expert_use": {"text": [[0.3, 0.4]]}})
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 3, "expert_u'
    (tmp_path / "journal.jsonl").write_text(text)
    found = read_expert_use(tmp_path)
    assert found["expert_use"] == {"text": [[0.3, 0.4]]}
    assert found["columns"] == ["column 1", "column 2"]
    assert read_expert_use(tmp_path / "journal.jsonl") == found


def test_an_evaluation_is_read_as_it_was_written(tmp_path):
    (tmp_path / "expert_use.json").write_text(json.dumps(APART))
    assert read_expert_use(tmp_path) == APART


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{}", "no expert use"),
        ("{", "no JSON"),
        ('{"expert_use": {"text": [0.5]}}', "for every layer"),
        ('{"expert_use": {"text": [[0.5], [1, 2]]}}', "for every layer"),
        ('{"expert_use": {"text": [[0.5]], "image": [[0.5, 1]]}}', "differ"),
        ('{"expert_use": {"text": [[0.5]]}, "columns": ["a", "b"]}', "2 names for 1"),
    ],
)
def test_another_form_is_refused(tmp_path, content, fault):
    path = tmp_path / "expert_use.json"
    path.write_text(content)
    with pytest.raises(DataError, match=fault):
        read_expert_use(path)


def test_a_folder_without_any_is_told(tmp_path):
    with pytest.raises(DataError, match=r"journal\.jsonl"):
        read_expert_use(tmp_path)


def test_the_picture_has_a_panel_a_group(tmp_path):
    path = tmp_path / "pictures" / "router.png"
    draw_expert_use(APART, path)
    wide = record(image=([[1.0, 0.0, 0.0]] * 30, 1))
    draw_expert_use(wide, tmp_path / "wide.png", title="One group")
    with Image.open(path) as two, Image.open(tmp_path / "wide.png") as one:
        assert two.height > one.height
        assert two.width < one.width


def test_pictures_are_png(tmp_path):
    with pytest.raises(RequestError, match="PNG"):
        draw_expert_use(APART, tmp_path / "router.pdf")
