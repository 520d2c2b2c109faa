"""Work that goes on beside the orders: looks, probes, tidying.

Owns the tasks and their pauses; knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from safelight.errors import Unavailable

log = logging.getLogger("safelight.background")


class Background:
    """Tasks of one process, from its start to its stop."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def run(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        pause_s: float,
        at_once: bool = False,
    ) -> None:
        """Do `work` again and again, each time `pause_s` seconds after its last end.

        The first time after a pause too, or `at_once`. An error is logged and ends that one time
        only.
        """
        first_s = 0.0 if at_once else pause_s
        task = asyncio.create_task(_again_and_again(name, work, first_s, pause_s), name=name)
        self._tasks.append(task)

    async def stop(self) -> None:
        """End all work, in the midst of it if need be."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _again_and_again(
    name: str, work: Callable[[], Awaitable[object]], first_s: float, pause_s: float
) -> None:
    await asyncio.sleep(first_s)
    while True:
        try:
            await work()
        except Unavailable as error:  # the database is away: no fault of the work
            log.warning("background work put off", extra={"work": name, "reason": error.message})
        except Exception:  # orders are served whether or not this goes well
            log.exception("background work failed", extra={"work": name})
        await asyncio.sleep(pause_s)
