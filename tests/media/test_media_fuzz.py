"""Real files, mutated: whatever comes of them is a value or a `MediaError`, within seconds."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.media.made_media import encode_image, encode_sound, encode_video, tone
from unimoe.config import MediaLimits, VideoConfig
from unimoe.errors import MediaError
from unimoe.media import load_audio, load_image, load_video

LIMITS = MediaLimits(max_pixels=1_000_000, max_seconds=60.0, max_frames=2_000)

Mutation = Callable[[bytes], bytes]

# Half of all places are in the header, where they do most.
places = st.one_of(st.integers(0, 200), st.integers(0, 10**6))
replacements = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"]),
)


def overwritten(place: int, replacement: bytes) -> Mutation:
    return lambda data: _spliced(data, place, len(replacement), replacement)


def inserted(place: int, replacement: bytes) -> Mutation:
    return lambda data: _spliced(data, place, 0, replacement)


def removed(place: int, length: int) -> Mutation:
    return lambda data: _spliced(data, place, length, b"")


def cut(place: int) -> Mutation:
    return lambda data: data[: place % len(data)] if data else data


def repeated(place: int, length: int) -> Mutation:
    def mutate(data: bytes) -> bytes:
        at = place % max(len(data), 1)
        return _spliced(data, at, 0, data[at : at + length])

    return mutate


def _spliced(data: bytes, place: int, length: int, replacement: bytes) -> bytes:
    at = place % max(len(data), 1)
    return data[:at] + replacement + data[at + length :]


mutations = st.lists(
    st.one_of(
        st.builds(overwritten, places, replacements),
        st.builds(inserted, places, replacements),
        st.builds(removed, places, st.integers(1, 60)),
        st.builds(repeated, places, st.integers(1, 100)),
        st.builds(cut, places),
    ),
    min_size=1,
    max_size=6,
)


def mutated(data: bytes, steps: list[Mutation]) -> bytes:
    for step in steps:
        data = step(data)
    return data


@cache
def image_file(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    mode = {"GIF": "P", "BMP": "RGB"}.get(kind, "RGB")
    options = {} if kind in ("GIF", "BMP") else {"exif": exif}
    return encode_image(Image.fromarray(noise).convert(mode), kind, **options)


@cache
def sound_file(container: str, codec: str) -> bytes:
    rate_hz = 48_000 if codec == "libopus" else 22_050
    return encode_sound(container, codec, tone(0.2, rate_hz), rate_hz)


@cache
def video_file(container: str, codec: str) -> bytes:
    has_sound = container not in ("gif", "mov")
    return encode_video(
        container,
        codec,
        num_frames=8,
        keyframe_every=4,
        sound=tone(0.2, 16_000) if has_sound else None,
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@settings(max_examples=40)
@given(steps=mutations)
def test_mutated_image_is_pixels_or_a_media_error(kind: str, steps: list[Mutation]) -> None:
    try:
        pixels = load_image(mutated(image_file(kind), steps), limits=LIMITS)
    except MediaError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("mp3", "libmp3lame"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("ipod", "aac"),
        ("adts", "aac"),
        ("webm", "libopus"),
    ],
)
@settings(max_examples=40)
@given(steps=mutations)
def test_mutated_sound_is_samples_or_a_media_error(
    container: str, codec: str, steps: list[Mutation]
) -> None:
    try:
        waveform = load_audio(mutated(sound_file(container, codec), steps), limits=LIMITS)
    except MediaError:
        return
    assert np.isfinite(waveform.samples).all()
    assert 0 < waveform.seconds <= LIMITS.max_seconds + 0.01


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "mpeg4"),
        ("webm", "libvpx"),
        ("webm", "libvpx-vp9"),
        ("matroska", "libx264"),
        ("gif", "gif"),
    ],
)
@settings(max_examples=30)
@given(steps=mutations)
def test_mutated_video_is_frames_or_a_media_error(
    container: str, codec: str, steps: list[Mutation]
) -> None:
    try:
        video = load_video(
            mutated(video_file(container, codec), steps),
            VideoConfig(),
            has_audio=False,
            limits=LIMITS,
        )
    except MediaError:
        return
    assert len(video.frames) == len(video.times_seconds)
    assert (np.diff(video.times_seconds) >= 0).all()
    assert 0 < video.seconds_per_frame < float("inf")


@pytest.mark.parametrize(
    "magic",
    [
        b"RIFF\xff\0\0\0WAVE",
        b"\x1aE\xdf\xa3",
        b"GIF89a",
        b"fLaC",
        b"OggS",
        b"\xff\xfb",
        b"\xff\xf1",
        b"ID3",
        b"\0\0\0\x18ftyp",
        b"\0\0\0\0mdat",
    ],
)
@settings(max_examples=20)
@given(rest=st.binary(max_size=300))
def test_noise_behind_a_magic_number_is_no_video(magic: bytes, rest: bytes) -> None:
    with pytest.raises(MediaError):
        load_video(magic + rest, VideoConfig(), has_audio=False, limits=LIMITS)
