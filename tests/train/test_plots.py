import json

import numpy as np
import pytest
from PIL import Image

from unimoe.errors import TrainingError
from unimoe.train.plots import _smooth, draw_run


def line(step: int, **changes):
    values = {
        "step": step,
        "loss": 2.0 - step / 10,
        "text": 2.0 - step / 10,
        "by_task": {"see": 1.0, "odd": 2.0} if step % 2 else {"see": 1.0},
        "by_modality": {"image": 1.0},
        "lr": 1e-3,
        "gradient_norm": 0.5,
        "tokens_per_second": 100.0,
        "experts_per_token": 1.5,
        "null_share": 0.2,
    }
    return values | changes


def write(folder, *records):
    (folder / "journal.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_a_journal_becomes_pictures_of_losses_and_of_experts(tmp_path):
    use = {"text": [[0.5, 0.5, 0.1]] * 3, "image": [[0.0, 1.0, 0.0]] * 3}
    columns = ["expert 1", "expert 2", "null 1"]
    write(
        tmp_path,
        {"step": 0, "event": "began", "learns": []},
        *(line(step) for step in range(30)),
        line(30, text=None, loss=None, not_applied="the loss is nan"),
        {"step": 29, "expert_use": use, "columns": columns, "num_tokens": {}},
        {"step": 29, "validation": {"see": {"text": 1.1}}},
    )
    assert [path.name for path in draw_run(tmp_path)] == ["curves.png", "experts.png"]
    for name in ("curves.png", "experts.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_a_dense_run_has_no_picture_of_experts(tmp_path):
    write(tmp_path, line(0), line(1))
    assert [path.name for path in draw_run(tmp_path)] == ["curves.png"]


@pytest.mark.parametrize("records", [[], [{"step": 0, "event": "began"}]])
def test_a_journal_without_steps_is_told(records, tmp_path):
    write(tmp_path, *records)
    with pytest.raises(TrainingError, match="no step in the journal yet"):
        draw_run(tmp_path)


def test_a_folder_without_a_journal_is_told(tmp_path):
    with pytest.raises(TrainingError, match="holds no journal"):
        draw_run(tmp_path)


def test_smoothing_is_the_mean_of_the_last_steps_and_passes_over_gaps():
    values = np.arange(50.0)
    values[30] = np.nan
    smooth = _smooth(values)
    assert smooth[1] == 0.5
    assert smooth[29] == np.arange(10.0, 30.0).mean()
    assert smooth[40] == pytest.approx(np.nanmean(values[21:41]))
