"""Durable queues: what is to be done later, by whichever process has room for it.

Owns the seam. `durable.py` beside it is the implementation on DBOS, the one module that imports it.
The engine knows no jobs, webhooks or batches: it is told the ids of rows, and calls whoever works
on them. The rows stay the truth. What is queued is a reminder to look at one: it may come late,
twice, or for a row that is done already, and whoever is called must look at the row first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, Protocol

import msgspec

Queue = Literal["jobs", "webhooks", "batches", "storage", "vendor_batches"]
"""One for each kind of work, with a bound of its own on how much of it runs in a process."""

Handler = Callable[[str], Awaitable[None]]
"""Works on the row of an id, in the server's event loop. What it raises is logged; an engine never
repeats by itself what has failed: whoever owns the rows looks for those that were left. One that is
cancelled, because the engine is stopped, is begun again, here or in another process."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One reminder to look at a row.

    Args:
        queue: what kind of row.
        item: the row's id, given to the queue's handler.
        key: of two works with one key, the second is not queued, not even when the first is done.
        partition: works of one partition (a customer's id) take turns with those of the others.
        priority: 1 to 2^31 - 1, the lowest first, among works of one queue.
        delay_s: seconds until it may begin.
    """

    queue: Queue
    item: str
    key: str
    partition: str = ""
    priority: int = 100
    delay_s: float = 0.0


class Engine(Protocol):
    """Durable queues, shared by all processes on one database."""

    async def enqueue(self, works: Iterable[Work]) -> None:
        """Queue works durably; those whose keys are known are left out.

        Raises:
            Unavailable: the engine's database does not answer; some may be queued.
        """
        ...

    async def withdraw(self, keys: Iterable[str]) -> None:
        """Take works out that have not begun; others are left alone."""
        ...

    async def start(self) -> None:
        """Begin to call the handlers."""
        ...

    async def look(self) -> None:
        """Let what dead processes had begun be begun again; called every few seconds.

        Raises:
            Unavailable: the engine's database does not answer.
        """
        ...

    async def pause(self) -> None:
        """Begin no more works; those that run go on. Works are still queued."""
        ...

    async def stop(self) -> None:
        """Begin no more works; those that run are left for another process to begin again."""
        ...
