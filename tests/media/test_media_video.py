"""Frames by time and the right way up, with the sound on the same clock."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media.made_media import (
    LEVELS_PER_FRAME,
    encode_image,
    encode_video,
    tone,
)
from unimoe.config import VideoConfig, VisionConfig
from unimoe.errors import MediaError
from unimoe.media import Video, load_video, tile_video
from unimoe.media.frames import decode_frame_times
from unimoe.media.source import DEFAULT_LIMITS, SourceBytes

GOLDEN = Path(__file__).parents[1] / "golden" / "sampler" / "video_frames.json"
FILE_LISTS = json.loads(GOLDEN.read_text())["frame_file_lists"]

CONTAINERS = [
    ("mp4", "libx264"),
    ("mp4", "libx265"),
    ("mp4", "mpeg4"),
    ("mp4", "mjpeg"),
    ("webm", "libvpx"),
    ("webm", "libvpx-vp9"),
    ("matroska", "libx264"),
    ("matroska", "ffv1"),
    ("mov", "prores"),
    ("mov", "qtrle"),
    ("gif", "gif"),
]
QUIET = {"libx265": {"x265-params": "log-level=none"}}
# GIF's 8 colours a channel and VP8 at its default quality stray furthest.
LEVEL_TOLERANCE = 20


def watch(data: bytes, *, has_audio: bool = False, with_sound: bool = True, **config: int) -> Video:
    return load_video(data, VideoConfig(**config), has_audio=has_audio, with_sound=with_sound)


def frame_numbers(video: Video) -> list[int]:
    """Which frame of `encode_video` each one is, told by its grey, below frame 32."""
    grey = video.frames[:, -8:, -8:].mean((1, 2, 3))
    numbers = np.round(grey / LEVELS_PER_FRAME).astype(int)
    return numbers.tolist()


def vision() -> VisionConfig:
    return VisionConfig(
        hidden_size=8,
        num_layers=1,
        num_heads=1,
        ffn_width=8,
        image_side=32,
        patch_side=8,
        pool_side=2,
    )


# Kinds


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_every_kind_gives_the_frames_of_the_right_times(container: str, codec: str) -> None:
    data = encode_video(container, codec, num_frames=30, codec_options=QUIET.get(codec))

    video = watch(data)

    expected = [0, 4, 8, 12, 17, 21, 25, 29]
    assert video.frames.shape == (8, 48, 64, 3)
    np.testing.assert_allclose(video.times_seconds, np.array(expected) / 10, atol=1e-3)
    assert video.seconds_per_frame == pytest.approx(3 / 8, abs=1e-3)
    levels = video.frames[:, -8:, -8:].mean((1, 2, 3))
    np.testing.assert_allclose(levels, np.array(expected) * LEVELS_PER_FRAME, atol=LEVEL_TOLERANCE)


# Time


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("webm", "libvpx")]
)
def test_variable_rate_is_sampled_by_time_and_not_by_count(container: str, codec: str) -> None:
    # Ten frames in the first second, then one a second up to the tenth.
    ticks = [*range(10), *range(10, 100, 10)]
    data = encode_video(container, codec, num_frames=len(ticks), ticks=ticks)

    video = watch(data, max_frames=8)

    # Eight moments 1.29 s apart. By count the second frame taken would be number 3, at 0.3 s.
    assert video.times_seconds.tolist() == pytest.approx([0, 1, 2, 3, 5, 6, 7, 9])
    assert frame_numbers(video) == [0, 10, 11, 12, 14, 15, 16, 18]


def test_a_clock_that_starts_late_starts_at_zero() -> None:
    data = encode_video("matroska", num_frames=20, ticks=[50 + tick for tick in range(20)])

    video = watch(data)

    assert video.times_seconds[0] == 0
    assert video.times_seconds[-1] == pytest.approx(1.9)


def test_frame_counts_in_the_header_are_not_needed() -> None:
    data = encode_video("mp4", num_frames=20)
    fragmented = encode_video(
        "mp4", num_frames=20, container_options={"movflags": "frag_keyframe+empty_moov"}
    )

    np.testing.assert_allclose(watch(fragmented).times_seconds, watch(data).times_seconds)
    assert frame_numbers(watch(fragmented)) == frame_numbers(watch(data))


def test_wrong_frame_count_in_the_header_is_not_believed() -> None:
    data = bytearray(encode_video("mp4", num_frames=20))
    at = data.index(b"stts") + 12
    data[at : at + 4] = (2000).to_bytes(4)

    assert frame_numbers(watch(bytes(data))) == frame_numbers(watch(encode_video(num_frames=20)))


def test_where_packets_tell_wrong_times_the_decoder_tells_the_right_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode_video("mp4", num_frames=20)
    expected = watch(data)

    def wrong_times(source: SourceBytes, limits: object) -> object:
        times = decode_frame_times(source, DEFAULT_LIMITS)
        return times._replace(ticks=times.ticks + 1)

    monkeypatch.setattr("unimoe.media.video.measure_frame_times", wrong_times)

    assert np.array_equal(watch(data).frames, expected.frames)


def test_one_frame_is_a_video_of_one_frame() -> None:
    for container, codec in [("mp4", "libx264"), ("gif", "gif"), ("webm", "libvpx")]:
        video = watch(encode_video(container, codec, num_frames=1))

        assert len(video.frames) == 1
        assert video.times_seconds.tolist() == [0]
        assert video.seconds_per_frame > 0


def test_two_frames_are_both_taken() -> None:
    assert frame_numbers(watch(encode_video("mp4", num_frames=2))) == [0, 1]


def test_a_last_frame_that_stays_counts_in_full() -> None:
    frames = [Image.new("RGB", (8, 8), (40 * index, 0, 0)) for index in range(3)]
    data = encode_image(
        frames[0], "GIF", save_all=True, append_images=frames[1:], duration=[100, 100, 9800]
    )

    # Ten seconds over the two frames that an even number leaves of three.
    assert watch(data).seconds_per_frame == pytest.approx(5.0)


# Sound


def test_sound_track_comes_along_and_bounds_the_frames() -> None:
    data = encode_video("mp4", num_frames=400, sound=tone(1.0, 16_000))

    assert len(watch(data, with_sound=False).frames) == 40
    assert len(watch(data).frames) == 32
    assert watch(data, with_sound=False).sound is None
    assert watch(data).sound.seconds == pytest.approx(1.0, abs=0.1)


def test_other_audio_in_the_prompt_bounds_the_frames() -> None:
    data = encode_video("mp4", num_frames=400)

    assert watch(data).sound is None
    assert len(watch(data, has_audio=True).frames) == 32


@pytest.mark.parametrize("container", ["mp4", "matroska", "webm"])
def test_late_sound_stays_late(container: str) -> None:
    codec = "libvpx" if container == "webm" else "libx264"
    data = encode_video(
        container, codec, num_frames=20, sound=tone(1.0, 16_000), sound_delay_seconds=0.5
    )

    sound = watch(data).sound

    onset_seconds = np.flatnonzero(np.abs(sound.samples) > 0.1)[0] / sound.sample_rate_hz
    assert onset_seconds == pytest.approx(0.5, abs=0.01)


def test_late_pictures_stay_late() -> None:
    data = encode_video(
        "matroska",
        num_frames=20,
        ticks=[5 + tick for tick in range(20)],
        sound=tone(2.5, 16_000),
    )

    video = watch(data)

    assert video.times_seconds[0] == pytest.approx(0.5, abs=0.01)
    assert np.flatnonzero(np.abs(video.sound.samples) > 0.1)[0] < 320


# Files, one a frame


@pytest.mark.parametrize("case", FILE_LISTS)
def test_list_of_files_is_sampled_as_released(case: dict[str, object], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in case["file_numbers"]]
    for file in files:
        file.write_bytes(encode_image_of(int(file.stem)))

    video = load_video(files, VideoConfig(max_frames=case["frames_upbound"]), has_audio=False)

    assert len(video.frames) == case["frames"]
    assert [video.seconds_per_frame] == pytest.approx(case["second_grid_ts"])
    steps = [video.seconds_per_frame] * (case["frames"] - 1)
    assert np.diff(video.times_seconds).tolist() == pytest.approx(steps)


def encode_image_of(number: int, size: tuple[int, int] = (8, 8)) -> bytes:
    return encode_image(Image.new("RGB", size, (number, 0, 0)), "PNG")


def test_list_of_files_keeps_its_order(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in (2, 9, 10)]
    for file in files:
        file.write_bytes(encode_image_of(int(file.stem)))

    video = load_video(files, VideoConfig(), has_audio=False)

    assert video.frames[:, 0, 0, 0].tolist() == [2, 9, 10]


@pytest.mark.parametrize("names", [["a", "b"], ["2", "1"], ["1", "x", "3"]])
def test_files_without_ascending_numbers_are_refused(names: list[str], tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in names]
    for file in files:
        file.write_bytes(encode_image_of(0))

    with pytest.raises(MediaError, match="ascending whole numbers"):
        load_video(files, VideoConfig(), has_audio=False)


def test_files_of_different_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encode_image_of(0))
    (tmp_path / "2.png").write_bytes(encode_image_of(0, (9, 9)))

    with pytest.raises(MediaError, match="need one size"):
        load_video([tmp_path / "1.png", tmp_path / "2.png"], VideoConfig(), has_audio=False)


def test_files_of_more_pixels_than_memory_are_refused_at_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unimoe.media.frames._MAX_TAKEN_BYTES", 1_000)
    (tmp_path / "1.png").write_bytes(encode_image_of(0, (20, 10)))

    with pytest.raises(MediaError, match="2 frames of 20 x 10 take 1,200 bytes"):
        load_video([tmp_path / "1.png", tmp_path / "2.png"], VideoConfig(), has_audio=False)


def test_no_files_are_no_video() -> None:
    with pytest.raises(MediaError, match="empty"):
        load_video([], VideoConfig(), has_audio=False)


# Tiles


def test_tiles_go_frame_by_frame() -> None:
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, 32:] = 255
    frames[1] = 255
    video = Video(frames, np.arange(3.0), 1.5, None)

    tiles = tile_video(video, vision(), None)

    assert tiles.grid_thw == (3, 1, 2)
    assert tiles.seconds_per_grid == 1.5
    assert tiles.pixel_values[:, 0, 16, 16].tolist() == [-1, 1, 1, 1, -1, 1]


def test_frame_side_makes_every_frame_one_square() -> None:
    video = Video(np.full((2, 32, 64, 3), 255, np.uint8), np.arange(2.0), 1.0, None)

    tiles = tile_video(video, vision(), 32)

    assert tiles.grid_thw == (2, 1, 1)
    assert tiles.pixel_values.min() == 1
