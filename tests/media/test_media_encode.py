import numpy as np
import pytest
from PIL import Image

from unimoe.config import VideoConfig
from unimoe.errors import MediaError
from unimoe.media import load_audio, load_image, load_video
from unimoe.media.encode import encode_audio, encode_image, encode_video

RATE_HZ = 16000


def tone(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return (0.5 * np.sin(np.arange(round(seconds * rate_hz)) / 5)).astype(np.float32)


def film(num_frames: int = 8) -> list[np.ndarray]:
    """A red square that goes right, 8 pixels a frame."""
    frames = np.full((num_frames, 48, 96, 3), 230, np.uint8)
    for index, frame in enumerate(frames):
        frame[16:32, 8 * index : 8 * index + 16] = (220, 30, 30)
    return list(frames)


def test_a_picture_reads_back_to_the_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)

    assert (load_image(encode_image(Image.fromarray(pixels))) == pixels).all()


def test_a_sound_reads_back_to_16_bits() -> None:
    samples = tone(0.7)

    heard = load_audio(encode_audio((samples, RATE_HZ)))

    assert len(heard.samples) == len(samples)
    assert np.abs(heard.samples - samples).max() < 1.6 / 32768


def test_a_sound_of_another_rate_keeps_its_length() -> None:
    assert load_audio(encode_audio((tone(1.5, 44100), 44100))).seconds == pytest.approx(1.5)


def test_a_film_keeps_times_colours_and_sound() -> None:
    film_bytes = encode_video(film(), 4, (tone(2.0), RATE_HZ))

    seen = load_video(film_bytes, VideoConfig(frame_rate_fps=4.0, min_frames=2), has_audio=False)

    assert seen.times_seconds.tolist() == [0.25 * i for i in range(8)]
    for index in range(8):
        middle = seen.frames[index, 24, 8 * index + 8].astype(int)
        assert np.abs(middle - (220, 30, 30)).max() < 8
    assert seen.sound is not None
    assert np.abs(seen.sound.samples[: 2 * RATE_HZ] - tone(2.0)).max() < 1.6 / 32768


def test_the_same_film_gives_the_same_bytes() -> None:
    assert encode_video(film(), 2.5) == encode_video(film(), 2.5)


def test_what_would_change_on_the_way_is_refused() -> None:
    with pytest.raises(MediaError, match="a picture of mode RGBA; need RGB or L"):
        encode_image(Image.new("RGBA", (4, 4)))
    with pytest.raises(MediaError, match=r"a peak of 2\.00; full scale is 1"):
        encode_audio((4 * tone(0.1), RATE_HZ))
    with pytest.raises(MediaError, match=r"95 x 48 pixels; H.264 needs even sides"):
        encode_video([frame[:, :95] for frame in film()], 4)
    with pytest.raises(MediaError, match="need one size"):
        encode_video([], 4)
