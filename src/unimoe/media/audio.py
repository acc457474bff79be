"""Sound: bytes or samples to one channel at one rate, and these to log-mel clips.

In:  WAV, MP3, FLAC, OGG, Opus, M4A, AAC, WebM, the sound track of a video; an array and its rate.
Out: `Waveform` float32 [samples]; then `AudioClips` float32 [clips, mel, frames].
Source: released preprocessing - mean of the channels, soxr HQ, Whisper log-mel
(docs/sources.md#audio).
Axes: samples = at the waveform's rate; clips = of frames_per_clip mel frames, the last padded with
silence; mel = bins; frames = one per 10 ms.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import Any, NamedTuple, SupportsFloat, TypeAlias, cast

import numpy as np
import soxr
from av.audio.frame import AudioFrame, format_dtypes
from av.audio.plane import AudioPlane
from av.audio.stream import AudioStream
from av.container import InputContainer
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from unimoe.config import AUDIO_RATE_HZ, AudioConfig, MediaLimits
from unimoe.errors import MediaError
from unimoe.media.container import open_container, prepare_decoder
from unimoe.media.source import (
    DEFAULT_LIMITS,
    MediaSource,
    SourceBytes,
    read_source,
    require_within,
)

AudioSource: TypeAlias = MediaSource | tuple[ArrayLike, SupportsFloat]

MEL_HOP_SAMPLES = 160

_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000
_MAX_CHANNELS = 64
_MAX_PEAK = 100.0  # 40 dB over full scale: beyond it samples were integers, or noise
_GAP_SECONDS = 0.1  # containers round times to milliseconds; a longer pause is real


@dataclass(frozen=True, slots=True)
class Waveform:
    """One channel of sound, full scale at -1 and 1."""

    samples: Float32[np.ndarray, "samples"]
    sample_rate_hz: int

    @property
    def seconds(self) -> float:
        """Length in time."""
        return len(self.samples) / self.sample_rate_hz


class SoundTrack(NamedTuple):
    """Sound of a container, on the clock of that container."""

    waveform: Waveform
    start_seconds: float
    """When its first sample sounds."""


class AudioClips(NamedTuple):
    """One audio, ready for the audio encoder."""

    features: Float32[np.ndarray, "clips mel frames"]
    num_clips: int


def load_audio(
    source: AudioSource,
    *,
    sample_rate_hz: int = AUDIO_RATE_HZ,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Waveform:
    """One channel at a rate.

    Args:
        source: a file or its bytes; or an array of samples, or what numpy makes one of, with its
            rate in Hz. Integers are scaled by their type's range; several channels are
            [samples, channels].
        sample_rate_hz: of the result; the encoders of sound hear 16 kHz.
        limits: what is refused before it is decoded.

    Raises:
        MediaError: no sound, damaged, NaN, an impossible rate, or longer than
            `limits.max_seconds`.
    """
    if isinstance(source, tuple):
        return _waveform_of_array(_array(source[0]), _rate_hz(source[1]), sample_rate_hz, limits)
    raw = read_source(source, limits=limits)
    track = load_sound_track(raw, limits, sample_rate_hz)
    if track is None:
        raise MediaError(f"{raw.name}: holds no sound. Give an audio file, or a video with sound")
    return track.waveform


def load_sound_track(
    source: SourceBytes, limits: MediaLimits, sample_rate_hz: int = AUDIO_RATE_HZ
) -> SoundTrack | None:
    """The best audio stream of a container at a rate, pauses kept; None when it has none."""
    with open_container(source, limits) as container:
        stream = cast("AudioStream | None", container.streams.best("audio"))
        if stream is None:
            return None
        prepare_decoder(stream, source.name, limits)
        frames = _sounding_frames(container, stream)
        first = next(frames, None)
        if first is None:
            raise _no_sound(source.name)
        rate_hz = first.sample_rate
        blocks = _mono_blocks(chain([first], frames), rate_hz, source.name, limits)
        waveform = Waveform(
            _resampled(blocks, rate_hz, sample_rate_hz, source.name), sample_rate_hz
        )
        _require_all_samples(stream, waveform, source.name)
        return SoundTrack(waveform, _seconds_of(first) or 0.0)


def log_mel_clips(waveform: Waveform, config: AudioConfig) -> AudioClips:
    """Whisper's log-mel of each clip, the last one filled up with silence.

    Raises:
        MediaError: more than `config.max_clips` clips; nothing is cut off.
    """
    # Here and not above: it brings torch, which reading media does not need.
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    clip_samples = config.clip_frames * MEL_HOP_SAMPLES
    context_samples = config.context_frames * MEL_HOP_SAMPLES
    heard_samples = config.frames_per_clip * MEL_HOP_SAMPLES
    starts = range(0, len(waveform.samples), clip_samples)
    if not 1 <= len(starts) <= config.max_clips:
        raise MediaError(
            f"audio of {waveform.seconds:,.1f} s: {len(starts)} clips of "
            f"{clip_samples / AUDIO_RATE_HZ:g} s; this model takes 1 to {config.max_clips}. Cut it"
        )
    extractor = WhisperFeatureExtractor(
        feature_size=config.num_mel_bins, sampling_rate=AUDIO_RATE_HZ, hop_length=MEL_HOP_SAMPLES
    )
    samples = np.pad(waveform.samples, (context_samples, 0))
    # A clip at a time: the spectra of an hour at once would take gigabytes.
    features = [
        extractor(
            samples[start : start + heard_samples],
            sampling_rate=waveform.sample_rate_hz,
            max_length=heard_samples,
            return_tensors="np",
        ).input_features
        for start in starts
    ]
    return AudioClips(np.concatenate(features).astype(np.float32), len(starts))


def _array(samples: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(samples)
    # Rows of unequal length; a tensor on a GPU, or one that wants gradients.
    except (ValueError, TypeError, RuntimeError) as error:
        raise MediaError(
            f"{type(samples).__name__}: no array of samples ({error}). Give [samples] or [samples, "
            f"channels]"
        ) from error


def _rate_hz(rate_hz: SupportsFloat) -> int:
    if not isinstance(rate_hz, Real) or not float(rate_hz).is_integer():
        raise MediaError(f"array: a rate of {rate_hz!r}; need a whole number of Hz, such as 16000")
    return int(float(rate_hz))


def _waveform_of_array(
    samples: NDArray[Any], rate_hz: int, sample_rate_hz: int, limits: MediaLimits
) -> Waveform:
    if samples.ndim == 1:
        samples = samples[:, None]
    is_number = samples.dtype.kind == "f" or samples.dtype in (np.uint8, np.int16, np.int32)
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= _MAX_CHANNELS or not is_number:
        raise MediaError(
            f"array of {samples.dtype} {list(samples.shape)}: need [samples] or [samples, "
            f"channels] of float, int16, int32 or uint8, at most {_MAX_CHANNELS} channels. "
            f"Transpose or convert it"
        )
    if len(samples) == 0:
        raise _no_sound("array")
    _require_rate(rate_hz, "array")
    require_within("array", len(samples) / rate_hz, "seconds", "max_seconds", limits)
    mono = _mono(samples)
    _require_sound(mono, "array", 0.0)
    return Waveform(_resampled([mono], rate_hz, sample_rate_hz, "array"), sample_rate_hz)


def _sounding_frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in container.demux(stream):
        for frame in packet.decode():
            if frame.samples:
                yield frame


def _mono_blocks(
    frames: Iterable[AudioFrame], rate_hz: int, name: str, limits: MediaLimits
) -> Iterator[Float32[np.ndarray, "samples"]]:
    """The mean of the channels frame by frame, with silence where the container's clock jumps."""
    start_seconds: float | None = None
    num_samples = 0
    for frame in frames:
        if frame.sample_rate != rate_hz:
            raise MediaError(
                f"{name}: the rate changes from {rate_hz} Hz to {frame.sample_rate} Hz within the "
                f"stream. Resample it to one rate"
            )
        seconds = _seconds_of(frame)
        if start_seconds is None:
            start_seconds = seconds
        if seconds is not None and start_seconds is not None:
            pause_seconds = seconds - start_seconds - num_samples / rate_hz
            if pause_seconds > _GAP_SECONDS:
                require_within(name, seconds - start_seconds, "seconds", "max_seconds", limits)
                silence = np.zeros(round(pause_seconds * rate_hz), np.float32)
                num_samples += len(silence)
                yield silence
        block = _mono(_channels_last(frame))
        _require_sound(block, name, num_samples / rate_hz)
        num_samples += len(block)
        require_within(name, num_samples / rate_hz, "seconds", "max_seconds", limits)
        yield block


def _seconds_of(frame: AudioFrame) -> float | None:
    """When a frame sounds, on the container's clock."""
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def _channels_last(frame: AudioFrame) -> NDArray[Any]:
    """Samples [samples, channels] of a frame, in its own type."""
    # Not frame.to_ndarray(): from 8 channels on it reads beyond the planes there are.
    num_channels = frame.layout.nb_channels
    dtype = np.dtype(format_dtypes[frame.format.name])
    if frame.format.is_planar:
        planes = [AudioPlane(frame, channel) for channel in range(num_channels)]
        return np.stack(
            [np.frombuffer(memoryview(p), dtype, frame.samples) for p in planes], axis=1
        )
    packed = np.frombuffer(memoryview(AudioPlane(frame, 0)), dtype, frame.samples * num_channels)
    return cast("NDArray[Any]", packed.reshape(frame.samples, num_channels))


def _mono(samples: NDArray[Any]) -> Float32[np.ndarray, "samples"]:
    """Mean of the channels, integers scaled to -1..1."""
    if samples.dtype == np.uint8:
        offset, full_scale = 128.0, 128.0
    elif samples.dtype.kind == "i":
        offset, full_scale = 0.0, -float(np.iinfo(samples.dtype).min)
    else:
        offset, full_scale = 0.0, 1.0
    # A float64 beyond float32 becomes inf, and is refused as NaN is.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (samples.astype(np.float32) - np.float32(offset)) / np.float32(full_scale)
        return np.asarray(scaled.mean(axis=1, dtype=np.float32))


def _require_rate(rate_hz: int, name: str) -> None:
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise MediaError(
            f"{name}: {rate_hz} Hz; need {_MIN_RATE_HZ} to {_MAX_RATE_HZ} Hz. Give the rate the "
            f"sound was recorded at"
        )


def _require_sound(block: Float32[np.ndarray, "samples"], name: str, start_seconds: float) -> None:
    peak = np.abs(block).max(initial=0.0)
    if not peak <= _MAX_PEAK:  # NaN compares false
        raise MediaError(
            f"{name}: a sample of {peak:g} in the block at {start_seconds:.2f} s; need finite "
            f"values, full scale at -1 and 1. Repair or rescale it"
        )


def _require_all_samples(stream: AudioStream, waveform: Waveform, name: str) -> None:
    """Refuse a FLAC cut short: of the containers without box lengths it alone states its length."""
    if stream.container.format.name != "flac" or not stream.duration or not stream.time_base:
        return
    promised, found = float(stream.duration * stream.time_base), waveform.seconds
    if found < promised - _GAP_SECONDS:
        raise MediaError(
            f"{name}: cut off; its header promises {promised:.2f} s and {found:.2f} s are there. "
            f"Fetch it again"
        )


def _resampled(
    blocks: Iterable[Float32[np.ndarray, "samples"]], rate_hz: int, new_rate_hz: int, name: str
) -> Float32[np.ndarray, "resampled"]:
    """The blocks in a row at the new rate; memory is that of the result."""
    _require_rate(rate_hz, name)
    if rate_hz == new_rate_hz:
        return np.concatenate(list(blocks))
    resampler = soxr.ResampleStream(rate_hz, new_rate_hz, 1, dtype="float32", quality="HQ")
    parts = [resampler.resample_chunk(block) for block in blocks]
    parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    samples = np.concatenate(parts)
    if len(samples) == 0:
        raise _no_sound(name)
    return cast("NDArray[np.float32]", samples)


def _no_sound(name: str) -> MediaError:
    return MediaError(
        f"{name}: 0 samples of sound once resampled. Give a recording that has a length"
    )
