"""The journal of a run: one JSON object a line, one line a step.

{"step": 12, "loss": 1.5, "text": 1.48, "balance": 1.1, "lr": 0.0003, "tokens_per_second": ...,
 "by_task": {"easy_vqa": 1.2}, "by_modality": {"image": 1.2}, "experts_per_token": 1.3, ...}
{"step": 49, "expert_use": {"image": [[...], ...]}, ...}     of step 49
{"step": 199, "validation": {"easy_vqa": {"text": 1.1, ...}}, ...}
{"step": 77, "event": "rolled back", ...}
{"step": 12, "loss": 1.5, "parts": {"mel": 0.4, ...}, ...}     of a head
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"


class Journal:
    """Appends to the journal of a folder."""

    def __init__(self, folder: Path, *, steps_done: int) -> None:
        """Open it, and drop what is beyond the state that the run goes on from."""
        self.path = folder / NAME
        self._cut(steps_done)
        self._stream = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """One line, at once in the file; a value that is no number becomes null."""
        self._stream.write(json.dumps(_plain(record), allow_nan=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End writing."""
        self._stream.close()

    def _cut(self, steps_done: int) -> None:
        if not self.path.exists():
            return
        kept = [json.dumps(line) for line in read_journal(self.path) if line["step"] < steps_done]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(line + "\n" for line in kept), "utf-8")
        partial.replace(self.path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; a half-written last one, after a kill, is left out."""
    path = path / NAME if path.is_dir() else path
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield json.loads(line)
