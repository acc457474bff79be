"""Small real media files, encoded on the spot; the same arguments give the same pictures and sound.

A frame of `encode_video` is grey of value 8 * index with a green mark in its upper left corner, so
that a test can tell which frame it got and which way up.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image

PIXEL_FORMATS = {
    "prores": "yuv422p10le",
    "qtrle": "rgb24",
    "mjpeg": "yuvj420p",
    "gif": "rgb8",
    "png": "rgb24",
    "ffv1": "bgr0",
}
LEVELS_PER_FRAME = 8


def frame_pixels(index: int, width: int, height: int) -> np.ndarray:
    pixels = np.full((height, width, 3), index * LEVELS_PER_FRAME % 256, np.uint8)
    pixels[: height // 3, : width // 3] = (0, 255, 0)
    return pixels


def encode_video(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    num_frames: int = 10,
    rate_fps: int = 10,
    ticks: Sequence[int] | None = None,
    size: tuple[int, int] = (64, 48),
    keyframe_every: int = 12,
    degrees: int = 0,
    mirrored: bool = False,
    sound: np.ndarray | None = None,
    sound_delay_seconds: float = 0.0,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> bytes:
    """A video of numbered frames; `ticks` are presentation times in units of 1 / rate_fps."""
    target = io.BytesIO()
    with av.open(target, "w", format=container, container_options=container_options) as muxer:
        stream = muxer.add_stream(codec, rate=rate_fps, options=codec_options or {})
        stream.width, stream.height = size
        stream.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
        stream.gop_size = keyframe_every
        if degrees or mirrored:
            stream.set_display_rotation(degrees, hflip=mirrored)
        sound_stream = None if sound is None else muxer.add_stream(_sound_codec(container), 16000)
        if sound_stream is not None:
            sound_stream.layout = "mono"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(frame_pixels(index, *size), format="rgb24")
            frame.pts = ticks[index] if ticks else index
            frame.time_base = Fraction(1, rate_fps)
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode())
        if sound_stream is not None:
            _mux_sound(muxer, sound_stream, sound, 16000, sound_delay_seconds)
    return target.getvalue()


def index_first(mp4: bytes) -> bytes:
    """The same MP4 with its index before its frames, as for streaming."""
    boxes, at = {}, 0
    while at < len(mp4):
        size = int.from_bytes(mp4[at : at + 4])
        boxes[mp4[at + 4 : at + 8]] = bytearray(mp4[at : at + size])
        at += size
    index = boxes[b"moov"]
    offsets = index.index(b"stco") + 12
    for entry in range(int.from_bytes(index[offsets - 4 : offsets])):
        place = slice(offsets + 4 * entry, offsets + 4 * entry + 4)
        index[place] = (int.from_bytes(index[place]) + len(index)).to_bytes(4)
    return b"".join([boxes[b"ftyp"], index, boxes[b"free"], boxes[b"mdat"]])


def with_cover(song: bytes) -> bytes:
    """A song with a picture attached, as players show it."""
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(song)) as demuxer,
        av.open(io.BytesIO(encode_video("mp4", "mjpeg", num_frames=1))) as picture,
        av.open(target, "w", format="mp4") as muxer,
    ):
        sound = muxer.add_stream_from_template(demuxer.streams.audio[0])
        cover = muxer.add_stream_from_template(picture.streams.video[0])
        cover.disposition = av.stream.Disposition.attached_pic
        for packets, stream in ((picture.demux(video=0), cover), (demuxer.demux(audio=0), sound)):
            for packet in packets:
                if packet.size:
                    packet.stream = stream
                    muxer.mux(packet)
    return target.getvalue()


def encode_sound(container: str, codec: str, samples: np.ndarray, rate_hz: int) -> bytes:
    """Samples [samples] or [samples, channels] in -1..1, encoded."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate_hz)
        num_channels = 1 if samples.ndim == 1 else samples.shape[1]
        stream.layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[num_channels]
        _mux_sound(muxer, stream, samples, rate_hz, 0.0)
    return target.getvalue()


def tone(seconds: float, rate_hz: int, frequency_hz: float = 440.0) -> np.ndarray:
    return (
        0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    ).astype(np.float32)


def wav(samples: np.ndarray, rate_hz: int, *, claimed_bytes: int | None = None) -> bytes:
    """A WAV of int16, uint8, int32 or float samples, header by hand; its length may be a lie."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    payload = samples.tobytes()
    frame_bytes = samples.dtype.itemsize * samples.shape[1]
    code = 3 if samples.dtype.kind == "f" else 1
    header = struct.pack(
        "<HHIIHH",
        code,
        samples.shape[1],
        rate_hz,
        rate_hz * frame_bytes,
        frame_bytes,
        8 * samples.dtype.itemsize,
    )
    size = len(payload) if claimed_bytes is None else claimed_bytes
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + body + payload


def encode_image(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG header of any size over almost no data."""
    return _png(width, height, zlib.compress(b"\0" * 1000))


def black_png(width: int, height: int) -> bytes:
    """A whole PNG whose black rows compress a thousandfold."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (3 * width + 1)) for _ in range(height))
    return _png(width, height, rows + packer.flush())


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def mov_of_packet(packet_data: bytes) -> bytes:
    """A MOV that says it holds one 64 x 64 PNG and holds this packet instead."""
    target = io.BytesIO()
    with av.open(target, "w", format="mov") as muxer:
        stream = muxer.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        stream.codec_context.open()
        packet = av.Packet(packet_data)
        packet.pts = packet.dts = 0
        packet.time_base = Fraction(1, 1)
        packet.stream = stream
        packet.is_keyframe = True
        muxer.mux(packet)
    return target.getvalue()


def _sound_codec(container: str) -> str:
    return "libopus" if container in ("webm", "matroska") else "aac"


def _mux_sound(
    muxer: av.container.OutputContainer,
    stream: av.AudioStream,
    samples: np.ndarray,
    rate_hz: int,
    delay_seconds: float,
) -> None:
    channels = samples[:, None] if samples.ndim == 1 else samples
    frame = av.AudioFrame.from_ndarray(
        channels.astype(np.float32).reshape(1, -1), format="flt", layout=stream.layout
    )
    frame.sample_rate = rate_hz
    frame.time_base = Fraction(1, rate_hz)
    frame.pts = round(delay_seconds * rate_hz)
    resampler = av.AudioResampler(
        format=stream.format,
        layout=stream.layout,
        rate=stream.rate,
        frame_size=stream.codec_context.frame_size or None,
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        muxer.mux(stream.encode(part))
    muxer.mux(stream.encode())
