"""Fetching: verified bytes in one folder, whole or not at all, from whoever has them."""

import errno
import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.parts.made_archives import archive_of, deb, member, part_of, tarball, wheel
from unimoe.errors import PartsError
from unimoe.parts import (
    HubFile,
    cache_directory,
    damaged_files,
    fetch,
    folder_of,
    is_fetched,
    registries,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own; nobody to ask."""
    monkeypatch.setenv("UNIMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel(
        folder / "thing-1.0-py3-none-any.whl", {"thing/data.txt": b"hello", "thing/code.py": b"1/0"}
    )
    return folder


def fake_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def thing(shelf: Path, **changes: object):
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "thing/*.txt", **changes)
    return part_of(archive)


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob(".new-*") if path.exists()]


def test_a_part_comes_out_of_a_local_directory(shelf: Path) -> None:
    folder = fetch(thing(shelf), offline=True, local=shelf)
    assert (folder / "thing/data.txt").read_bytes() == b"hello"
    assert not (folder / "thing/code.py").exists()


def test_a_fetched_part_needs_nobody_again(shelf: Path) -> None:
    part = thing(shelf)
    folder = fetch(part, local=shelf)
    shutil.rmtree(shelf)
    assert is_fetched(part)
    assert fetch(part, offline=True) == folder == folder_of(part)


def test_the_receipt_names_licence_source_and_every_file(shelf: Path) -> None:
    folder = fetch(thing(shelf), local=shelf)
    receipt = json.loads((folder / "part.json").read_text())
    assert receipt["licence"] == "MIT"
    assert receipt["source"] == "local directory"
    assert receipt["files"] == {"thing/data.txt": [5, hashlib.sha256(b"hello").hexdigest()]}


def test_pip_downloads_a_wheel_and_installs_nothing(
    shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    told: list[tuple[str, int, int]] = []
    folder = fetch(thing(shelf), report=lambda *progress: told.append(progress))
    assert (folder / "thing/data.txt").read_bytes() == b"hello"
    size = (shelf / "thing-1.0-py3-none-any.whl").stat().st_size
    assert told[-1] == ("thing-1.0-py3-none-any.whl", size, size)
    assert list((cache / "downloads").iterdir()) == []


def test_npm_packs_without_running_scripts(tmp_path: Path) -> None:
    packed = tmp_path / "thing-1.0.tgz"
    packed.write_bytes(tarball([member("package/a.svg", b"<svg/>")]))
    part = part_of(archive_of(packed, "*.svg", registry="npm"))
    fake_tool(tmp_path / "bin", "npm", f'echo "$@" > {tmp_path}/said; /bin/cp {packed} .')
    assert (fetch(part) / "package/a.svg").read_bytes() == b"<svg/>"
    assert (tmp_path / "said").read_text().split()[:2] == ["pack", "--ignore-scripts"]


def test_apt_get_downloads_a_debian_package(tmp_path: Path) -> None:
    package = deb(tmp_path / "thing-1.0_all.deb", [member("./usr/share/a", b"A")])
    part = part_of(archive_of(package, "usr/*", registry="Debian"))
    fake_tool(tmp_path / "bin", "apt-get", f"/bin/cp {package} .")
    assert (fetch(part) / "usr/share/a").read_bytes() == b"A"


def test_bytes_of_another_sha256_are_not_used(shelf: Path, cache: Path) -> None:
    part = thing(shelf, sha256="0" * 64)
    with pytest.raises(PartsError, match=r"need 0000000000000000…; damaged, or no longer the same"):
        fetch(part, local=shelf)
    assert not is_fetched(part)
    assert leftovers(cache) == []


def test_a_registry_that_serves_other_bytes_is_refused(
    shelf: Path, tmp_path: Path, cache: Path
) -> None:
    fake_tool(tmp_path / "bin", "npm", f"/bin/cp {shelf}/thing* .")
    with pytest.raises(PartsError, match="npm, thing"):
        fetch(thing(shelf, registry="npm", sha256="0" * 64))
    assert list((cache / "downloads").iterdir()) == []


def test_no_network_is_a_parts_error_that_quotes_the_tool(tmp_path: Path, shelf: Path) -> None:
    fake_tool(tmp_path / "bin", "apt-get", "echo 'E: Could not resolve host' >&2; exit 100")
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "*", registry="Debian")
    with pytest.raises(PartsError, match="apt-get failed: E: Could not resolve host"):
        fetch(part_of(archive))


def test_a_missing_tool_is_named(shelf: Path) -> None:
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "*", registry="npm")
    with pytest.raises(PartsError, match=r"comes from npm by npm, which is not installed"):
        fetch(part_of(archive))


def test_progress_passes_over_a_folder_that_the_tool_has_taken_away(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which once was told as a tool that is not installed."""
    (tmp_path / "folder/gone").mkdir(parents=True)
    (tmp_path / "folder/thing").write_bytes(b"1234")
    scandir = os.scandir

    def scanned(path: Any) -> Any:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scanned)
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "*")
    told: list[int] = []
    registries._show(archive, tmp_path / "folder", lambda file, done, total: told.append(done))
    assert told == [4]


def test_offline_asks_nobody(shelf: Path, tmp_path: Path) -> None:
    fake_tool(tmp_path / "bin", "npm", f"/bin/touch {tmp_path}/asked")
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "*", registry="npm")
    with pytest.raises(PartsError, match="nobody may be asked"):
        fetch(part_of(archive), offline=True)
    assert not (tmp_path / "asked").exists()


def test_an_interrupted_part_keeps_the_archives_it_has(
    shelf: Path, tmp_path: Path, cache: Path
) -> None:
    second = deb(shelf / "more-1.0_all.deb", [member("./b", b"B")])
    fake_tool(tmp_path / "bin", "npm", f"echo x >> {tmp_path}/calls; /bin/cp {shelf}/thing* .")
    part = part_of(
        archive_of(shelf / "thing-1.0-py3-none-any.whl", "thing/*.txt", registry="npm"),
        archive_of(second, "b", registry="Debian"),
    )
    with pytest.raises(PartsError, match="not installed"):
        fetch(part)
    assert not folder_of(part).exists()
    fake_tool(tmp_path / "bin", "apt-get", f"/bin/cp {second} .")
    assert (fetch(part) / "b").read_bytes() == b"B"
    assert (tmp_path / "calls").read_text() == "x\n"


def test_of_two_that_want_a_part_at_once_one_downloads_it(shelf: Path, tmp_path: Path) -> None:
    fake_tool(tmp_path / "bin", "npm", f"echo x >> {tmp_path}/calls; /bin/cp {shelf}/thing* .")
    part = thing(shelf, registry="npm")
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(fetch, [part, part]))
    assert folders == [folder_of(part)] * 2
    assert (tmp_path / "calls").read_text() == "x\n"


def test_too_small_a_disk_is_told_before_anything_is_fetched(shelf: Path) -> None:
    with pytest.raises(PartsError, match=r"needs 1,000,000,\d{3} MB"):
        fetch(thing(shelf, num_bytes=10**15), local=shelf)


def test_a_disk_that_fills_up_is_a_parts_error(
    shelf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(PartsError, match="the disk is full"):
        fetch(thing(shelf), local=shelf)
    assert leftovers(cache) == []


def test_damage_in_the_cache_is_found_and_mended(shelf: Path) -> None:
    part = thing(shelf)
    data = fetch(part, local=shelf) / "thing/data.txt"
    data.write_bytes(b"hullo")
    assert damaged_files(part) == ["thing/data.txt"]
    data.unlink()
    assert not is_fetched(part)
    fetch(part, local=shelf)
    assert damaged_files(part) == []


def test_damage_of_what_was_never_fetched_is_an_error(shelf: Path) -> None:
    with pytest.raises(PartsError, match="run `unimoe parts pull thing`"):
        damaged_files(thing(shelf))


def test_a_local_folder_that_is_not_there_is_named(shelf: Path) -> None:
    with pytest.raises(PartsError, match="no such folder"):
        fetch(thing(shelf), local=shelf / "nowhere")


def test_the_hub_gives_the_same_bytes_from_its_own_cache(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hub_cache(tmp_path, monkeypatch, b"hello")
    file = HubFile(
        repo="someone/thing", file="data.bin", member="thing/data.txt", sha256=digest(b"hello")
    )
    part = part_of(archive_of(shelf / "thing-1.0-py3-none-any.whl", "thing/*.txt"), hub=(file,))
    folder = fetch(part, offline=True)
    assert (folder / "thing/data.txt").read_bytes() == b"hello"
    assert json.loads((folder / "part.json").read_text())["source"] == "hub"
    assert hub.exists()


def test_a_hub_with_other_bytes_is_passed_over(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_cache(tmp_path, monkeypatch, b"newer")
    fake_tool(tmp_path / "bin", "npm", f"/bin/cp {shelf}/thing* .")
    file = HubFile(
        repo="someone/thing", file="data.bin", member="thing/data.txt", sha256=digest(b"hello")
    )
    archive = archive_of(shelf / "thing-1.0-py3-none-any.whl", "thing/*.txt", registry="npm")
    folder = fetch(part_of(archive, hub=(file,)))
    assert (folder / "thing/data.txt").read_bytes() == b"hello"
    assert json.loads((folder / "part.json").read_text())["source"] == "registry"


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("UNIMOE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "unimoe"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> Path:
    """The hub's cache as huggingface_hub lays it out, with one file in it."""
    cache = tmp_path / "hub"
    repo = cache / "models--someone--thing"
    commit = "c" * 40
    for folder in (repo / "refs", repo / "snapshots" / commit):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / "data.bin").write_bytes(data)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache
