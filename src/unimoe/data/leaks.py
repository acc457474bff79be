"""Proof that splits share nothing: read from the files alone, whoever wrote them.

In:  folders of data sets.  Out: sentences that name what leaked; none, if nothing did.
Over all sets together no two splits may hold the same medium, by the hash of its bytes, or the same
words up to an answer where there is no medium. What a set declares in `dataset.json` holds for all
of them: values of a held out trait are in no training split, values of a disjoint trait are in one
split of the sets that declare it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unimoe.data.manifest import media_file, read_manifest
from unimoe.data.sample import OmniSample
from unimoe.data.splits import SPLITS, Split
from unimoe.errors import DataError


class _Placed(NamedTuple):
    """A sample and where it is."""

    folder: Path
    split: Split
    sample: OmniSample

    def __str__(self) -> str:
        return f"{self.sample.id!r} ({self.folder.name}, {self.split})"


def find_leaks(folders: Sequence[Path], max_found: int = 20) -> list[str]:
    """What two splits share, or a training split has though it is held out.

    Args:
        folders: of data sets, seen as one.
        max_found: after so many there is no need to look on.

    Raises:
        DataError: a set is not whole, or a medium is missing.
    """
    rules = {folder: _rules(folder) for folder in folders}
    held_out: dict[str, set[str]] = {}
    for facts in rules.values():
        for trait, values in facts["held_out"].items():
            held_out.setdefault(trait, set()).update(values)
    first: dict[str, _Placed] = {}
    leaks: list[str] = []
    for placed in _samples(folders):
        for key in _keys(placed, rules[placed.folder]["disjoint"]):
            other = first.setdefault(key, placed)
            if other.split != placed.split:
                leaks.append(f"{key[:120]}: in {other} and in {placed}")
        leaks += [
            f"{trait} {value!r} is held out, but in {placed}"
            for trait, value in placed.sample.traits.items()
            if placed.split == "train" and value in held_out.get(trait, ())
        ]
        if len(leaks) >= max_found:
            return leaks[:max_found]
    return leaks


def _samples(folders: Sequence[Path]) -> Iterator[_Placed]:
    for folder in folders:
        for split in SPLITS:
            for sample in read_manifest(folder / f"{split}.jsonl"):
                yield _Placed(folder, split, sample)


def _keys(placed: _Placed, disjoint: Sequence[str]) -> Iterator[str]:
    """What may be in one split only."""
    sample = placed.sample
    for path in sample.media_paths:
        with media_file(placed.folder, path).open("rb") as stream:
            yield f"medium {hashlib.file_digest(stream, 'sha256').hexdigest()}"
    if not sample.media_paths:
        for number, turn in enumerate(sample.conversations, start=1):
            if turn.role == "assistant":
                words = [(t.role, t.text) for t in sample.conversations[:number]]
                yield f"words {words}"
    for trait in disjoint:
        if trait in sample.traits:
            yield f"{trait} {sample.traits[trait]!r}"


def _rules(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "dataset.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no whole data set ({error}). Build it again") from error
    return facts
