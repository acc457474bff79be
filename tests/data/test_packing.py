import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimoe.data.mixture import Draw, Mixture
from unimoe.data.packing import PackedRows, plan_rows
from unimoe.errors import DataError

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=30)


def realistic_lengths(kind: str) -> list[int]:
    """Tokens of 3000 samples: conversations about media, chat, or anything up to a row."""
    rng = np.random.default_rng(0)
    short, long = rng.integers(28, 45, 3000), rng.integers(110, 300, 3000)
    return {
        "media": np.where(rng.random(3000) < 0.7, short, long),
        "chat": np.clip(rng.lognormal(4.8, 0.8, 3000), 10, 512).astype(int),
        "even": rng.integers(1, 513, 3000),
    }[kind].tolist()


@given(LENGTHS)
def test_no_sample_is_lost_or_repeated_and_none_overflows(lengths: list[int]) -> None:
    rows = plan_rows(lengths, 64)

    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 64 for row in rows)


@given(LENGTHS)
def test_no_row_could_take_a_sample_of_a_later_one(lengths: list[int]) -> None:
    rows = plan_rows(lengths, 64)

    room = [64 - sum(lengths[number] for number in row) for row in rows]
    assert all(
        min(lengths[number] for later in rows[place + 1 :] for number in later) > room[place]
        for place in range(len(rows) - 1)
    )


@settings(max_examples=15)
@given(LENGTHS, st.integers(1, 12), st.integers(1, 60))
def test_endless_rows_take_every_draw_once_in_reach(
    lengths: list[int], num_waiting: int, num_rows: int
) -> None:
    rows = PackedRows(Mixture({"a": lengths}, {"a": 1}), 64, num_waiting)
    taken = [draw for row in islice(rows, num_rows) for draw in row]
    waiting = [Draw(*entry) for entry in rows.state_dict()["waiting"]]

    drawn = list(islice(Mixture({"a": lengths}, {"a": 1}), len(taken) + len(waiting)))

    assert sorted(taken + waiting) == sorted(drawn)


@settings(max_examples=15)
@given(LENGTHS, st.integers(0, 20))
def test_resumed_rows_equal_uninterrupted_ones(lengths: list[int], before: int) -> None:
    whole, first, second = (
        PackedRows(Mixture({"a": lengths}, {"a": 1}, seed=2), 64, 8) for _ in range(3)
    )
    expected = list(islice(whole, before + 20))[before:]

    list(islice(first, before))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))

    assert list(islice(second, 20)) == expected


@pytest.mark.parametrize(("kind", "least"), [("media", 0.99), ("chat", 0.99), ("even", 0.95)])
def test_rows_are_filled_to_95_percent_and_more(kind: str, least: float) -> None:
    rows = PackedRows(Mixture({kind: realistic_lengths(kind)}, {kind: 1}), 512)

    used = [sum(draw.length for draw in row) / 512 for row in islice(rows, 500)]

    assert np.mean(used) >= least


def test_nobody_waits_for_ever() -> None:
    rows = PackedRows(Mixture({"a": [40] * 99 + [33]}, {"a": 1}), 64, 16)

    assert any(draw.length == 33 for row in islice(rows, 120) for draw in row)


def test_a_sample_longer_than_a_row_is_refused() -> None:
    with pytest.raises(DataError, match="a: a sample of 65 tokens does not fit a row of 64"):
        PackedRows(Mixture({"a": [1, 65]}, {"a": 1}), 64)
    with pytest.raises(DataError, match="a sample of 65 tokens"):
        plan_rows([1, 65], 64)
