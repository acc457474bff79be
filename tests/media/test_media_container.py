"""Containers open by content, whole, and without reach beyond their own bytes."""

import io
import struct
from pathlib import Path

import av
import pytest

from tests.media.made_media import (
    black_png,
    encode_sound,
    encode_video,
    index_first,
    mov_of_packet,
    tone,
    with_cover,
)
from unimoe.config import MediaLimits, VideoConfig
from unimoe.errors import MediaError
from unimoe.media import Video, load_audio, load_video


def watch(data: bytes | Path, **limits: float) -> Video:
    return load_video(
        data,
        VideoConfig(),
        has_audio=False,
        limits=MediaLimits(**limits),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "webm", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_off_video_is_refused(container: str, share: float) -> None:
    codec = {"webm": "libvpx", "gif": "gif"}.get(container, "libx264")
    data = encode_video(container, codec, num_frames=40)

    with pytest.raises(MediaError, match=r"cut off|damaged"):
        watch(data[: int(len(data) * share)])


def test_cut_off_fast_start_mp4_is_refused_though_its_index_is_whole() -> None:
    data = index_first(encode_video("mp4", num_frames=20))

    assert watch(data).frames.shape == (8, 48, 64, 3)
    with pytest.raises(MediaError, match=r"promises [\d,]+ bytes and [\d,]+ are there"):
        watch(data[:-100])


def test_cut_off_fragment_is_refused() -> None:
    data = encode_video("mp4", container_options={"movflags": "frag_keyframe+empty_moov"})

    assert watch(data).frames.shape == (8, 48, 64, 3)
    with pytest.raises(MediaError, match="cut off"):
        watch(data[: data.rindex(b"mdat") + 50])


@pytest.mark.parametrize("share", [0.6, 0.75, 0.85, 0.95])
def test_cut_off_dash_mp4_is_refused_though_an_index_precedes_its_fragments(share: float) -> None:
    options = {"movflags": "+dash+frag_keyframe+empty_moov"}
    data = encode_video("mp4", num_frames=40, container_options=options)

    assert data.index(b"moov") < data.index(b"sidx") < data.index(b"moof")
    assert watch(data).frames.shape == (8, 48, 64, 3)
    with pytest.raises(MediaError, match="cut off"):
        watch(data[: int(len(data) * share)])


def test_what_follows_the_last_box_and_is_none_does_not_matter() -> None:
    data = encode_video("mp4", num_frames=20)

    assert watch(data + b"\xff" * 40).frames.shape == (8, 48, 64, 3)


def test_live_matroska_of_unknown_length_is_read() -> None:
    data = encode_video("webm", "libvpx", num_frames=20, container_options={"live": "1"})

    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in data
    assert watch(data).frames.shape == (8, 48, 64, 3)


@pytest.mark.parametrize(
    "playlist",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 1234 RTP/AVP 0\r\n",
        b"[playlist]\nFile1=http://127.0.0.1/a.mp3\n",
    ],
)
def test_playlists_are_no_media_whatever_their_name(playlist: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(playlist)

    with pytest.raises(MediaError, match=r"clip\.mp4: no audio or video of a known kind"):
        watch(path)


def test_a_demuxer_cannot_open_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.ts").write_bytes(encode_video("mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.ts\n".encode()
    with av.open(io.BytesIO(playlist), format="hls") as unguarded:
        assert unguarded.streams.video
    # As if some demuxer we allow could be talked into it.
    monkeypatch.setattr("unimoe.media.container._container_kind", lambda data: "hls")
    monkeypatch.setattr("unimoe.media.container._DEMUXERS", {"hls": "hls,mpegts"})

    with pytest.raises(MediaError, match="bytes: wants to read another file"):
        watch(playlist)


def test_bomb_inside_a_container_is_not_decoded_even_to_look_at_it() -> None:
    data = mov_of_packet(black_png(8_000, 8_000))

    # FFmpeg tells a PNG's size by decoding one; here it never came to know it.
    with pytest.raises(MediaError, match=r"no frame of at most 50,000,000 pixels \(max_pixels\)"):
        watch(data)


def test_unlisted_codec_is_refused() -> None:
    data = encode_video("matroska", "msmpeg4")

    with pytest.raises(MediaError, match="unsupported codec"):
        watch(data)


def test_header_that_claims_too_many_frames_is_refused() -> None:
    data = bytearray(encode_video("mp4"))
    at = data.index(b"stts") + 12
    data[at : at + 4] = (2**31).to_bytes(4)

    with pytest.raises(MediaError, match="2,147,483,648 frames; max_frames allows 250,000"):
        watch(bytes(data))


def test_header_that_claims_too_many_seconds_is_refused() -> None:
    data = bytearray(encode_video("matroska"))
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 1e8)  # milliseconds

    with pytest.raises(MediaError, match=r"100,000 seconds; max_seconds allows 3,600"):
        watch(bytes(data))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_frames": 9}, "frames; max_frames allows 9"),
        ({"max_pixels": 1000}, "max_pixels"),
        ({"max_seconds": 0.5}, "1 seconds; max_seconds allows 0.50"),
        ({"max_aspect": 1.2}, r"1\.33 times as long as wide \(64 x 48\); max_aspect"),
        ({"max_bytes": 100}, "bytes; max_bytes allows 100"),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_every_limit_holds_for_video(
    container: str, limits: dict[str, float], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        watch(encode_video(container), **limits)


def test_sound_is_no_video() -> None:
    with pytest.raises(MediaError, match="holds no video"):
        watch(encode_sound("ipod", "aac", tone(0.5, 16_000), 16_000))


def test_cover_picture_of_a_song_is_no_video() -> None:
    song = with_cover(encode_sound("ipod", "aac", tone(0.5, 16_000), 16_000))

    assert load_audio(song).seconds > 0.4
    with pytest.raises(MediaError, match="holds no video"):
        watch(song)
