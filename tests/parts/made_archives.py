"""Small archives of every kind, made on the spot: honest ones and hostile ones."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from unimoe.parts import Archive, HubFile, Part


def wheel(path: Path, files: Mapping[str, bytes]) -> Path:
    """A wheel that pip takes: with the metadata of the name and version in its file name."""
    name, version, *_ = path.name.split("-")
    info = f"{name}-{version}.dist-info"
    tags = "-".join(path.stem.split("-")[2:])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tarball(members: Iterable[tuple[tarfile.TarInfo, bytes]], compression: str = "gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def deb(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tarball([], "xz"),
        "data.tar.xz": tarball(members, "xz"),
    }
    data = b"!<arch>\n"
    for name, content in parts.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        data += header.encode() + content + b"\n" * (len(content) % 2)
    path.write_bytes(data)
    return path


def archive_of(path: Path, *members: str, registry: str = "PyPI", **changes: object) -> Archive:
    """The catalogue's entry of a file as it lies there."""
    name, version, *_ = path.name.split("-")
    fields: dict = {
        "registry": registry,
        "package": f"{name}=={version}" if registry == "PyPI" else name,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "num_bytes": path.stat().st_size,
        "unpacked_bytes": 1000,
        "members": members,
    }
    return Archive(**{**fields, **changes})


def part_of(*archives: Archive, hub: tuple[HubFile, ...] = ()) -> Part:
    return Part(
        name="thing",
        kind="text",
        title="a thing",
        licence="MIT",
        upstream="nobody",
        archives=archives,
        hub=hub,
    )
