"""Durable queues in memory, for several processes in one: see `safelight.engine`.

One `Queues` is what survives; each process has a `MemoryEngine` of its own, which may be stopped or
die. Time is the event loop's, so a simulation plays it in virtual time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass

from safelight.engine import Handler, Queue, Work

log = logging.getLogger("safelight.engine")

WIDTH = 64


@dataclass
class _Entry:
    work: Work
    due: float
    number: int
    held_by: str | None = None
    done: bool = False


class Queues:
    """What is queued, whoever lives."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self.engines: dict[str, MemoryEngine] = {}

    def waiting(self, queue: Queue | None = None) -> list[Work]:
        """Return what has not begun."""
        return [
            one.work
            for one in self.entries.values()
            if not one.done and one.held_by is None and queue in (None, one.work.queue)
        ]

    def bury(self, owner: str) -> None:
        """Let the works of a dead process be begun again by the others."""
        self.engines.pop(owner, None)
        for entry in self.entries.values():
            if entry.held_by == owner:
                entry.held_by = None
        self.poke()

    def poke(self) -> None:
        """Let every living process begin what it has room for."""
        for engine in list(self.engines.values()):
            engine.wake()


class MemoryEngine:
    """One process's way to the queues (see `safelight.engine.Engine`).

    Args:
        queues: what all processes share.
        owner: name of the process.
        handlers: by queue; what is not in it is left to others.
        width: most works of one queue that run here at one time.
    """

    def __init__(
        self,
        queues: Queues,
        owner: str,
        handlers: Mapping[Queue, Handler],
        *,
        width: int = WIDTH,
    ) -> None:
        self._queues = queues
        self._owner = owner
        self._handlers = handlers
        self._width = width
        self._tasks: dict[asyncio.Task[None], _Entry] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._context = copy_context()

    async def enqueue(self, works: Iterable[Work]) -> None:
        now = asyncio.get_running_loop().time()
        for work in works:
            if work.key not in self._queues.entries:
                entry = _Entry(work, now + work.delay_s, len(self._queues.entries))
                self._queues.entries[work.key] = entry
        self._queues.poke()

    async def withdraw(self, keys: Iterable[str]) -> None:
        for key in keys:
            entry = self._queues.entries.get(key)
            if entry is not None and entry.held_by is None:
                entry.done = True

    async def start(self) -> None:
        # What is begun here belongs to this process, whoever has queued it.
        self._context = copy_context()
        self._queues.engines[self._owner] = self
        self.wake()

    async def pause(self) -> None:
        self._queues.engines.pop(self._owner, None)
        self._drop_timers()

    async def stop(self) -> None:
        await self.pause()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queues.bury(self._owner)

    async def look(self) -> None:
        return None

    def wake(self) -> None:
        asyncio.get_running_loop().call_soon(self._look, context=self._context)

    def _look(self) -> None:
        """Begin what there is room for: the lowest priority first, customers in turn."""
        self._drop_timers()
        if self._queues.engines.get(self._owner) is not self:
            return
        loop = asyncio.get_running_loop()
        for queue in self._handlers:
            ready = [
                one
                for one in self._queues.entries.values()
                if one.work.queue == queue and not one.done and one.held_by is None
            ]
            for entry in sorted(ready, key=self._order):
                if entry.due > loop.time():
                    timer = loop.call_at(entry.due, self._look)
                    self._timers[entry.work.key] = timer
                elif self._running(queue) < self._width:
                    self._begin(entry)

    def _order(self, entry: _Entry) -> tuple[int, int, int]:
        mine = [one for one in self._tasks.values() if one.work.partition == entry.work.partition]
        return len(mine), entry.work.priority, entry.number

    def _running(self, queue: Queue) -> int:
        return sum(entry.work.queue == queue for entry in self._tasks.values())

    def _begin(self, entry: _Entry) -> None:
        entry.held_by = self._owner
        task = asyncio.create_task(self._work(entry), name=entry.work.key)
        self._tasks[task] = entry
        task.add_done_callback(self._ended)

    async def _work(self, entry: _Entry) -> None:
        try:
            await self._handlers[entry.work.queue](entry.work.item)
        except Exception:  # an engine repeats nothing: the row's owner looks for what was left
            log.exception("queued work failed", extra={"key": entry.work.key})
        entry.done = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._look()

    def _drop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
