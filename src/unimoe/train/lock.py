"""One process at a time: a lock that dies with its process, however that ends."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from unimoe.errors import UnimoeError


def held_lock(path: Path, error: type[UnimoeError]) -> IO[bytes]:
    """Take the lock; it is held until what is returned is closed.

    Raises:
        UnimoeError: of the given type: another process holds it.
    """
    stream = path.open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as taken:
        stream.close()
        raise error(
            f"{path.parent}: another process is writing here; wait for it, or give another folder"
        ) from taken
    return stream
