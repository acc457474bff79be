"""Audio and video containers, opened so that a hostile file can only fail.

In:  `SourceBytes`.  Out: an open PyAV container over exactly these bytes.
The kind is told by magic bytes and only its demuxer runs, so a playlist is never followed; a
demuxer that asks for another file or address is refused; only known decoders run, and none of them
allocates a frame beyond `MediaLimits.max_pixels`, not even while FFmpeg looks at the streams.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Any, NoReturn, cast

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Stream

from unimoe.config import MediaLimits
from unimoe.errors import MediaError
from unimoe.media.source import SourceBytes, require_within

_DECODERS = (
    "h264 hevc vp8 vp9 libvpx libvpx-vp9 av1 libdav1d mpeg4 mpeg1video mpeg2video h263 mjpeg "
    "prores dnxhd gif theora ffv1 qtrle png rawvideo aac mp3 mp3float mp2 mp2float opus libopus "
    "vorbis flac alac ac3 eac3 amrnb amrwb adpcm_ima_wav adpcm_ms adpcm_ima_qt pcm_alaw pcm_mulaw "
    "pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le "
    "pcm_f32be pcm_f64le pcm_f64be"
)

_TIMEOUT_S = 60.0  # of one call into FFmpeg over bytes in memory: only a fault takes that long

# Walking blocks in Python has to end; 2 million blocks of GIF are half a gigabyte. What lies behind
# is left to FFmpeg.
_MAX_BLOCKS = 2_000_000

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp")


@contextmanager
def open_container(source: SourceBytes, limits: MediaLimits) -> Iterator[InputContainer]:
    """The demuxer of the bytes; whatever FFmpeg dislikes meanwhile becomes a `MediaError`.

    Raises:
        MediaError: of no supported kind, cut off, damaged, or longer than `limits.max_seconds`.
    """
    data = _without_id3(source.data)
    kind = _container_kind(data)
    if kind is None:
        raise MediaError(
            f"{source.name}: no audio or video of a known kind (it starts with {data[:8]!r}). Give "
            f"MP4, MOV, M4A, WebM, MKV, GIF, WAV, MP3, FLAC, OGG, Opus or AAC"
        )
    _require_whole(data, kind, source.name)
    try:
        with av.open(
            BytesIO(data),
            "r",
            format=kind,
            options={**_decoder_options(limits), "format_whitelist": _DEMUXERS[kind]},
            metadata_errors="replace",
            timeout=_TIMEOUT_S,
            io_open=partial(_refuse_other_file, source.name),
        ) as container:
            # Raw streams hold no length: FFmpeg's guess from a first bit rate may be far off.
            if kind not in ("mp3", "aac"):
                claimed_seconds = (container.duration or 0) / av.time_base
                require_within(source.name, claimed_seconds, "seconds", "max_seconds", limits)
            yield container
    except (av.FFmpegError, EOFError, MemoryError) as error:
        raise MediaError(
            f"{source.name}: damaged or of an unsupported codec ({_reason(error)}). Export it "
            f"again, for example with ffmpeg"
        ) from error


def prepare_decoder(stream: Stream, name: str, limits: MediaLimits) -> None:
    """Bound what the decoder of a stream may do; to be called before its first packet."""
    # Against PyAV's annotations: None for a codec that FFmpeg does not know.
    if cast("CodecContext | None", stream.codec_context) is None:
        raise MediaError(f"{name}: an unknown {stream.type} codec. Convert it, for example to MP4")
    stream.codec_context.options = _decoder_options(limits)


def _decoder_options(limits: MediaLimits) -> dict[str, str]:
    return {"codec_whitelist": _DECODERS.replace(" ", ","), "max_pixels": str(limits.max_pixels)}


_DEMUXERS = {
    "mov": "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska": "matroska,webm",
    "gif": "gif",
    "wav": "wav",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "ogg",
    "aac": "aac",
}


def _container_kind(data: bytes) -> str | None:
    """Name of the one FFmpeg demuxer for these bytes."""
    if data[4:8] in _MP4_BOXES:
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    for magic, kind in (
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"GIF8", "gif"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
    ):
        if data.startswith(magic):
            return kind
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        # Eleven bits of sync, two of version, two of layer: layer 0 is the ADTS frame of AAC.
        return "mp3" if data[1] & 0x06 else "aac"
    return None


def _without_id3(data: bytes) -> bytes:
    """The stream behind an ID3v2 tag: its pictures and texts are of no use here."""
    start = 0
    while data[start : start + 3] == b"ID3":
        size = 0
        for byte in data[start + 6 : start + 10]:  # seven bits each
            size = size << 7 | byte & 0x7F
        start += 10 + size
    return data[start:]


def _require_whole(data: bytes, kind: str, name: str) -> None:
    """Refuse a file that ends before its own header says so."""
    ends = {"mov": _mp4_end, "matroska": _matroska_end, "wav": _wav_end, "gif": _gif_end}
    end = ends[kind](data) if kind in ends else 0
    # A missing pad byte after an odd chunk harms nobody.
    if end > len(data) + 1:
        raise MediaError(
            f"{name}: cut off or endless; its header promises {end:,} bytes and {len(data):,} are "
            f"there. Fetch it again, or let ffmpeg rewrite it"
        )


def _mp4_end(data: bytes) -> int:
    """Where the last top-level box ends; what follows and is no box does not matter."""
    position = 0
    for _ in range(_MAX_BLOCKS):
        size = int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16])
        # 0: up to the end of the file, as live recorders write; 2 to 7: for FFmpeg to complain.
        # Boxes of any name are walked: in a DASH file an index stands before the fragments.
        if size < 8 or not _is_box_name(kind):
            break
        position += size
    return position


def _is_box_name(kind: bytes) -> bool:
    """Four printable characters, the copyright sign of QuickTime among them."""
    return len(kind) == 4 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind)


def _matroska_end(data: bytes) -> int:
    """Where the segment ends; 0 when a live recorder left its length open."""
    header_size, position = _matroska_length(data, 4)
    position += header_size
    if data[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    size, position = _matroska_length(data, position + 4)
    return position + size if size else 0


def _matroska_length(data: bytes, position: int) -> tuple[int, int]:
    """Value of a variable-length integer (0 when unknown) and where it ends."""
    first = data[position] if position < len(data) else 0
    num_bytes = 9 - first.bit_length()
    mask = (1 << 7 * num_bytes) - 1
    value = int.from_bytes(data[position : position + num_bytes]) & mask
    return (0 if value == mask else value), position + num_bytes


def _wav_end(data: bytes) -> int:
    """Where the chunk of samples ends."""
    position = 12
    for _ in range(_MAX_BLOCKS):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] in (b"data", b""):
            return position + 8 + size
        position += 8 + size + size % 2
    return position


def _gif_end(data: bytes) -> int:
    """Where the trailer, or the last whole block before the end, stands; past it when cut."""
    position = 13 + _gif_palette_bytes(data[10:11])
    for _ in range(_MAX_BLOCKS):
        kind = data[position : position + 1]
        if kind == b",":
            position += 11 + _gif_palette_bytes(data[position + 9 : position + 10])
        elif kind == b"!":
            position += 2
        else:
            break
        position = _after_gif_blocks(data, position)
    return position + 1


def _after_gif_blocks(data: bytes, position: int) -> int:
    for _ in range(_MAX_BLOCKS):
        if position >= len(data) or not data[position]:
            break
        position += 1 + data[position]
    return position + 1


def _gif_palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _refuse_other_file(name: str, *_: Any) -> NoReturn:
    raise MediaError(f"{name}: wants to read another file. Give one that holds all its data")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
