"""Video: bytes to a few upright frames with their times and its sound, and frames to tiles.

In:  MP4, WebM, MKV, MOV, GIF; or a list of image files, one a frame.
Out: `Video` - uint8 [frames, height, width, 3], seconds, `Waveform`; then `VideoTiles`.
Times are those of the file, from its first frame or sample on, whichever is earlier.
Source: released video preprocessing (docs/sources.md#video).
Axes: frames = taken ones, in order of time; tiles = frames x tile rows x tile columns; side = of a
tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from unimoe.config import MediaLimits, VideoConfig, VisionConfig
from unimoe.errors import MediaError
from unimoe.media.audio import SoundTrack, Waveform, load_sound_track
from unimoe.media.frames import decode_frame_times, decode_frames, measure_frame_times, require_room
from unimoe.media.image import load_image, tile_image
from unimoe.media.source import DEFAULT_LIMITS, MediaSource, read_source, require_within
from unimoe.media.timeline import (
    frame_bound,
    frame_file_stride,
    frames_on_screen,
    num_frames_to_take,
)

VideoSource: TypeAlias = MediaSource | list[str] | list[Path]


@dataclass(frozen=True, slots=True)
class Video:
    """The frames looked at, and the sound."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    times_seconds: Float64[np.ndarray, "frames"]
    """When each frame comes on, on the clock of `sound`."""
    seconds_per_frame: float
    """Length of the video over the frames taken."""
    sound: Waveform | None


class VideoTiles(NamedTuple):
    """One video, ready for the vision tower."""

    pixel_values: Float32[np.ndarray, "tiles 3 side side"]
    grid_thw: tuple[int, int, int]
    """Frames, tile rows, tile columns."""
    seconds_per_grid: float


def load_video(
    source: VideoSource,
    config: VideoConfig,
    *,
    has_audio: bool,
    with_sound: bool = True,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Video:
    """Frames at `config.frame_rate_fps` within its bounds, and the sound track.

    A list of image files is a video as the release reads it: the numbers in the names of the files
    taken tell its frame rate, which is their mean step.

    Args:
        source: a container, or image files named by whole numbers.
        config: how many frames.
        has_audio: the prompt holds audio besides; a sound track that is used counts without it.
        with_sound: read the sound track too, where there is one.
        limits: what is refused before it is decoded.

    Raises:
        MediaError: no video, damaged, cut off, or beyond a limit.
    """
    if isinstance(source, list):
        return _video_of_files([Path(path) for path in source], config, has_audio, limits)
    raw = read_source(source, limits=limits)
    track = load_sound_track(raw, limits) if with_sound else None
    # Packets tell the times quickly; where they tell them wrong, the decoder tells them right.
    for measure in (measure_frame_times, decode_frame_times):
        times = measure(raw, limits)
        num_taken = num_frames_to_take(
            len(times.ticks),
            times.total_seconds,
            config,
            has_audio=has_audio or track is not None,
        )
        taken = frames_on_screen(times.seconds, num_taken)
        frames = decode_frames(raw, times, taken, limits)
        if frames is not None:
            seconds_per_frame = times.total_seconds / num_taken or 1 / config.frame_rate_fps
            video = Video(frames, times.seconds[taken], seconds_per_frame, None)
            return _synchronised(video, track, raw.name, limits)
    raise MediaError(f"{raw.name}: frames cannot be found again by their times. Export it again")


def tile_video(video: Video, config: VisionConfig, frame_side: int | None) -> VideoTiles:
    """Tiles of all frames, frame after frame, each cut as an image of that size is.

    Args:
        video: what `load_video` gives.
        config: tile side, grids and normalisation.
        frame_side: frames are first resized to this square, whatever their shape; None: not.
    """
    tiles = [tile_image(_squared(frame, frame_side), config) for frame in video.frames]
    _, rows, columns = tiles[0].grid_thw
    return VideoTiles(
        np.concatenate([tile.pixel_values for tile in tiles]),
        (len(tiles), rows, columns),
        video.seconds_per_frame,
    )


def _squared(
    frame: UInt8[np.ndarray, "height width 3"], side: int | None
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    if side is None:
        return frame
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))


def _synchronised(video: Video, track: SoundTrack | None, name: str, limits: MediaLimits) -> Video:
    """Both on one clock that starts with the earlier of the two; late sound gets silence before."""
    first_seconds = float(video.times_seconds[0])
    if track is None:
        return replace(video, times_seconds=video.times_seconds - first_seconds)
    start_seconds = min(first_seconds, track.start_seconds)
    lead_seconds = track.start_seconds - start_seconds
    sound = track.waveform
    require_within(name, lead_seconds + sound.seconds, "seconds", "max_seconds", limits)
    silence = np.zeros(round(lead_seconds * sound.sample_rate_hz), np.float32)
    return replace(
        video,
        times_seconds=video.times_seconds - start_seconds,
        sound=replace(sound, samples=np.concatenate([silence, sound.samples])),
    )


def _video_of_files(
    files: Sequence[Path], config: VideoConfig, has_audio: bool, limits: MediaLimits
) -> Video:
    if not files:
        raise MediaError("list of frames: empty. Give at least one image file")
    taken = files[:: frame_file_stride(len(files), frame_bound(config, has_audio=has_audio))]
    frames: list[UInt8[np.ndarray, "height width 3"]] = []
    for file in taken:
        frames.append(load_image(file, limits=limits))
        size, first_size = frames[-1].shape[1::-1], frames[0].shape[1::-1]
        require_room("list of frames", len(taken), first_size)
        if size != first_size:
            raise MediaError(
                f"list of frames: images of {first_size} and of {size} pixels; need one size. "
                f"Resize them"
            )
    seconds_per_frame = _file_seconds(taken)
    times_seconds = np.arange(len(taken)) * seconds_per_frame
    return Video(np.stack(frames), times_seconds, seconds_per_frame, None)


def _file_seconds(files: Sequence[Path]) -> float:
    """Seconds a file stands for: one over the mean step of the numbers in the names."""
    if len(files) == 1:
        return 1.0
    names = [file.stem for file in files]
    if not all(name.isdecimal() for name in names) or int(names[-1]) <= int(names[0]):
        raise MediaError(
            f"list of frames: files {names[0][:40]!r} to {names[-1][:40]!r}; need names that are "
            f"ascending whole numbers, as in 0.jpg, 2.jpg. Rename them"
        )
    return (len(files) - 1) / (int(names[-1]) - int(names[0]))
