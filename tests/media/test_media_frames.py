"""The chosen frames, and only these, come out of a stream, and the right way up."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.media.made_media import encode_image, encode_video, frame_pixels
from unimoe.config import VideoConfig
from unimoe.errors import MediaError
from unimoe.media import Video, load_video
from unimoe.media.frames import (
    FrameTimes,
    _needed_packets,
    decode_frame_times,
    decode_frames,
    measure_frame_times,
)
from unimoe.media.source import DEFAULT_LIMITS, SourceBytes


def watch(data: bytes) -> Video:
    return load_video(data, VideoConfig(), has_audio=False)


# Which packets are decoded


@pytest.mark.parametrize(
    ("ticks", "keys", "wanted", "needed"),
    [
        ("0123456789", "K...K...K.", {1}, "11........"),
        ("0123456789", "K...K...K.", {1, 9}, "11......11"),
        ("0123456789", "K...K...K.", {5, 6}, "....111..."),
        # Frame 3 comes after the key frame 4 in the file and before it in time.
        ("0124356789", "K..K....K.", {3}, "11111....."),
        ("0124356789", "K..K....K.", {5}, "...111...."),
        ("0123456789", "..........", {4}, "11111....."),
    ],
)
def test_only_groups_of_pictures_with_a_wanted_frame_are_decoded(
    ticks: str, keys: str, wanted: set[int], needed: str
) -> None:
    times = FrameTimes(
        np.arange(10),
        np.arange(10.0),
        10.0,
        np.array([int(tick) for tick in ticks]),
        np.array([key == "K" for key in keys]),
    )

    marks = ["1" if mark else "." for mark in _needed_packets(times, wanted)]

    assert "".join(marks) == needed


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
@pytest.mark.parametrize("keyframe_every", [1, 5, 12, 1000])
def test_skipping_groups_of_pictures_changes_no_pixel(codec: str, keyframe_every: int) -> None:
    options = {
        "libx264": {"x264-params": "open-gop=1:bframes=3"},
        "libx265": {"x265-params": "open-gop=1:bframes=3:log-level=none"},
    }
    data = encode_video(
        "matroska",
        codec,
        num_frames=60,
        keyframe_every=keyframe_every,
        codec_options=options.get(codec),
    )
    source = SourceBytes(data, "made")
    by_packets = measure_frame_times(source, DEFAULT_LIMITS)
    by_decoding = decode_frame_times(source, DEFAULT_LIMITS)

    assert np.array_equal(by_packets.ticks, by_decoding.ticks)
    for taken in (np.array([0, 59]), np.array([13, 14, 37]), np.array([29, 30, 31, 58])):
        skipping = decode_frames(source, by_packets, taken, DEFAULT_LIMITS)
        whole = decode_frames(source, by_decoding, taken, DEFAULT_LIMITS)
        assert np.array_equal(skipping, whole)


# Pixels


def test_colours_survive() -> None:
    data = encode_video("mp4", "libx264", num_frames=2, codec_options={"crf": "1"})

    seen, sent = watch(data).frames[0].astype(int), frame_pixels(0, 64, 48)
    # Away from the edges of the mark, where halved chroma mixes.
    np.testing.assert_allclose(seen[:14, :18], sent[:14, :18], atol=4)
    np.testing.assert_allclose(seen[20:, 24:], sent[20:, 24:], atol=4)


def test_transparent_gif_lies_on_white() -> None:
    frames = [Image.new("RGBA", (8, 8), (0, 0, 0, 0)) for _ in range(2)]
    for frame in frames:
        frame.putpixel((0, 0), (255, 0, 0, 255))
    frames[1].putpixel((1, 1), (255, 0, 0, 255))
    data = encode_image(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)

    video = watch(data)

    assert video.frames[0, 0, 0].tolist() == [255, 0, 0]
    assert video.frames[0, 4, 4].tolist() == [255, 255, 255]


# Orientation


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize(
    ("degrees", "mirrored", "mark"),
    [
        (0, False, "top left"),
        (90, False, "bottom left"),
        (180, False, "bottom right"),
        (-90, False, "top right"),
        (0, True, "top right"),
        (180, True, "bottom left"),
        (90, True, "bottom right"),
        (-90, True, "top left"),
    ],
)
def test_display_matrix_is_obeyed(container: str, degrees: int, mirrored: bool, mark: str) -> None:
    data = encode_video(container, num_frames=2, degrees=degrees, mirrored=mirrored)

    green = watch(data).frames[0, :, :, 1]

    assert green.shape == ((48, 64) if degrees in (0, 180) else (64, 48))
    vertical, horizontal = mark.split()
    row, column = -2 if vertical == "bottom" else 1, -2 if horizontal == "right" else 1
    assert green[row, column] > 200
    assert sorted(corner > 200 for corner in green[[1, 1, -2, -2], [1, -2, 1, -2]]) == [
        False,
        False,
        False,
        True,
    ]


def test_a_slanted_display_matrix_is_refused() -> None:
    with pytest.raises(MediaError, match="only quarter turns and mirrors"):
        watch(encode_video("mp4", num_frames=2, degrees=45))


def test_frames_of_changing_size_are_refused() -> None:
    # Two fragments of one raw stream, joined: VP8 may change size at a key frame.
    small = encode_video("webm", "libvpx", num_frames=5)
    large = encode_video("webm", "libvpx", num_frames=5, size=(96, 80))

    target = io.BytesIO()
    with av.open(target, "w", format="webm") as muxer:
        stream = None
        for part, data in enumerate((small, large)):
            with av.open(io.BytesIO(data)) as demuxer:
                stream = stream or muxer.add_stream_from_template(demuxer.streams.video[0])
                for packet in demuxer.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        packet.pts = packet.dts = packet.pts + 500 * part
                        packet.time_base = Fraction(1, 1000)
                        muxer.mux(packet)

    with pytest.raises(MediaError, match=r"frames of \(64, 48\) and of \(96, 80\) pixels"):
        watch(target.getvalue())


def test_more_pixels_than_memory_are_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unimoe.media.frames._MAX_TAKEN_BYTES", 50_000)

    with pytest.raises(MediaError, match="8 frames of 64 x 48 take 73,728 bytes"):
        watch(encode_video("mp4"))
