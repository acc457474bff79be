"""The folder of an evaluation: enough to continue it, to check it and to judge it again.

    eval.json              what was asked of whom: model, options, tasks, data hashes, versions
    <name>.jsonl           one line an item: prompt, expected, got, correct, routing
    <name>.windows.jsonl   one line for every so many items: seconds and expert use
    scores.json, report.md, expert_use.json

In and out: `ItemRecord`, `WindowRecord`.  Items count once the line of their window is written: an
interrupted window is asked again as a whole, and so gives the same bits as an uninterrupted one.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unimoe.errors import DataError, RequestError
from unimoe.infer.expert_use import ExpertUseRecord

MANIFEST_NAME = "eval.json"
_MUST_AGREE = ("format", "model", "options")
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemRecord:
    """One question and what became of it."""

    id: str
    kind: str
    """The sample's `task`."""
    traits: Mapping[str, str] = field(default_factory=dict)
    prompt: str
    """As in the sample; `<image>` and the like stand where its media stood."""
    media: tuple[str, ...] = ()
    expected: tuple[str, ...]
    got: str
    correct: bool
    errors: int
    units: int
    prompt_tokens: int = 0
    new_tokens: int = 0
    finish_reason: str | None = None
    experts_per_token: float | None = None
    null_share: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRecord:
    """Some items that were asked together."""

    num_items: int
    seconds: float
    expert_use: ExpertUseRecord | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """All that a task has so far."""

    items: tuple[ItemRecord, ...] = ()
    windows: tuple[WindowRecord, ...] = ()

    @property
    def seconds(self) -> float:
        """Spent on them."""
        return sum((window.seconds for window in self.windows), 0.0)


class EvalFolder:
    """Reads and writes the folder of one evaluation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(
        self,
        *,
        model: Mapping[str, Any],
        options: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        """Start an evaluation, or go on with this very one.

        Args:
            model: who is asked.
            options: all that changes answers beside the tasks.
            about: versions, machine, command: kept of the first start, not compared.

        Raises:
            RequestError: the folder holds an evaluation of something else.
        """
        manifest = {"format": _FORMAT, "model": dict(model), "options": dict(options), **about}
        if not (self.path / MANIFEST_NAME).exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_json(MANIFEST_NAME, manifest | {"tasks": {}})
            return
        before = self.manifest()
        for key in _MUST_AGREE:
            now = json.loads(json.dumps(manifest[key]))
            if before.get(key) != now:
                raise RequestError(
                    f"{self.path} holds an evaluation with another {key}: {before.get(key)}, and "
                    f"now {now}; name another --out, or remove it"
                )

    def manifest(self) -> dict[str, Any]:
        """What stands in eval.json.

        Raises:
            RequestError: there is none.
        """
        path = self.path / MANIFEST_NAME
        try:
            manifest = json.loads(path.read_bytes())
        except OSError as error:
            raise RequestError(f"{path}: {error.strerror}; need the --out of an eval") from error
        except ValueError as error:
            raise DataError(f"{path}: no JSON ({error}); evaluate anew") from error
        if not isinstance(manifest, dict):
            raise DataError(f"{path}: need an object; evaluate anew")
        return manifest

    def begin_task(self, name: str, about: Mapping[str, Any]) -> None:
        """Note a task and its data.

        Raises:
            RequestError: it was begun with other data or settings.
        """
        manifest = self.manifest()
        now = json.loads(json.dumps(about))
        before = manifest["tasks"].setdefault(name, now)
        if before != now:
            changed = [key for key in now if before.get(key) != now[key]]
            raise RequestError(
                f"{self.path}: task {name} was begun with another {', '.join(changed)}; "
                "name another --out, or remove its files"
            )
        self._write_json(MANIFEST_NAME, manifest)

    def read(self, name: str) -> Records:
        """What is complete of a task."""
        windows = [WindowRecord(**row) for row in _lines(self._windows_path(name))]
        items = [_item(row) for row in _lines(self._items_path(name))]
        num_items = sum(window.num_items for window in windows)
        if num_items > len(items):
            raise DataError(
                f"{self._items_path(name)} has {len(items)} items, its windows count {num_items}; "
                "remove both files and evaluate anew"
            )
        return Records(items=tuple(items[:num_items]), windows=tuple(windows))

    def append(self, name: str, items: Sequence[ItemRecord], window: WindowRecord) -> None:
        """Add a window, in place of what an interrupted one may have left."""
        before = self.read(name)
        self.rewrite(name, (*before.items, *items))
        text = "".join(_line(record) for record in (*before.windows, window))
        self._write(self._windows_path(name).name, text)

    def rewrite(self, name: str, items: Sequence[ItemRecord]) -> None:
        """Put these items in place of those that are there, as when they are judged again."""
        self._write(self._items_path(name).name, "".join(_line(item) for item in items))

    def write_report(self, report: str, scores: object) -> None:
        """The outcome, for people and for programs."""
        self._write("report.md", report)
        self._write_json("scores.json", scores)

    def write_expert_use(self, record: ExpertUseRecord) -> None:
        """What `unimoe plot router` draws."""
        self._write_json("expert_use.json", record)

    def write_result(self, name: str, value: object) -> None:
        """The outcome of something that has no items, such as a perplexity."""
        self._write_json(f"{name}.json", value)

    def result(self, name: str) -> Any:
        """It, or None."""
        path = self.path / f"{name}.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def _items_path(self, name: str) -> Path:
        return self.path / f"{name}.jsonl"

    def _windows_path(self, name: str) -> Path:
        return self.path / f"{name}.windows.jsonl"

    def _write_json(self, name: str, value: object) -> None:
        self._write(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all: a killed run leaves the old file."""
        new = self.path / f"{name}.new"
        new.write_text(text, "utf-8", newline="\n")
        new.replace(self.path / name)


def _line(record: ItemRecord | WindowRecord) -> str:
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n"


def _item(row: dict[str, Any]) -> ItemRecord:
    lists = {name: tuple(row[name]) for name in ("media", "expected")}
    return ItemRecord(**{**row, **lists})


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; one that was cut short is none."""
    if not path.exists():
        return []
    *whole, _ = path.read_text("utf-8").split("\n")
    try:
        return [json.loads(line) for line in whole]
    except ValueError as error:
        raise DataError(f"{path}: a line is no JSON ({error}); remove it") from error
