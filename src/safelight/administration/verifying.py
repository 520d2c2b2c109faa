"""Verifications that operators ask for: begun by a call, ended whether the caller waits or not.

Owns the one that is under way in this process. What is looked at is `gateway.verification`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from safelight.administration.deeds import Deeds
from safelight.gateway.verification import Report

log = logging.getLogger("safelight.verify")


class Verifying:
    """Runs verifications for one process, one at a time."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Report] | None = None

    @property
    def running(self) -> bool:
        """Whether one is under way that was asked for here."""
        return self._task is not None and not self._task.done()

    async def run(self, deeds: Deeds, *, within_s: float) -> bool:
        """Verify in somebody's name; return whether it has ended within that time.

        Raises:
            Conflict: one is under way here.
        """
        task = asyncio.create_task(deeds.verify(), name="verify on request")
        if not self.running:
            self._task = task
        await asyncio.wait({task}, timeout=within_s)
        if not task.done():
            task.add_done_callback(_tell)
            return False
        task.result()
        return True

    async def stop(self) -> None:
        """End it: the next one looks at all of it again."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def _tell(task: asyncio.Task[Report]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a verification that was asked for failed", exc_info=error)
