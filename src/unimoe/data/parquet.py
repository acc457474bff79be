"""Parquet files of samples: the columns of the released rows.

In:  a file with the columns id, conversations (a list of {from, value}), images, audios, ...
Out: its rows by number, for a `Manifest`. Cells that are null are keys left out.
The columns stay in the file, mapped into memory as far as Parquet's compression allows.
"""

from pathlib import Path
from typing import Any

from unimoe.errors import DataError


class ParquetRows:
    """Rows of one file.

    Raises:
        DataError: no Parquet, damaged, or pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise DataError(
                f"{path}: reading Parquet needs pyarrow. Run pip install 'unimoe[data]', or write "
                "the samples as .jsonl"
            ) from error
        self._path = path
        try:
            self._table = parquet.read_table(path, memory_map=True)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: no Parquet file ({error}). Write it again") from error

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def row(self, index: int) -> object:
        """The row as one of a JSON file."""
        row: dict[str, Any] = self._table.slice(index, 1).to_pylist()[0]
        if isinstance(row.get("traits"), dict):
            # A struct has all traits of the file in every row; a map comes as pairs.
            row["traits"] = {k: v for k, v in row["traits"].items() if v is not None}
        elif row.get("traits"):
            row["traits"] = dict(row["traits"])
        return {key: value for key, value in row.items() if value is not None}

    def place(self, index: int) -> str:
        """Where it stands, for messages."""
        return f"{self._path}, row {index + 1}"
