"""Manifests: files of samples, one JSON object a line, read one sample at a time.

In:  a JSONL or Parquet file, or the JSON list of the released data.
Out: `Manifest`, samples by number.
A line is parsed when it is asked for: a large JSONL file costs 16 bytes a sample until then.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

from unimoe.data.parquet import ParquetRows
from unimoe.data.sample import OmniSample, row_of_sample, sample_of_row
from unimoe.errors import DataError


@runtime_checkable
class _Rows(Protocol):
    """Rows of a file by number."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> object:
        """The parsed row."""

    def place(self, index: int) -> str:
        """Where it stands, for messages."""


class Manifest:
    """Samples of one file by number; `folder` is where their media paths start."""

    def __init__(self, path: Path, rows: _Rows) -> None:
        self.path = path
        self.folder = path.parent
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> OmniSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[OmniSample]: ...
    def __getitem__(self, index: int | slice) -> OmniSample | list[OmniSample]:
        """A sample, or some.

        Raises:
            DataError: the row is no sample; the message tells file and line.
            IndexError: there is no such row.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} samples; asked for number {index}")
        index %= len(self)
        try:
            return sample_of_row(self._rows.row(index))
        except (DataError, ValueError, RecursionError) as error:
            raise DataError(f"{self._rows.place(index)}: {error}") from error

    def __iter__(self) -> Iterator[OmniSample]:
        return (self[i] for i in range(len(self)))


def read_manifest(path: Path) -> Manifest:
    """Open a manifest.

    Raises:
        DataError: no such file, of an unknown kind, or no list of objects.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such manifest. Give a file of samples")
    if path.suffix == ".jsonl":
        return Manifest(path, _JsonLines(path))
    if path.suffix == ".json":
        return Manifest(path, _JsonList(path))
    if path.suffix == ".parquet":
        return Manifest(path, ParquetRows(path))
    raise DataError(
        f"{path}: of unknown kind {path.suffix!r}. Give a .jsonl, .json or .parquet file"
    )


def write_manifest(path: Path, samples: Iterable[OmniSample]) -> None:
    """Write samples as JSONL, in their order."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(map(line_of, samples))


def media_file(folder: Path, path: str) -> Path:
    """The file of a medium, never one outside the folder.

    A manifest may come from anybody: a path that leads out, be it absolute, through `..` or through
    a link, could read what its reader never meant to show.

    Raises:
        DataError: it leads out, is a web address, or there is no such file.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise DataError(f"{path[:200]}: an address; media are files. Fetch it into {folder}")
    try:
        root = folder.resolve()
        found = (root / path).resolve()
        if not found.is_relative_to(root):
            raise DataError(f"{path[:200]}: leads out of {folder}. Copy the file into that folder")
        if not found.is_file():
            raise DataError(f"{path[:200]}: no such file in {folder}. Copy it there")
    except (OSError, ValueError) as error:
        raise DataError(f"{path[:200]!r}: no path ({error}). Correct it") from error
    return found


def line_of(sample: OmniSample) -> str:
    """The sample as one line of JSON."""
    return json.dumps(row_of_sample(sample), ensure_ascii=False) + "\n"


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._numbers = array("q"), array("L")
        start = 0
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    self._starts.append(start)
                    self._numbers.append(number)
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def row(self, index: int) -> object:
        # Opened anew: the place in a file kept open is shared by forked readers.
        with self._path.open("rb") as stream:
            stream.seek(self._starts[index])
            return json.loads(stream.readline())

    def place(self, index: int) -> str:
        return f"{self._path}, line {self._numbers[index]}"


class _JsonList:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            rows = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: no JSON ({error}). Write the file again") from error
        if not isinstance(rows, list):
            raise DataError(f"{path}: holds a {type(rows).__name__}; need a list of samples")
        self._list = rows

    def __len__(self) -> int:
        return len(self._list)

    def row(self, index: int) -> object:
        return self._list[index]

    def place(self, index: int) -> str:
        return f"{self._path}, sample {index + 1}"
