"""Bytes come from anywhere a caller has them, and never more than allowed."""

import base64
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unimoe.config import MediaLimits
from unimoe.errors import MediaError
from unimoe.media import read_source

TEN_BYTES = MediaLimits(max_bytes=10)


def test_path_string_bytes_and_file_object_give_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")

    with path.open("rb") as stream, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(b"content")
        spooled.seek(0)
        buffers = [bytearray(b"content"), memoryview(b"content"), memoryview(b"c-o-n-t-e-n-t")[::2]]
        sources = [path, str(path), b"content", *buffers, io.BytesIO(b"content"), stream, spooled]

        assert [read_source(source).data for source in sources] == [b"content"] * 9


def test_messages_name_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(b"x")

    assert read_source(path).name == str(path)


@pytest.mark.parametrize(
    "uri",
    [
        "data:audio/wav;base64," + base64.b64encode(b"a b").decode(),
        "DATA:;base64,YSBi",
        "data:;base64,YSB%69",
        "data:text/plain,a%20b",
        "data:,a b",
    ],
)
def test_data_uri_is_decoded(uri: str) -> None:
    assert read_source(uri).data == b"a b"


@pytest.mark.parametrize("uri", ["data:;base64,!!!!", "data:;base64,YQ", "data:image/png"])
def test_malformed_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(MediaError, match="data URI"):
        read_source(uri)


@pytest.mark.parametrize(
    "address", ["http://host/a.png", "https://host/a.png", "file:///etc/passwd", "rtsp://h/s"]
)
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(MediaError, match="addresses are not read"):
        read_source(address)


@pytest.mark.parametrize("path", ["no/such/file.png", "/", "a\0b", "/dev/zero", "x" * 5000])
def test_what_is_no_regular_file_is_refused(path: str) -> None:
    with pytest.raises(MediaError, match="path"):
        read_source(path)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(MediaError, match="regular file"):
        read_source(tmp_path / "pipe")


def test_text_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")

    with (tmp_path / "a").open() as stream, pytest.raises(MediaError, match="binary mode"):
        read_source(stream)


def test_closed_stream_is_refused() -> None:
    stream = io.BytesIO(b"x")
    stream.close()

    with pytest.raises(MediaError, match="cannot be read"):
        read_source(stream)


@pytest.mark.parametrize("source", [b"", io.BytesIO(b""), "data:,"])
def test_empty_source_is_refused(source: object) -> None:
    with pytest.raises(MediaError, match="empty, 0 bytes"):
        read_source(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bytes", "path", "stream", "data URI"])
def test_too_many_bytes_are_refused_with_limit_value_and_remedy(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 11)
    source = {
        "bytes": b"x" * 11,
        "path": tmp_path / "a",
        "stream": io.BytesIO(b"x" * 11),
        "data URI": "data:," + "x" * 11,
    }[kind]

    with pytest.raises(MediaError, match=r"11 bytes; max_bytes allows 10\. Compress .*MediaLimits"):
        read_source(source, limits=TEN_BYTES)


def test_endless_stream_is_read_one_byte_past_the_limit() -> None:
    with Path("/dev/zero").open("rb") as endless, pytest.raises(MediaError, match="11 bytes"):
        read_source(endless, limits=TEN_BYTES)


def test_large_data_uri_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(MediaError, match="74,998 bytes; max_bytes"):
        read_source("data:;base64," + "A" * 100_000, limits=TEN_BYTES)


def test_importing_media_brings_no_torch() -> None:
    code = (
        "import sys, unimoe.media; sys.exit(not {'torch', 'transformers'}.isdisjoint(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
