"""A command line from its first word to its exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from unimoe.cli.root import app
from unimoe.cli.terminal import report_line
from unimoe.errors import ConfigError, RequestError, UnimoeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    if arguments is None:
        _share_cores()
        if "train" in sys.argv[1:2]:
            from unimoe.train.environment import restart_keeping_pages

            restart_keeping_pages()
    words = list(sys.argv[1:] if arguments is None else arguments)
    wants_traceback = _take_flag(words, "--debug")
    logging.basicConfig(level=logging.WARNING, format="unimoe: %(message)s")
    try:
        return app(words, prog_name="unimoe", standalone_mode=False) or 0
    except Exception as error:
        if wants_traceback:
            traceback.print_exc()
        message, code = _failure(error)
        report_line(message)
        return code


def _share_cores() -> None:
    """Let threads that wait for each other sleep soon; call it before torch is imported.

    GNU OpenMP has them spin for milliseconds, which on a busy machine takes the core from the very
    thread they wait for (docs/log.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _failure(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, typer.TyperException):
        return f"{error.format_message()} (--help shows what there is)", error.exit_code
    if isinstance(error, RequestError | ConfigError):
        return str(error), 2
    if isinstance(error, UnimoeError):
        return str(error), 1
    # A fault of ours; one line is still better than a page.
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _take_flag(words: list[str], flag: str) -> bool:
    """Remove a flag from wherever it stands before `--`; True if it was there."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != flag]
    was_there = len(kept) < end
    words[:end] = kept
    return was_there
