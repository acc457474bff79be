"""How far a long preparation is, told every half minute.

In:  how many of how many are done.  Out: a line in the log: what, how many, how long it will take.
"""

from __future__ import annotations

import logging
import time

_TOLD_EVERY_S = 30.0


class Countdown:
    """Tells now and then how much is left."""

    def __init__(self, what: str, total: int, logger: logging.Logger) -> None:
        """Begin now.

        Args:
            what: is counted, such as "prompts".
            total: of them.
            logger: where it is told, as information.
        """
        self._what, self._total, self._logger = what, total, logger
        self._began = self._told = time.monotonic()

    def at(self, done: int) -> None:
        """So many are done by now."""
        now = time.monotonic()
        if now - self._told < _TOLD_EVERY_S or not done:
            return
        self._told = now
        left_s = (now - self._began) / done * (self._total - done)
        message = "%s: %d of %d, %.0f s left"
        self._logger.info(message, self._what, done, self._total, left_s)
