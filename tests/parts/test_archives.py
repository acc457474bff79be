"""Archives: what is wanted comes out as it is, and nothing gets out of its folder."""

import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.parts.made_archives import deb, member, tarball, wheel
from unimoe.errors import PartsError
from unimoe.parts.archives import unpack


def unpacked(
    archive: Path, folder: Path, *patterns: str, max_bytes: int = 1000
) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    unpack(archive, folder, patterns=patterns or ("*",), max_bytes=max_bytes)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def npm(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path.write_bytes(tarball(members))
    return path


def test_wanted_members_of_a_wheel_come_out_under_their_paths(tmp_path: Path) -> None:
    archive = wheel(
        tmp_path / "thing-1.0-py3-none-any.whl", {"thing/a.bin": b"A", "thing/b.py": b"B"}
    )
    assert unpacked(archive, tmp_path / "out", "thing/*.bin") == {"thing/a.bin": b"A"}


def test_a_leading_exclamation_mark_leaves_out(tmp_path: Path) -> None:
    archive = npm(
        tmp_path / "t.tgz", member("package/a.ogg", b"A"), member("package/a_fr.ogg", b"B")
    )
    assert unpacked(archive, tmp_path / "out", "*.ogg", "!*_??.ogg") == {"package/a.ogg": b"A"}


def test_a_debian_package_gives_its_data_and_keeps_programs_executable(tmp_path: Path) -> None:
    program = member("./usr/bin/say", b"run", mode=0o755)
    archive = deb(tmp_path / "say_1_all.deb", [program, member("./usr/doc", b"odd")])
    assert unpacked(archive, tmp_path / "out") == {"usr/bin/say": b"run", "usr/doc": b"odd"}
    assert (tmp_path / "out/usr/bin/say").stat().st_mode & stat.S_IXUSR


def test_a_link_becomes_a_copy_of_its_neighbour(tmp_path: Path) -> None:
    link = member("./lib/s.so.1", type=tarfile.SYMTYPE, linkname="s.so.1.2")
    up = member("./lib/deep/s.so", type=tarfile.SYMTYPE, linkname="../s.so.1.2")
    hard = member("./lib/h.so", type=tarfile.LNKTYPE, linkname="./lib/s.so.1.2")
    archive = deb(tmp_path / "s_1.deb", [link, up, member("./lib/s.so.1.2", b"so"), hard])
    files = unpacked(archive, tmp_path / "out")
    assert set(files) == {"lib/s.so.1", "lib/deep/s.so", "lib/h.so", "lib/s.so.1.2"}
    assert set(files.values()) == {b"so"}
    assert not (tmp_path / "out/lib/s.so.1").is_symlink()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "a\\..\\evil", "C:/evil", "."]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = npm(tmp_path / "t.tgz", member(name, b"x"))
    with pytest.raises(PartsError, match="leaves its folder"):
        unpacked(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*evil*")] == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "missing"])
def test_a_link_out_of_the_archive_is_refused(tmp_path: Path, target: str) -> None:
    archive = npm(tmp_path / "t.tgz", member("a/l", type=tarfile.SYMTYPE, linkname=target))
    with pytest.raises(PartsError, match="not among the files wanted"):
        unpacked(archive, tmp_path / "out")


def test_a_link_of_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(PartsError, match="no plain file"):
        unpacked(path, tmp_path / "out")


def test_a_device_is_refused(tmp_path: Path) -> None:
    archive = npm(tmp_path / "t.tgz", member("dev/zero", type=tarfile.CHRTYPE))
    with pytest.raises(PartsError, match="a device"):
        unpacked(archive, tmp_path / "out")


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "thing-1.0-py3-none-any.whl", {"zeros": b"\0" * 10_000_000})
    with pytest.raises(PartsError, match="more than was announced"):
        unpacked(archive, tmp_path / "out", "zeros", max_bytes=100)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 2_000_000


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    archive = npm(tmp_path / "t.tgz", member("a", b"1"), member("a", b"2"))
    with pytest.raises(PartsError, match="twice"):
        unpacked(archive, tmp_path / "out")


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    archive = npm(tmp_path / "t.tgz", member("a", b"1"))
    with pytest.raises(PartsError, match=r"nothing in it is named \*\.bin"):
        unpacked(archive, tmp_path / "out", "a", "*.bin")


@pytest.mark.parametrize("name", ["t.whl", "t.tgz", "t.deb"])
@pytest.mark.parametrize("data", [b"", b"nonsense" * 50, b"!<arch>\ndata.tar.xz" + b"-9" * 40])
def test_a_damaged_archive_is_a_parts_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PartsError, match=name):
        unpacked(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("kind", ["whl", "tgz", "deb"])
def test_an_archive_that_was_cut_short_is_a_parts_error(tmp_path: Path, kind: str) -> None:
    files = [member("a", bytes(range(256)) * 40)]
    whole = {
        "whl": lambda path: wheel(path, {"a": files[0][1]}),
        "tgz": lambda path: npm(path, *files),
        "deb": lambda path: deb(path, files),
    }[kind](tmp_path / f"thing-1.0-py3.{kind}")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(PartsError):
        unpacked(whole, tmp_path / "out", max_bytes=100_000)
