"""What is wrong with a sentence is found, and nothing in one that is fine."""

import numpy as np
import pytest

from unimoe.infer.speech_faults import (
    Faults,
    loop_length,
    max_seconds,
    sentence_faults,
    silence_seconds,
    without_silent_edges,
)

RATE_HZ = 8000
LIVELY = [place * place * 7 % 4093 for place in range(200)]


def noise(seconds: float, loudness: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, loudness, round(seconds * RATE_HZ))
    return samples.astype(np.float32)


def faults(codes: list[int], samples: np.ndarray, *, has_ended: bool = True) -> Faults:
    return sentence_faults(
        codes,
        samples,
        num_characters=75,
        pace=1.0,
        codes_per_second=40.0,
        sample_rate_hz=RATE_HZ,
        has_ended=has_ended,
    )


def test_a_good_sentence_has_none() -> None:
    assert faults(LIVELY, noise(5)) == Faults()
    assert str(Faults()) == ""


@pytest.mark.parametrize("passage", [[5], [1, 2, 3], LIVELY[:40]])
def test_a_passage_that_repeats_for_a_second_is_a_loop(passage: list[int]) -> None:
    looping = [*LIVELY[50:100], *(passage * 120)[:120]]
    length = loop_length(looping, 40.0)
    assert length == 120 - len(passage)
    assert faults(looping, noise(5)).loop_seconds == length / 40


def test_half_a_second_that_repeats_is_none() -> None:
    assert loop_length([*LIVELY, *([1, 2] * 10), *LIVELY[60:]], 40.0) == 0
    assert loop_length([], 40.0) == 0


def test_a_pause_is_speech_and_a_long_one_is_a_fault() -> None:
    pause, hole = np.zeros(RATE_HZ // 2, np.float32), np.zeros(RATE_HZ, np.float32)
    assert silence_seconds(np.concatenate([noise(1), pause, noise(1)]), RATE_HZ, 1.0) == 0
    found = silence_seconds(np.concatenate([noise(1), hole, noise(1)]), RATE_HZ, 1.0)
    assert found == pytest.approx(1.0)
    assert silence_seconds(np.concatenate([noise(1), hole, noise(1)]), RATE_HZ, 0.5) == 0


def test_without_any_sound_all_is_silence() -> None:
    assert silence_seconds(noise(0.5, 1e-6), RATE_HZ, 1.0) == pytest.approx(0.5)


def test_a_sentence_that_breaks_off_or_does_not_end_is_faulty() -> None:
    assert faults(LIVELY[:20], noise(0.5)).missing_seconds == pytest.approx(2.0)
    assert faults([], noise(0)).missing_seconds == max_seconds(75, 1.0)
    assert faults(LIVELY, noise(5), has_ended=False).excess_seconds == 5
    assert str(faults(LIVELY, noise(5), has_ended=False)) == "excess 5.0 s"


def test_twice_the_pace_has_less_time() -> None:
    assert max_seconds(60, 1.0) == 11.5
    assert max_seconds(60, 2.0) == 6.5


def test_silent_edges_go_but_for_a_margin() -> None:
    hole = np.zeros(RATE_HZ, np.float32)
    kept = without_silent_edges(np.concatenate([hole, noise(1), hole]), RATE_HZ, kept_seconds=0.1)
    assert len(kept) == pytest.approx(1.2 * RATE_HZ, abs=RATE_HZ * 0.02)
    assert len(without_silent_edges(hole, RATE_HZ, kept_seconds=0.1)) == len(hole)
