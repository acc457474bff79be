"""Frames of a video stream: their times without decoding, then the pixels of the chosen ones.

In:  `SourceBytes` of a container.
Out: `FrameTimes` (packets in decoding order, times in presentation order); uint8 frames.
Only the groups of pictures that hold a chosen frame are decoded: one frame a second of an hour of
video costs a fraction of the hour. Where packets do not tell the times, all frames are decoded.
Axes: packets = in decoding order; frames = shown ones, by time; height, width = upright pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from unimoe.config import MediaLimits
from unimoe.errors import MediaError
from unimoe.media.container import open_container, prepare_decoder
from unimoe.media.image import on_white
from unimoe.media.source import SourceBytes, require_picture_size, require_within

_MAX_TAKEN_BYTES = 2 * 1024**3  # of all frames taken; 64 frames of 3840 x 2160 are 1.5 GiB


class FrameTimes(NamedTuple):
    """When frames come on, and which packets hold them."""

    ticks: Int64[np.ndarray, "frames"]
    """Presentation times in units of the stream's clock, ascending."""
    seconds: Float64[np.ndarray, "frames"]
    """The same in seconds."""
    total_seconds: float
    """From the first frame to the end of the last."""
    packet_ticks: Int64[np.ndarray, "packets"]
    """Presentation time of every packet in decoding order; empty: packets do not tell."""
    is_key: Bool[np.ndarray, "packets"]
    """A decoder may start at this packet."""


class _Packet(NamedTuple):
    ticks: int | None
    duration_ticks: int
    is_key: bool
    is_shown: bool


def measure_frame_times(source: SourceBytes, limits: MediaLimits) -> FrameTimes:
    """Times of all frames, read from the packets, or by decoding when these do not tell them.

    Raises:
        MediaError: no video, too many frames, too many pixels a frame, too long.
    """
    packets: list[_Packet] = []
    with open_container(source, limits) as container:
        stream = _picture_stream(container, source, limits)
        for packet in container.demux(stream):
            if packet.size:
                packets.append(
                    _Packet(
                        packet.pts,
                        packet.duration or 0,
                        packet.is_keyframe,
                        not packet.is_discard,
                    )
                )
                require_within(source.name, len(packets), "frames", "max_frames", limits)
        tick_seconds = float(stream.time_base or 0)
    distinct = {packet.ticks for packet in packets}
    if None in distinct or len(distinct) < len(packets):
        return decode_frame_times(source, limits)
    durations = {packet.ticks or 0: packet.duration_ticks for packet in packets if packet.is_shown}
    return _frame_times(source.name, durations, tick_seconds, limits)._replace(
        packet_ticks=np.array([packet.ticks for packet in packets], np.int64),
        is_key=np.array([packet.is_key for packet in packets], bool),
    )


def decode_frame_times(source: SourceBytes, limits: MediaLimits) -> FrameTimes:
    """Times of all frames as the decoder gives them: slow, and right whatever the packets say."""
    durations: dict[int, int] = {}
    with open_container(source, limits) as container:
        stream = _picture_stream(container, source, limits)
        for packet in container.demux(stream):
            for frame in packet.decode():
                if frame.pts is None:
                    raise MediaError(
                        f"{source.name}: frame {len(durations)} has no time. Export it again with "
                        f"a constant frame rate"
                    )
                durations[frame.pts] = frame.duration or 0
                require_within(source.name, len(durations), "frames", "max_frames", limits)
        tick_seconds = float(stream.time_base or 0)
    return _frame_times(source.name, durations, tick_seconds, limits)


def decode_frames(
    source: SourceBytes,
    times: FrameTimes,
    taken: Int64[np.ndarray, "taken"],
    limits: MediaLimits,
) -> UInt8[np.ndarray, "taken height width 3"] | None:
    """Upright pixels of the frames at these indices; None when the packets' times were wrong.

    Raises:
        MediaError: a chosen frame is damaged, frames differ in size or take too much memory.
    """
    wanted = set(times.ticks[taken].tolist())
    pixels: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
    with open_container(source, limits) as container:
        stream = _picture_stream(container, source, limits)
        size = stream.codec_context.width, stream.codec_context.height
        require_room(source.name, len(wanted), size)
        for frame in _decoded(container, stream, _needed_packets(times, wanted)):
            if frame.pts is None or frame.pts not in wanted or frame.pts in pixels:
                continue
            # The header may have lied about the size; the first frame settles it.
            if not pixels:
                size = frame.width, frame.height
                require_room(source.name, len(wanted), size)
            elif (frame.width, frame.height) != size:
                raise MediaError(
                    f"{source.name}: frames of {size} and of {(frame.width, frame.height)} pixels; "
                    f"need one size. Export it again with a fixed size"
                )
            pixels[frame.pts] = upright_pixels(frame, source.name)
    if len(pixels) < len(wanted):
        return None
    return np.stack([pixels[tick] for tick in times.ticks[taken].tolist()])


def upright_pixels(frame: VideoFrame, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """RGB as a player would show it: turned and mirrored by the display matrix, alpha on white."""
    if any(component.is_alpha for component in frame.format.components):
        rgba = Image.fromarray(cast("np.ndarray", frame.to_ndarray(format="rgba")))
        pixels = np.asarray(on_white(rgba))
    else:
        pixels = cast("np.ndarray", frame.to_ndarray(format="rgb24"))
    display_matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if display_matrix is not None:
        matrix = np.frombuffer(bytes(display_matrix), np.int32).reshape(3, 3)
        pixels = _turned(pixels, matrix[:2, :2] / 65536, name)
    return np.ascontiguousarray(pixels)


def _turned(
    pixels: UInt8[np.ndarray, "height width 3"], matrix: Float64[np.ndarray, "2 2"], name: str
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Pixels moved by a display matrix [[a, b], [c, d]]: x' = a x + c y, y' = b x + d y."""
    (a, b), (c, d) = matrix.round(2).tolist()
    is_straight, is_crossed = not (b or c), not (a or d)
    if is_straight == is_crossed:
        raise MediaError(
            f"{name}: a display matrix of [{a}, {b}, {c}, {d}]; only quarter turns and mirrors are "
            f"done. Export it again upright"
        )
    if is_crossed:
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _picture_stream(
    container: InputContainer, source: SourceBytes, limits: MediaLimits
) -> VideoStream:
    """The best video stream; all that its header claims is within the limits."""
    stream = cast("VideoStream | None", container.streams.best("video"))
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise MediaError(f"{source.name}: holds no video. Give a video file, or load it as audio")
    prepare_decoder(stream, source.name, limits)
    require_within(source.name, stream.frames, "frames", "max_frames", limits)
    if not (stream.codec_context.width and stream.codec_context.height):
        raise MediaError(
            f"{source.name}: no frame of at most {limits.max_pixels:,} pixels (max_pixels) was "
            f"read. Scale it down or export it again"
        )
    require_picture_size(
        source.name, stream.codec_context.width, stream.codec_context.height, limits
    )
    stream.thread_type = "AUTO"
    return stream


def require_room(name: str, num_frames: int, size: tuple[int, int]) -> None:
    """Refuse frames of this width and height that together would fill the memory."""
    num_bytes = num_frames * size[0] * size[1] * 3
    if num_bytes > _MAX_TAKEN_BYTES:
        raise MediaError(
            f"{name}: {num_frames} frames of {size[0]} x {size[1]} take {num_bytes:,} bytes; at "
            f"most {_MAX_TAKEN_BYTES:,} are held. Scale the video down or take fewer frames"
        )


def _frame_times(
    name: str, durations: dict[int, int], tick_seconds: float, limits: MediaLimits
) -> FrameTimes:
    """Times from {when a frame comes on: how long it stays or 0}, in ticks, in any order."""
    if not durations:
        raise MediaError(f"{name}: 0 frames of video. Give a video with at least one")
    ticks = np.array(sorted(durations), np.int64)
    seconds = ticks * tick_seconds
    span = float(seconds[-1] - seconds[0])
    last_seconds = max(durations[int(ticks[-1])] * tick_seconds, 0.0)
    if last_seconds == 0 and len(ticks) > 1:
        last_seconds = span / (len(ticks) - 1)
    require_within(name, span + last_seconds, "seconds", "max_seconds", limits)
    return FrameTimes(ticks, seconds, span + last_seconds, np.zeros(0, np.int64), np.zeros(0, bool))


def _needed_packets(times: FrameTimes, wanted: set[int]) -> Bool[np.ndarray, "packets"] | None:
    """Packets to decode for the wanted frames: from a starting point up to each; None: all.

    In decoding order, K = starting point, w = wanted:

        K . . w . K . . . K w .
        1 1 1 1 0 0 0 0 0 1 1 0
    """
    if len(times.packet_ticks) == 0:
        return None
    needed = np.zeros(len(times.packet_ticks), bool)
    keys = np.flatnonzero(times.is_key)
    for packet in np.flatnonzero(np.isin(times.packet_ticks, list(wanted))):
        before = keys[keys <= packet]
        # Shown before the starting point it follows: it also leans on the group before.
        if len(before) and times.packet_ticks[packet] < times.packet_ticks[before[-1]]:
            before = before[:-1]
        needed[before[-1] if len(before) else 0 : packet + 1] = True
    return needed


def _decoded(
    container: InputContainer, stream: VideoStream, needed: Bool[np.ndarray, "packets"] | None
) -> Iterator[VideoFrame]:
    """Frames of the needed packets; the decoder is emptied and reset at every jump."""
    is_running = False
    packets = (packet for packet in container.demux(stream) if packet.size)
    for index, packet in enumerate(packets):
        if needed is None or needed[index]:
            yield from stream.decode(packet)
            is_running = True
        elif is_running:
            yield from stream.decode(None)
            stream.codec_context.flush_buffers()
            is_running = False
    if is_running:
        yield from stream.decode(None)
