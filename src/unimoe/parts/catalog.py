"""The pretrained parts and data packages that `mini` is made of, pinned by sha256.

In:  catalog.toml, beside this file.  Out: `PARTS`: what each is, its licence, and what holds it.
Each archive is what a public registry serves under that name and version. Weights of `mini` belong
to these exact bytes: a source that gives others is refused, also a hub whose file is newer.
Source: the registries named; licences as the packages state them, upstream ones where known
(docs/sources.md#parts).
"""

import difflib
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from unimoe.errors import PartsError

Registry = Literal["PyPI", "npm", "Debian"]
PartKind = Literal["model", "voice", "judge", "images", "audio", "video", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """One file of a registry."""

    registry: Registry
    package: str
    """As the registry's own tool takes it: NAME==VERSION, NAME@VERSION or NAME=VERSION."""
    file: str
    """Its name, also in a local directory."""
    sha256: str
    num_bytes: int
    unpacked_bytes: int
    """Of the wanted members together."""
    members: tuple[str, ...]
    """Globs of what is wanted; `*` matches `/` too, a leading `!` leaves out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """The same bytes as a member of an archive, on the Hugging Face hub."""

    repo: str
    file: str
    member: str
    """Path that the archive gives it."""
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Something pretrained, or a collection of data."""

    name: str
    kind: PartKind
    title: str
    licence: str
    upstream: str
    archives: tuple[Archive, ...]
    hub: tuple[HubFile, ...] = ()
    """If any, they are all that is needed of the archives."""

    @property
    def key(self) -> str:
        """Changes with the bytes and with what is wanted of them."""
        pins = [(archive.sha256, *archive.members) for archive in self.archives]
        return hashlib.sha256(repr(pins).encode()).hexdigest()[:12]

    @property
    def num_bytes(self) -> int:
        """To be downloaded."""
        return sum(archive.num_bytes for archive in self.archives)

    @property
    def unpacked_bytes(self) -> int:
        """On disk afterwards."""
        return sum(archive.unpacked_bytes for archive in self.archives)


def part(name: str) -> Part:
    """The part of that name.

    Raises:
        PartsError: no such part.
    """
    parts = {each.name: each for each in PARTS}
    if name not in parts:
        near = difflib.get_close_matches(name, parts, n=1)
        hint = f"did you mean {near[0]}?" if near else "`unimoe parts list` shows all"
        raise PartsError(f"no part is named {name!r}; {hint}")
    return parts[name]


def _read_catalog() -> tuple[Part, ...]:
    text = (files("unimoe.parts") / "catalog.toml").read_text("utf-8")
    return tuple(_part_of(table) for table in tomllib.loads(text)["parts"])


def _part_of(table: Mapping[str, Any]) -> Part:
    """A table of the catalogue; its keys are the fields of `Part`."""
    archives = (
        Archive(**{**each, "members": tuple(each["members"])}) for each in table["archives"]
    )
    hub = (HubFile(**each) for each in table.get("hub", ()))
    return Part(**{**table, "archives": tuple(archives), "hub": tuple(hub)})


PARTS = _read_catalog()
