from collections import Counter

import pytest

from tests.train.made_samples import CONFIG, SOURCES, Source, copies, pictures, plan, text
from unimoe.errors import ConfigError, DataError
from unimoe.train.batches import Batches, train_batch, validation_batches


def ids(batches):
    return [batch.batch.input_ids.tolist() for batch in batches]


def test_a_step_has_the_planned_rows_and_forwards():
    one = Batches(SOURCES, plan(), CONFIG).step_batches()
    assert [tuple(batch.batch.input_ids.shape) for batch in one] == [(1, 32), (1, 32)]
    two = Batches(SOURCES, plan(rows_per_forward=2), CONFIG).step_batches()
    assert [tuple(batch.batch.input_ids.shape) for batch in two] == [(2, 32)]


def test_forwards_of_more_rows_hold_the_same_rows():
    one = Batches(SOURCES, plan(), CONFIG).step_batches()
    two = Batches(SOURCES, plan(rows_per_forward=2), CONFIG).step_batches()
    assert [row for batch in ids(one) for row in batch] == ids(two)[0]


def test_sources_share_the_tokens_as_planned():
    batches = Batches(SOURCES, plan(mixture={"copies": 3.0, "pictures": 1.0}), CONFIG)
    tokens: Counter[str] = Counter()
    for _ in range(60):
        for batch in batches.step_batches():
            for place, name in enumerate(batch.task_names):
                real = batch.batch.attention_mask > 0
                tokens[name] += int(((batch.tasks == place) & real).sum())
    assert tokens["copy"] / tokens["see"] == pytest.approx(3.0, rel=0.05)


def test_restored_batches_go_on_where_the_state_was_taken():
    batches = Batches(SOURCES, plan(), CONFIG)
    for _ in range(3):
        batches.step_batches()
    state = batches.state()
    wanted = [ids(batches.step_batches()) for _ in range(5)]
    fresh = Batches(SOURCES, plan(), CONFIG)
    fresh.restore(state)
    assert [ids(fresh.step_batches()) for _ in range(5)] == wanted


def test_every_token_is_counted_under_the_task_of_its_sample():
    batch = train_batch([[text(1, 2, 3), pictures(1)[0]], [text(4, 5, task="add")]], 32, CONFIG)
    assert batch.task_names == ("add", "copy", "see")
    assert batch.tasks[0, :11].tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0]
    assert batch.tasks[1, :2].tolist() == [0, 0]
    assert batch.modality_names == ("image", "text")
    assert batch.batch.attention_mask[0, :11].tolist() == [1] * 3 + [2] * 7 + [0]


def test_samples_longer_than_a_row_are_refused_with_their_number():
    sources = {"copies": Source([*copies(3), text(*range(20, 60))]), "pictures": pictures()}
    with pytest.raises(DataError, match="copies: 1 of 4 samples are longer than a row of 32"):
        Batches(sources, plan(), CONFIG)


def test_samples_longer_than_a_row_are_left_out_on_request_and_told(caplog):
    sources = {"copies": Source([*copies(3), text(*range(20, 60))]), "pictures": pictures()}
    batches = Batches(sources, plan(leave_out_long=True), CONFIG)
    assert "copies: 1 of 4 samples left out" in caplog.text
    for _ in range(8):
        assert 59 not in ids(batches.step_batches())[0][0]


def test_a_mixture_of_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match="songs"):
        Batches(SOURCES, plan(mixture={"songs": 1.0}), CONFIG)


def test_every_process_reads_its_share_of_a_step():
    whole = ids(Batches(SOURCES, plan(), CONFIG).step_batches())
    shares = [ids(Batches(SOURCES, plan(), CONFIG).step_batches(rank, 2)) for rank in (0, 1)]
    assert shares == [whole[0::2], whole[1::2]]


def test_validation_takes_the_same_samples_every_time_and_no_more_than_asked():
    few = plan(evaluate_tokens=16)
    first = list(validation_batches(SOURCES["pictures"], few, CONFIG))
    again = list(validation_batches(SOURCES["pictures"], few, CONFIG))
    assert ids(first) == ids(again)
    assert [int((batch.batch.attention_mask > 0).sum()) for batch in first] == [21]
