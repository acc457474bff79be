"""Every kind of sound becomes one channel at 16 kHz, and clips of log-mel as released."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.media.made_media import encode_sound, encode_video, tone, wav
from unimoe.config import AudioConfig, MediaLimits
from unimoe.errors import MediaError
from unimoe.media import Waveform, load_audio, log_mel_clips

GOLDEN = Path(__file__).parents[1] / "golden" / "sampler"
RATE_HZ = 16_000


def stereo_tone(seconds: float, rate_hz: int) -> np.ndarray:
    """Left at half, right at a quarter of full scale."""
    left = tone(seconds, rate_hz)
    return np.stack([left, left / 2], axis=1)


def whisper(**changes: int) -> AudioConfig:
    settings = {
        "hidden_size": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_heads": 1,
        "ffn_width": 8,
        "num_mel_bins": 128,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "vocab_size": 10,
        "max_clips": 4,
    }
    return AudioConfig(**(settings | changes))


# Kinds


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz", "tolerance"),
    [
        ("wav", "pcm_s16le", 44100, 1e-4),
        ("wav", "pcm_u8", 8000, 0.02),
        ("wav", "pcm_s24le", 96000, 1e-4),
        ("wav", "pcm_f32le", 22050, 1e-4),
        ("flac", "flac", 48000, 1e-4),
        ("mp3", "libmp3lame", 44100, 0.05),
        ("ogg", "flac", 16000, 1e-4),
        ("ogg", "libopus", 48000, 0.05),
        ("ipod", "aac", 44100, 0.05),
        ("mp4", "alac", 44100, 1e-4),
        ("webm", "libopus", 48000, 0.05),
        ("matroska", "pcm_s16le", 11025, 1e-4),
    ],
)
def test_stereo_of_any_kind_and_rate_becomes_mono_at_16_khz(
    container: str, codec: str, rate_hz: int, tolerance: float
) -> None:
    heard = load_audio(encode_sound(container, codec, stereo_tone(1.0, rate_hz), rate_hz))

    assert heard.sample_rate_hz == RATE_HZ
    assert heard.seconds == pytest.approx(1.0, abs=0.05)
    # Both ends ring in a resampled tone that starts at once.
    inner = slice(1600, 14400)
    np.testing.assert_allclose(
        heard.samples[inner], 0.75 * tone(1.0, RATE_HZ)[inner], atol=tolerance
    )


@pytest.mark.parametrize(("container", "codec"), [("ipod", "aac"), ("flac", "flac")])
@pytest.mark.parametrize("num_channels", [6, 8])
def test_surround_sound_is_averaged_over_all_its_channels(
    container: str, codec: str, num_channels: int
) -> None:
    # 7.1 in separate planes is where PyAV's own conversion reads out of bounds.
    channels = np.stack([tone(0.5, 48_000)] + [np.zeros(24_000)] * (num_channels - 1), axis=1)

    heard = load_audio(encode_sound(container, codec, channels, 48_000))

    inner = slice(1600, 6400)
    np.testing.assert_allclose(
        heard.samples[inner] * num_channels, tone(0.5, RATE_HZ)[inner], atol=0.06
    )


def test_wav_of_many_channels_is_averaged() -> None:
    samples = np.tile(tone(0.2, RATE_HZ)[:, None], (1, 16))

    np.testing.assert_allclose(load_audio(wav(samples, RATE_HZ)).samples, samples[:, 0], atol=1e-6)


def test_raw_aac_is_heard_a_frame_later_since_it_cannot_say_its_delay() -> None:
    heard = load_audio(encode_sound("adts", "aac", tone(1.0, RATE_HZ), RATE_HZ))

    np.testing.assert_allclose(
        heard.samples[1024 + 1600 :][:8000], tone(1.0, RATE_HZ)[1600:][:8000], atol=0.05
    )


def test_sound_track_of_a_video_is_heard() -> None:
    video = encode_video("mp4", "libx264", sound=tone(1.0, RATE_HZ))

    heard = load_audio(video)

    np.testing.assert_allclose(heard.samples[1600:14400], tone(1.0, RATE_HZ)[1600:14400], atol=0.05)


def test_tags_before_the_stream_are_skipped() -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + bytes(256)
    mp3 = encode_sound("mp3", "libmp3lame", tone(0.5, RATE_HZ), RATE_HZ)

    assert np.array_equal(load_audio(tag + tag + mp3).samples, load_audio(mp3).samples)


# Arrays


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]),
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        (np.array([[1, 0], [0, 0], [0.5, 0.5]], np.float32), [0.5, 0, 0.5]),
    ],
)
def test_array_samples_are_scaled_by_their_type_and_channels_averaged(
    samples: np.ndarray, expected: list[float]
) -> None:
    assert load_audio((samples, RATE_HZ)).samples.tolist() == expected


def test_wav_and_array_of_the_same_samples_sound_the_same() -> None:
    samples = (stereo_tone(0.3, 44100) * 32767).astype(np.int16)

    from_file, from_array = load_audio(wav(samples, 44100)), load_audio((samples, 44100))

    # FFmpeg hands the file over in blocks; soxr's filter does not see their borders.
    np.testing.assert_allclose(from_file.samples, from_array.samples, atol=1e-7)


@given(
    num_samples=st.integers(50, 5000), rate_hz=st.sampled_from([8000, 11025, 16000, 44100, 192000])
)
def test_resampling_keeps_the_length_in_seconds(num_samples: int, rate_hz: int) -> None:
    heard = load_audio((np.zeros(num_samples, np.float32), rate_hz))

    assert abs(heard.seconds - num_samples / rate_hz) <= 1 / RATE_HZ


def test_resampling_equals_the_released_one() -> None:
    golden = load_file(GOLDEN / "resample.safetensors")
    rate_hz = json.loads((GOLDEN / "resample.json").read_text())["sample_rate"]

    heard = load_audio((golden["stereo"], rate_hz))

    np.testing.assert_allclose(heard.samples, golden["expected.mono_16k"], atol=1e-4)


# Refusals


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 1e300])
@pytest.mark.parametrize("as_file", [False, True])
def test_samples_that_are_no_sound_are_refused(value: float, as_file: bool) -> None:
    samples = np.zeros(100)
    samples[50] = value

    with pytest.raises(MediaError, match="need finite values, full scale at -1 and 1"):
        load_audio(wav(samples, RATE_HZ) if as_file else (samples, RATE_HZ))


@pytest.mark.parametrize(
    "source",
    [
        wav(np.zeros(0, np.int16), RATE_HZ),
        (np.zeros(0, np.float32), RATE_HZ),
        (np.zeros((0, 2), np.float32), RATE_HZ),
        (np.zeros(10, np.float32), 768_000),
    ],
)
def test_sound_of_no_length_is_refused(source: object) -> None:
    with pytest.raises(MediaError, match="0 samples of sound"):
        load_audio(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("claimed_bytes", [2**32 - 1, 2**31, 500])
def test_wav_that_promises_more_than_it_holds_is_refused(claimed_bytes: int) -> None:
    data = wav(np.zeros(100, np.int16), RATE_HZ, claimed_bytes=claimed_bytes)

    with pytest.raises(MediaError, match=rf"promises {claimed_bytes + 44:,} bytes and 244 are"):
        load_audio(data)


def test_header_that_claims_too_many_seconds_is_refused() -> None:
    with pytest.raises(MediaError, match=r"2 seconds; max_seconds allows 1\. Cut it, or raise"):
        load_audio(wav(np.zeros(16_000, np.int16), 8_000), limits=MediaLimits(max_seconds=1.0))


def test_decoding_stops_at_the_limit_where_no_header_claims_a_length() -> None:
    data = encode_sound("adts", "aac", tone(2.0, RATE_HZ), RATE_HZ)

    with pytest.raises(MediaError, match=r"1\.02 seconds; max_seconds allows 1"):
        load_audio(data, limits=MediaLimits(max_seconds=1.0))


@pytest.mark.parametrize("rate", [22_050.5, float("nan"), float("inf"), np.zeros(2)])
def test_a_rate_that_is_no_whole_number_is_refused(rate: float) -> None:
    with pytest.raises(MediaError, match="need a whole number of Hz"):
        load_audio((tone(0.1, 16_000), rate))


def test_array_beyond_the_seconds_limit_is_refused() -> None:
    with pytest.raises(MediaError, match="max_seconds"):
        load_audio((np.zeros(20_000), RATE_HZ), limits=MediaLimits(max_seconds=1.0))


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 768_001, 2**31 - 1, -8000])
def test_impossible_rates_are_refused(rate_hz: int) -> None:
    with pytest.raises(MediaError, match=f"{rate_hz} Hz; need 1000 to 768000 Hz"):
        load_audio((np.zeros(10), rate_hz))


@pytest.mark.parametrize(
    "samples",
    [np.zeros((2, 16_000)), np.zeros((4, 4, 4)), np.zeros(4, complex), np.zeros(4, np.int64)],
)
def test_arrays_of_doubtful_meaning_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(MediaError, match="Transpose or convert"):
        load_audio((samples, RATE_HZ))


def test_cut_off_flac_is_refused() -> None:
    data = encode_sound("flac", "flac", tone(2.0, RATE_HZ), RATE_HZ)

    with pytest.raises(MediaError, match="damaged"):
        load_audio(data[: len(data) // 2])
    # Between two frames, where no decoder notices.
    with pytest.raises(MediaError, match=r"cut off; its header promises 2\.00 s"):
        load_audio(data[: data.rfind(b"\xff\xf8", 0, len(data) // 2)])


def test_video_without_sound_is_refused_as_audio() -> None:
    with pytest.raises(MediaError, match="holds no sound"):
        load_audio(encode_video("mp4", "libx264", num_frames=2))


# Log-mel


def test_log_mel_equals_the_released_one() -> None:
    golden = load_file(GOLDEN / "log_mel.safetensors")

    clips = log_mel_clips(Waveform(golden["waveform"], RATE_HZ), whisper())

    assert clips.num_clips == 1
    assert clips.features.shape == (1, 128, 3000)
    assert clips.features.dtype == np.float32
    # Tolerance of the fixture's README: the two paths of the library differ by 5.7e-5.
    expected = golden["expected.features_first_400_frames"]
    np.testing.assert_allclose(clips.features[0, :, :400], expected, atol=2e-4)
    np.testing.assert_allclose(
        clips.features[0, :, 400:], golden["expected.remaining_value"], atol=2e-4
    )


@pytest.mark.parametrize("case", json.loads((GOLDEN / "audio_chunks.json").read_text())["cases"])
def test_clips_are_cut_as_released_and_too_many_are_refused(case: dict[str, object]) -> None:
    max_clips = case["whisper_audio_time"]
    # A thousandth of the release's sizes cuts alike: 480 samples, three frames a clip.
    config = whisper(num_mel_bins=8, max_source_positions=2, max_clips=max_clips)
    clip_samples = config.frames_per_clip * 160
    counts = [-(-count * clip_samples // 480_000) for count in case["sample_counts"]]

    for count, num_clips in zip(counts, case["audio_grid"], strict=True):
        waveform = Waveform(np.zeros(count, np.float32), RATE_HZ)
        if count > max_clips * clip_samples:
            with pytest.raises(MediaError, match=f"this model takes 1 to {max_clips}"):
                log_mel_clips(waveform, config)
        else:
            assert log_mel_clips(waveform, config).num_clips == num_clips


def test_a_clip_is_the_same_alone_and_among_others() -> None:
    config = whisper(num_mel_bins=80, max_source_positions=50)
    samples = np.concatenate([tone(1.0, RATE_HZ), tone(0.5, RATE_HZ, 1000.0)])

    both = log_mel_clips(Waveform(samples, RATE_HZ), config)
    second = log_mel_clips(Waveform(samples[RATE_HZ:], RATE_HZ), config)

    assert both.features.shape == (2, 80, 100)
    assert np.array_equal(both.features[1:], second.features)
