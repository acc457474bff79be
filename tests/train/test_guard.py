import math

from unimoe.train.guard import Guard
from unimoe.train.plan import GuardPlan

PLAN = GuardPlan(spike_factor=3.0, window=4, patience=2, max_rollbacks=1)


def healthy() -> Guard:
    guard = Guard()
    for loss in (1.0, 1.2, 0.9, 1.1):
        assert guard.judge(loss, 1.0, PLAN).action == "apply"
    return guard


def test_a_step_without_a_number_is_skipped_then_rolled_back_then_given_up():
    guard = healthy()
    actions = [guard.judge(math.nan, 1.0, PLAN).action for _ in range(4)]
    assert actions == ["skip", "roll back", "skip", "give up"]


def test_a_gradient_without_a_number_counts_as_bad():
    verdict = healthy().judge(1.0, math.inf, PLAN)
    assert verdict == ("skip", "the gradient's norm is inf")


def test_a_spike_is_told_by_the_recent_median():
    verdict = healthy().judge(4.2, 1.0, PLAN)
    assert verdict == ("skip", "the loss is 4.200, 4.0 times its recent median")


def test_there_are_no_spikes_before_the_window_is_full():
    guard = Guard()
    assert guard.judge(1.0, 1.0, PLAN).action == "apply"
    assert guard.judge(50.0, 1.0, PLAN).action == "apply"


def test_one_good_step_ends_a_row_of_bad_ones():
    guard = healthy()
    assert guard.judge(math.nan, 1.0, PLAN).action == "skip"
    assert guard.judge(1.0, 1.0, PLAN).action == "apply"
    assert guard.judge(math.nan, 1.0, PLAN).action == "skip"


def test_a_restored_guard_goes_on_where_it_was():
    guard = healthy()
    guard.judge(math.nan, 1.0, PLAN)
    assert Guard.restored(guard.state()).judge(math.nan, 1.0, PLAN).action == "roll back"
