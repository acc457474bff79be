"""Arrays to bytes: pictures, sound and films as files that read back what was put in.

In:  uint8 pixels, float samples and their rate.  Out: WebP, FLAC or MP4, the same bytes every time;
speech at its own rate, in the container its file name asks for.
Pictures and sound are lossless; films are H.264 at a quality where sprites keep their colours, with
ALAC as their sound track.
Axes: frames = pictures of a film; samples = one channel.
"""

from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from typing import cast

import av
import numpy as np
from av.audio.format import AudioFormat
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import OutputContainer
from jaxtyping import Float32, Int16, UInt8
from PIL import Image

from unimoe.config import AUDIO_RATE_HZ
from unimoe.errors import MediaError
from unimoe.media.audio import AudioSource, load_audio

SPEECH_CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".m4a": "aac",
}
"""By the ending of the file name; the first two are lossless at 16 bits."""
_BLOCK_SAMPLES = 4096
# One thread, no date and no version of FFmpeg: the bytes depend on the pixels alone.
_X264_OPTIONS = {"crf": "18", "preset": "medium", "threads": "1"}
_MUXER_OPTIONS = {"fflags": "+bitexact"}


def encode_image(image: Image.Image) -> bytes:
    """Lossless WebP.

    Raises:
        MediaError: it has transparency, or is neither RGB nor grey.
    """
    if image.mode not in ("RGB", "L"):
        raise MediaError(
            f"a picture of mode {image.mode}; need RGB or L. Lay it on a background and convert it"
        )
    target = BytesIO()
    # Method 2: a drawing of 168 pixels takes 8 ms and 8.2 kB, by method 4 16 and 7.7.
    image.convert("RGB").save(target, "webp", lossless=True, quality=50, method=2)
    return target.getvalue()


def encode_audio(sound: AudioSource, *, sample_rate_hz: int = AUDIO_RATE_HZ) -> bytes:
    """FLAC of 16 bits, one channel, resampled where needed.

    Raises:
        MediaError: louder than full scale, empty, or of an impossible rate.
    """
    samples = _pcm16(sound, sample_rate_hz)
    target = BytesIO()
    with av.open(target, "w", format="flac", options=_MUXER_OPTIONS) as muxer:
        _mux_sound(muxer, _sound_stream(muxer, "flac", sample_rate_hz, "s16"), samples)
    return target.getvalue()


def encode_speech(
    samples: Float32[np.ndarray, "samples"], sample_rate_hz: int, ending: str = ".wav"
) -> bytes:
    """One channel at its own rate.

    Args:
        samples: full scale is 1; what is louder is clipped.
        sample_rate_hz: of the samples.
        ending: of the file's name, as in `SPEECH_CODECS`.

    Raises:
        MediaError: no samples, or another ending.
    """
    if ending.lower() not in SPEECH_CODECS or not len(samples):
        raise MediaError(
            f"{len(samples)} samples for a {ending or 'file without an ending'}; "
            f"need some, and one of {', '.join(SPEECH_CODECS)}"
        )
    container = {".m4a": "ipod", ".opus": "ogg"}.get(ending.lower(), ending.lower()[1:])
    pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    target = BytesIO()
    with av.open(target, "w", format=container, options=_MUXER_OPTIONS) as muxer:
        stream = _sound_stream(muxer, SPEECH_CODECS[ending.lower()], sample_rate_hz)
        _mux_sound(muxer, stream, pcm)
    return target.getvalue()


def encode_video(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]],
    frame_rate_fps: float | int,
    sound: AudioSource | None = None,
) -> bytes:
    """MP4; frame i comes on at i / frame_rate_fps seconds, the sound starts with frame 0.

    Raises:
        MediaError: no frames, frames of several sizes or of an odd side, or sound as in
            `encode_audio`.
    """
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1 or frame_rate_fps <= 0:
        raise MediaError(
            f"a film of frames {sorted(sizes)} at {frame_rate_fps} a second; need one size of "
            f"[height, width, 3], and a rate above 0"
        )
    height, width, _ = next(iter(sizes))
    if height % 2 or width % 2:
        raise MediaError(f"a film of {width} x {height} pixels; H.264 needs even sides. Pad it")
    target = BytesIO()
    with av.open(target, "w", format="mp4", options=_MUXER_OPTIONS) as muxer:
        rate = Fraction(frame_rate_fps).limit_denominator(1001)
        stream = muxer.add_stream("libx264", rate=rate, options=_X264_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        sound_stream = (
            None if sound is None else _sound_stream(muxer, "alac", AUDIO_RATE_HZ, "s16p")
        )
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode())
        if sound is not None and sound_stream is not None:
            _mux_sound(muxer, sound_stream, _pcm16(sound, AUDIO_RATE_HZ))
    return target.getvalue()


def _pcm16(sound: AudioSource, sample_rate_hz: int) -> Int16[np.ndarray, "samples"]:
    samples = load_audio(sound, sample_rate_hz=sample_rate_hz).samples
    peak = float(np.abs(samples).max())
    # Resampling rings: a wave of full scale comes back a little above it.
    if peak > 1.1:
        raise MediaError(f"sound with a peak of {peak:.2f}; full scale is 1. Make it quieter")
    return np.round(samples / max(peak, 1.0) * 32767).astype(np.int16)


def _sound_stream(
    muxer: OutputContainer, codec: str, sample_rate_hz: int, sample_format: str | None = None
) -> AudioStream:
    """One channel; without a format that which the codec prefers."""
    stream = cast("AudioStream", muxer.add_stream(codec, rate=sample_rate_hz))
    stream.codec_context.layout = AudioLayout("mono")
    if sample_format is not None:
        stream.codec_context.format = AudioFormat(sample_format)
    return stream


def _mux_sound(
    muxer: OutputContainer, stream: AudioStream, samples: Int16[np.ndarray, "samples"]
) -> None:
    """All of it; a codec that takes no 16-bit integers converts them."""
    own = stream.codec_context.format.name
    frame_format = own if own in ("s16", "s16p") else "s16"
    for start in range(0, len(samples), _BLOCK_SAMPLES):
        block = samples[None, start : start + _BLOCK_SAMPLES]
        frame = av.AudioFrame.from_ndarray(block, format=frame_format, layout="mono")
        frame.sample_rate, frame.pts = stream.rate, start
        frame.time_base = Fraction(1, stream.rate)
        muxer.mux(stream.encode(frame))
    muxer.mux(stream.encode())
