"""The environment a training process has to be born with.

glibc gives large blocks back to the system at every free, so each step would touch new pages:
keeping them saves up to a third of a step (docs/log.md). It reads its settings once, before Python
begins, so the process is replaced by itself.
"""

import os
import platform
import sys

_KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 29),
}


def restart_keeping_pages() -> None:
    """Start this very command again with those settings; returns if it has any of them already.

    Call it before anything else has been done.
    """
    is_glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    if is_glibc and not any(name in os.environ for name in _KEEP_PAGES):
        os.environ.update(_KEEP_PAGES)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
