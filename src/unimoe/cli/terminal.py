"""What commands share: a model is loaded, and something is told on stderr."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unimoe.infer.session import OmniInference


@contextlib.contextmanager
def waiting(message: str) -> Iterator[None]:
    """A sign of life on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(message) if console.is_terminal else contextlib.nullcontext():
        yield


def load(model: str, device: str, dtype: str) -> "OmniInference":
    """A session with the model, and a sign of life until it is there."""
    with waiting(f"loading {model}"):
        from unimoe.infer.session import OmniInference

        return OmniInference(model, device_map=device, dtype=dtype)


def report_line(message: str) -> None:
    """One line, whatever the message looks like."""
    print("unimoe:", " ".join(message.split()), file=sys.stderr)
