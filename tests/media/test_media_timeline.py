"""Frames are chosen by time; at a constant rate the choice is the released one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimoe.config import VideoConfig
from unimoe.media.timeline import (
    frame_bound,
    frame_file_stride,
    frames_on_screen,
    num_frames_to_take,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "sampler" / "video_frames.json"
CASES = json.loads(GOLDEN.read_text())


def constant_rate(num_frames: int, rate_fps: float) -> np.ndarray:
    return np.arange(num_frames) / rate_fps


@pytest.mark.parametrize(
    "case",
    [case for case in CASES["decord_cases"] if case["total_frames"] > 1],
    ids=lambda case: f"{case['total_frames']}-{case['fps']}-{case['bound']}",
)
def test_released_frames_are_chosen_at_a_constant_rate(case: dict[str, object]) -> None:
    total, rate_fps = case["total_frames"], case["fps"]
    config = VideoConfig(frame_rate_fps=float(case["video_fps"]), max_frames=case["bound"])
    times = constant_rate(total, rate_fps)
    # After a failed read the release leaves out four frames at the start and three at the end.
    first, last = (4, total - 4) if case["first_read_fails"] else (0, total - 1)

    num_taken = num_frames_to_take(total, total / rate_fps, config, has_audio=False)
    taken = first + frames_on_screen(times[first : last + 1], num_taken)

    assert taken.tolist() == case["indices"]
    # The release stores the step as float32.
    assert total / rate_fps / num_taken == pytest.approx(case["second_per_grid"], rel=1e-6)


@pytest.mark.parametrize("case", CASES["bound_with_audio"])
def test_sound_replaces_the_bound_on_frames(case: dict[str, object]) -> None:
    config = VideoConfig(max_frames=case["frames_upbound"])
    seconds = case["total_frames"] / case["fps"]

    num_taken = num_frames_to_take(
        case["total_frames"], seconds, config, has_audio=case["with_audio"]
    )

    assert num_taken == case["frames"]
    assert [seconds / num_taken] == pytest.approx(case["second_grid_ts"], rel=1e-6)


def test_sound_replaces_even_a_smaller_bound() -> None:
    assert frame_bound(VideoConfig(max_frames=8), has_audio=True) == 32


def test_the_only_frame_is_taken() -> None:
    assert num_frames_to_take(1, 0.04, VideoConfig(), has_audio=False) == 1
    assert frames_on_screen(np.array([0.5]), 1).tolist() == [0]


@pytest.mark.parametrize("num_files", [4, 5, 10, 1])
def test_stride_keeps_a_list_of_files_within_the_bound(num_files: int) -> None:
    stride = frame_file_stride(num_files, 4)

    assert len(range(0, num_files, stride)) <= 4


def test_a_frame_that_stays_is_seen_as_long_as_it_stays() -> None:
    slides = np.array([0.0, 1.0, 2.0, 30.0, 31.0])

    # Moments 0, 10.3, 20.7, 31 s.
    assert frames_on_screen(slides, 4).tolist() == [0, 2, 2, 4]


def test_choice_is_even_in_time_and_not_in_frames() -> None:
    # 100 frames in the first second, then one a second.
    times = np.concatenate([np.arange(100) / 100, np.arange(1.0, 10.0)])

    seen = times[frames_on_screen(times, 10)]

    np.testing.assert_allclose(seen, np.linspace(0, 9, 10), atol=0.01)


def test_a_millisecond_of_rounding_costs_no_frame() -> None:
    assert num_frames_to_take(300, 9.9995, VideoConfig(), has_audio=False) == 10


@given(
    num_frames=st.integers(2, 3000),
    rate_fps=st.sampled_from([0.5, 10.0, 23.976, 25.0, 29.97, 60.0]),
    bound=st.integers(2, 80),
    has_audio=st.booleans(),
)
def test_number_of_frames_is_even_and_within_all_bounds(
    num_frames: int, rate_fps: float, bound: int, has_audio: bool
) -> None:
    config = VideoConfig(max_frames=bound)

    taken = num_frames_to_take(num_frames, num_frames / rate_fps, config, has_audio=has_audio)

    assert taken % 2 == 0
    assert 2 <= taken <= min(num_frames, 32 if has_audio else bound)


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=200, unique=True).map(sorted),
    st.integers(1, 40),
)
def test_chosen_frames_start_with_the_first_end_with_the_last_and_never_go_back(
    milliseconds: list[int], num_taken: int
) -> None:
    taken = frames_on_screen(np.array(milliseconds) / 1000, 2 * num_taken)

    assert taken[0] == 0
    assert taken[-1] == len(milliseconds) - 1
    assert (np.diff(taken) >= 0).all()


@given(num_frames=st.integers(2, 2000), half=st.integers(1, 32), start=st.floats(-100, 100))
def test_at_a_constant_rate_the_nearest_frames_are_seen(
    num_frames: int, half: int, start: float
) -> None:
    num_taken = 2 * half
    nearest = np.round(np.linspace(0, num_frames - 1, num_taken)).astype(int)

    taken = frames_on_screen(start + constant_rate(num_frames, 25.0), num_taken)

    assert taken.tolist() == nearest.tolist()
