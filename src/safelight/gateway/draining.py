"""What a process that leaves waits for: jobs that run here, and those that are just coming.

Owns the wait of a drain. A job that is being leased to this process in a transaction is no task
yet, but its lease may be in the books already: leaving it would have another process buy it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class Draining:
    """Knows which jobs are being leased to this process."""

    def __init__(self) -> None:
        self._coming: set[asyncio.Future[None]] = set()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Hold a drain up: a job is being leased to this process, and is started right after."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coming.add(over)
        try:
            yield
        finally:
            self._coming.discard(over)
            over.set_result(None)

    async def wait(
        self, running: Callable[[], Iterable[asyncio.Task[None]]], seconds: float
    ) -> None:
        """Return when nothing runs and nothing comes any more, or the time is over.

        Args:
            running: gives the jobs that run at that moment.
            seconds: how long it may take.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (under_way := {*self._coming, *running()}) and loop.time() < until:
            await asyncio.wait(under_way, timeout=until - loop.time())
