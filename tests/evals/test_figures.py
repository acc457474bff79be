"""Figures in the report and in JSON."""

import json
from math import isnan

import pytest

from unimoe.evals.figures import (
    Figure,
    Measured,
    excess_of,
    figure_json,
    figure_row,
    mean_of,
    read_figure,
    share_of,
)


def test_a_row_tells_value_interval_goal_and_others():
    figure = Figure(
        title="Voices",
        measured=Measured(0.8, 4, 0.7, 0.9),
        goal=0.75,
        instead={"others": 0.5},
    )
    assert figure_row(figure) == (
        "| Voices | 4 | 0.80 [0.70, 0.90] | ≥ 0.75: reached | others 0.50 |"
    )


def test_a_share_is_told_in_per_cent_and_may_have_no_interval():
    figure = Figure(title="Lost", measured=Measured(0.081, 4), unit="%", goal=0.06, is_at_most=True)
    assert figure_row(figure) == "| Lost | 4 | 8.1 % | ≤ 6.0 %: missed |  |"


def test_a_figure_comes_back_from_json():
    figure = Figure(title="Far", measured=Measured(3.25, 2), unit="dB", instead={"codec2": 9.0})
    written = json.loads(json.dumps(figure_json(figure)))
    assert written["measured"]["low"] is None
    read = read_figure(written)
    assert figure_row(read) == figure_row(figure)
    assert isnan(read.measured.low)


def test_excess_is_errors_beyond_those_of_others():
    found = excess_of([2, 1, 0], [1, 1, 0], [10, 5, 5])
    assert found.value == 0.05
    assert found.num_items == 3
    assert found.low <= 0.05 <= found.high
    assert excess_of([1], [1], [4])[:2] == (0.0, 1)


def test_mean_and_share_have_intervals():
    assert mean_of([2.0, 4.0]) == Measured(3.0, 2, 2.0, 4.0)
    share = share_of([True, False])
    assert share.value == 0.5
    assert (share.low, share.high) == pytest.approx((0.0945, 0.9055), abs=1e-3)
