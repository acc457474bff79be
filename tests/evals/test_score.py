"""Scores of records: shares, word errors, chance, pairs."""

import pytest

from unimoe.evals.records import ItemRecord, Records
from unimoe.evals.score import chance_of, paired, score_of, scores_by_trait


def item(correct=True, *, expected=("red",), errors=None, units=1, **more):
    errors = int(not correct) if errors is None else errors
    return ItemRecord(
        id="a",
        kind="k",
        prompt="?",
        expected=expected,
        got="",
        correct=correct,
        errors=errors,
        units=units,
        **more,
    )


def test_accuracy_is_the_share_of_right_answers():
    score = score_of(Records(items=(item(), item(), item(), item(False))), "exact")
    assert score.value == 0.75
    assert score.interval.low < 0.75 < score.interval.high
    assert score.num_items == 4


def test_word_errors_are_summed_before_they_are_divided():
    items = (item(errors=1, units=1), item(errors=0, units=9))
    assert score_of(Records(items=items), "wer").value == pytest.approx(0.1)


def test_chance_is_the_best_single_answer():
    expected = [("3", "three"), ("Three.",), ("four",), ("3", "four")]
    assert chance_of([item(expected=answers) for answers in expected], "exact") == 0.75


def test_scores_by_trait_part_the_items():
    items = (item(traits={"voice": "a"}), item(False, traits={"voice": "b"}), item())
    scores = scores_by_trait(Records(items=items), "exact", "voice")
    assert {name: (score.value, score.num_items) for name, score in scores.items()} == {
        "a": (1.0, 1),
        "b": (0.0, 1),
    }


def test_pairs_compare_the_same_questions_only():
    typed = [item(bool(correct), traits={"q": str(n)}) for n, correct in enumerate([1, 1, 0, 1])]
    spoken = [item(bool(correct), traits={"q": str(n)}) for n, correct in enumerate([1, 0, 0])]
    score = paired(spoken, typed, trait="q")
    assert (score.ratio, score.num_pairs) == (0.5, 3)


def test_experts_are_averaged_where_they_are_known():
    items = (item(experts_per_token=1.0), item(experts_per_token=2.0), item())
    assert score_of(Records(items=items), "exact").experts_per_token == 1.5
    assert score_of(Records(items=(item(),)), "exact").experts_per_token is None
