"""Bytes of a medium, from wherever the caller has them, and the limits they must keep.

In:  a path, bytes or a buffer of them, a binary file object, or a `data:` URI.
Out: `SourceBytes` - the encoded bytes and the name that error messages use.
Nothing here decodes: a limit is checked on what a header claims, before any work is done for it.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable
from urllib.parse import unquote_to_bytes

from unimoe.config import MediaLimits
from unimoe.errors import MediaError


@runtime_checkable
class BinaryReader(Protocol):
    """What is read of a file object."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes from where it stands."""


MediaSource: TypeAlias = str | Path | bytes | bytearray | memoryview | BinaryReader

DEFAULT_LIMITS = MediaLimits()

LimitName = Literal["max_bytes", "max_pixels", "max_aspect", "max_seconds", "max_frames"]

_REMEDIES: dict[LimitName, str] = {
    "max_bytes": "Compress or cut it",
    "max_pixels": "Scale it down",
    "max_aspect": "Crop it or cut it into pieces",
    "max_seconds": "Cut it",
    "max_frames": "Cut it or lower its frame rate",
}


class SourceBytes(NamedTuple):
    """A medium as it was encoded."""

    data: bytes
    name: str
    """Path or kind of the source, for messages only."""


def read_source(source: MediaSource, *, limits: MediaLimits = DEFAULT_LIMITS) -> SourceBytes:
    """All bytes of a source, never more than `limits.max_bytes` of them.

    A file object is read from where it stands and is not closed.

    Raises:
        MediaError: nothing there, not a regular file, empty, too large, or a web address.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        found = SourceBytes(bytes(source), "bytes")
    elif isinstance(source, str) and source[:5].lower() == "data:":
        found = SourceBytes(_data_uri_bytes(source, limits), "data URI")
    elif isinstance(source, str | Path):
        found = _file_bytes(source, limits)
    elif isinstance(source, BinaryReader):
        found = _stream_bytes(source, limits)
    else:
        raise MediaError(
            f"{type(source).__name__}: no source of media. Give a path, bytes, a binary file "
            f"object or a data: URI"
        )
    if not found.data:
        raise MediaError(f"{found.name}: empty, 0 bytes. Give a whole image, audio or video file")
    require_within(found.name, len(found.data), "bytes", "max_bytes", limits)
    return found


def require_within(
    name: str, value: float | int, unit: str, limit_name: LimitName, limits: MediaLimits
) -> None:
    """Refuse a value beyond its limit.

    Args:
        name: whose value it is, for the message.
        value: what the header claims, or what has been decoded so far.
        unit: of the value, in words.
        limit_name: the field of `limits` that holds the largest value allowed.
        limits: of this request.

    Raises:
        MediaError: names the medium, the value, the limit and the remedy.
    """
    limit = getattr(limits, limit_name)
    if value > limit:
        raise MediaError(
            f"{name}: {_grouped(value)} {unit}; {limit_name} allows {_grouped(limit)}. "
            f"{_REMEDIES[limit_name]}, or raise MediaLimits.{limit_name}"
        )


def require_picture_size(name: str, width: int, height: int, limits: MediaLimits) -> None:
    """Refuse an image or video frame of impossible, too large or too thin a size."""
    if min(width, height) < 1:
        raise MediaError(
            f"{name}: a picture of {width} x {height} pixels; need at least 1 x 1. Export it again"
        )
    size = f"({width} x {height})"
    require_within(name, width * height, f"pixels {size}", "max_pixels", limits)
    aspect = max(width, height) / min(width, height)
    require_within(name, aspect, f"times as long as wide {size}", "max_aspect", limits)


def _grouped(value: float | int) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _file_bytes(path: str | Path, limits: MediaLimits) -> SourceBytes:
    name = str(path)
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name)
    if scheme:
        raise MediaError(
            f"{name[:200]}: {scheme[0]} addresses are not read. Fetch the file yourself and give "
            f"its path or its bytes"
        )
    try:
        # A pipe or a device could block or never end.
        if not Path(path).is_file():
            raise MediaError(f"{name[:200]}: no such file. Give the path of a regular file")
        require_within(name, Path(path).stat().st_size, "bytes", "max_bytes", limits)
        with Path(path).open("rb") as stream:
            return SourceBytes(stream.read(limits.max_bytes + 1), name)
    except (OSError, ValueError) as error:
        raise MediaError(
            f"{name[:200]}: cannot be read ({error}). Check path and rights"
        ) from error


def _stream_bytes(stream: BinaryReader, limits: MediaLimits) -> SourceBytes:
    name = str(getattr(stream, "name", type(stream).__name__))
    try:
        # One byte more than allowed tells an endless stream from a full one.
        data = stream.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read ({error}). Open it for reading") from error
    if not isinstance(data, bytes):
        raise MediaError(
            f"{name}: gives {type(data).__name__}, need bytes. Open the file in binary mode, 'rb'"
        )
    return SourceBytes(data, name)


def _data_uri_bytes(uri: str, limits: MediaLimits) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise MediaError("data URI: no comma before the data. Write data:image/png;base64,....")
    is_base64 = header.lower().endswith(";base64")
    # Base64 carries 3 bytes in 4 characters, percent coding at least 1 in 3.
    least_bytes = len(payload) * 3 // 4 - 2 if is_base64 else len(payload) // 3
    require_within("data URI", least_bytes, "bytes", "max_bytes", limits)
    percent_decoded = unquote_to_bytes(payload)
    if not is_base64:
        return percent_decoded
    try:
        return base64.b64decode(percent_decoded, validate=True)
    except binascii.Error as error:
        raise MediaError(f"data URI: not valid base64 ({error}). Encode the file again") from error
