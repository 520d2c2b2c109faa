"""What DBOS logs, in our log: faults only, each once in a while.

Owns the way from its logger to ours. It tells of every look that fails, in each of its threads,
twice a second while its database is away; nobody reads that, and nothing else.
"""

from __future__ import annotations

import logging
import time

log = logging.getLogger("safelight.engine")

LOGGER = "dbos"
QUIET_S = 60.0
"""The same complaint is not repeated for so long."""
KNOWN_MAX = 100
WORDS_MAX = 60
"""Complaints that begin with the same words are the same."""
OF_STOPPING = ("Asyncio task cancelled", "Error executing workflow")
"""What it says of works that are left when a process stops; the engine puts them back."""


class Chatter(logging.Handler):
    """Takes the records of DBOS."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a complaint on unless it was heard a moment ago."""
        text = " ".join(record.getMessage().split())
        now = time.monotonic()
        mark = text[:WORDS_MAX]
        if text.startswith(OF_STOPPING) or now - self._said.get(mark, float("-inf")) < QUIET_S:
            return
        if len(self._said) >= KNOWN_MAX:
            self._said.clear()
        self._said[mark] = now
        log.log(record.levelno, "%s", text[:500])


def redirect() -> None:
    """Let DBOS log through ours alone; before it is made, or it logs to the console."""
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [Chatter()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
