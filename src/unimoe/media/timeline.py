"""Which frames of a video are looked at: a choice made in seconds, before anything is decoded.

In:  when each frame comes on, float64 [frames], in seconds.  Out: indices into it, int64 [taken].
For a constant frame rate the choice is that of the release; for a variable one it stays even in
time, where counting frames would not.
Source: released sampler (docs/sources.md#video-frames).

    frames come on at   0.0   0.1   0.2   0.3        5.0   5.1 s      take 4
    looked at           0.0         1.7         3.4        5.1 s
    on screen then      0.0         0.3         0.3        5.1 s
"""

from math import ceil

import numpy as np
from jaxtyping import Float64, Int64

from unimoe.config import VideoConfig

# Matroska rounds times to milliseconds: 10 s of video may measure 9.9997 s.
_CLOCK_GRAIN_SECONDS = 1e-3


def frame_bound(config: VideoConfig, *, has_audio: bool) -> int:
    """Most frames a video may contribute; with sound the one bound replaces the other."""
    return config.max_frames_with_audio if has_audio else config.max_frames


def num_frames_to_take(
    num_frames: int, seconds: float, config: VideoConfig, *, has_audio: bool
) -> int:
    """How many of `num_frames` lasting `seconds` are taken: an even number, or the only one.

    >>> num_frames_to_take(900, 30.0, VideoConfig(), has_audio=False)
    30
    >>> num_frames_to_take(3000, 100.0, VideoConfig(), has_audio=True)
    32
    """
    if num_frames == 1:
        return 1
    wanted = (seconds + _CLOCK_GRAIN_SECONDS) * config.frame_rate_fps
    bound = min(frame_bound(config, has_audio=has_audio), num_frames)
    taken = int(min(max(wanted, config.min_frames), bound))
    return max(taken - taken % 2, 2)


def frames_on_screen(
    times_seconds: Float64[np.ndarray, "frames"], num_taken: int
) -> Int64[np.ndarray, "taken"]:
    """Frames on screen at `num_taken` moments spread evenly from the first frame to the last.

    Times ascend. A frame takes over half a typical frame before it comes on, or midway from its
    predecessor where that is closer: at a constant rate the nearest frame is on screen, and an even
    `num_taken` never meets a tie there.
    """
    moments = np.linspace(times_seconds[0], times_seconds[-1], num_taken)
    if len(times_seconds) == 1:
        return np.zeros(num_taken, np.int64)
    gaps = np.diff(times_seconds)
    take_overs = times_seconds[1:] - np.minimum(gaps, np.median(gaps)) / 2
    return np.searchsorted(take_overs, moments, side="right")


def frame_file_stride(num_files: int, bound: int) -> int:
    """Every how-many-th of a list of frame files is taken.

    >>> frame_file_stride(10, 4)
    3
    """
    return ceil(num_files / bound)
