"""Work that goes on beside the orders: looks, probes, tidying.

Owns the tasks and their pauses; knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("safelight.background")


class Background:
    """Tasks of one process, from its start to its stop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, name: str, work: Callable[[], Awaitable[object]], *, pause_s: float) -> None:
        """Do `work` again and again, each time `pause_s` seconds after its last end.

        An error is logged and ends that one time only.
        """
        self._tasks.append(asyncio.create_task(_again_and_again(name, work, pause_s), name=name))

    async def stop(self) -> None:
        """End all work, in the midst of it if need be."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _again_and_again(
    name: str, work: Callable[[], Awaitable[object]], pause_s: float
) -> None:
    while True:
        await asyncio.sleep(pause_s)
        try:
            await work()
        except Exception:  # orders are served whether or not this goes well
            log.exception("background work failed", extra={"work": name})
