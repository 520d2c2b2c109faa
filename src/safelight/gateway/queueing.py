"""Queued jobs: from the backlog into a run of this process.

Owns what happens between a reminder and a run: waiting for room, the update that takes the job, its
run, and the reminders themselves: they are given to the engine after the commit, and a sweep gives
those that were lost. The row decides: a job that does not wait any more is left alone, so a
reminder may come late, twice or in several processes at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from safelight import backlog, jobs
from safelight.db import Transaction
from safelight.engine import Engine, Work
from safelight.errors import Unavailable
from safelight.gateway import Gateway
from safelight.gateway.parts import UNTIL_CANCELLED, Parts
from safelight.gateway.processes import Processes
from safelight.types import Job

log = logging.getLogger("safelight.queue")

SWEEP_S = 60.0
"""How often it is looked for jobs whose reminder was lost."""
SETTLING_MS = 5_000
"""A job that came less long ago is being reminded of just now."""
PAGE = 500
FULL_S = 1.0
"""How often a job looks again whether there is room, or its key may run another."""


def key(job_id: str) -> str:
    """Return the key of a job's reminder."""
    return f"job:{job_id}"


class Queueing:
    """Runs queued jobs in one process.

    Args:
        gateway: runs a job that was taken.
        parts: rooms below.
        processes: this process's name for leases.
        engine: keeps the reminders.
        width: most queued jobs that run here at one time.
    """

    def __init__(
        self,
        gateway: Gateway,
        parts: Parts,
        processes: Processes,
        engine: Engine,
        *,
        width: int,
    ) -> None:
        self._gateway = gateway
        self._parts = parts
        self._processes = processes
        self._engine = engine
        self._slots = asyncio.Semaphore(width)
        self._reminded: set[str] = set()
        """Of the jobs in the backlog those whose reminder is known to be with the engine."""
        self._reminding: set[asyncio.Task[None]] = set()
        self._swept = False

    # --- reminders -------------------------------------------------------------------------------

    def remind(self, placed: Iterable[Job]) -> None:
        """Have jobs looked at that were placed a moment ago; what fails, the sweep repeats."""
        works = [
            _work(job.id, job.customer_id, job.priority, self._delay_s(job.not_before))
            for job in placed
        ]
        task = asyncio.create_task(self._enqueue(works), name="remind")
        self._reminding.add(task)
        task.add_done_callback(self._reminding.discard)

    async def _enqueue(self, works: list[Work]) -> None:
        try:
            await self._engine.enqueue(works)
        except Unavailable as error:
            log.warning("jobs not put into the queue yet", extra={"reason": error.message})
            return
        self._reminded.update(work.item for work in works)

    async def forget(self, job_id: str) -> None:
        """Take the reminder of a cancelled job back; it would do no harm."""
        try:
            await self._engine.withdraw([key(job_id)])
        except Unavailable as error:
            log.info("reminder not withdrawn", extra={"reason": error.message})

    async def sweep(self) -> int:
        """Remind of all waiting jobs whose reminder may have been lost; return of how many."""
        seen: set[str] = set()
        found, after = 0, (0, "")
        # At the start nothing was placed here yet: what a killed process left a moment ago counts.
        until_ms = self._parts.clock.now_ms() - (SETTLING_MS if self._swept else 0)
        self._swept = True
        while True:
            look = partial(backlog.page, after=after, until_ms=until_ms, limit=PAGE)
            page = await self._parts.db.read(look)
            seen.update(one.id for one in page)
            lost = [one for one in page if one.id not in self._reminded]
            if lost:
                await self._engine.enqueue(
                    _work(one.id, one.customer_id, one.priority, self._delay_s(one.not_before))
                    for one in lost
                )
                self._reminded.update(one.id for one in lost)
                found += len(lost)
            if len(page) < PAGE:
                break
            after = (page[-1].created_at, page[-1].id)
        self._reminded &= seen
        return found

    def _delay_s(self, not_before: int | None) -> float:
        return 0.0 if not_before is None else max(0, not_before - self._parts.clock.now_ms()) / 1000

    # --- running ---------------------------------------------------------------------------------

    async def run(self, job_id: str) -> None:
        """Run a job if it waits; return when it runs here no more.

        A process that drains takes none, and keeps the reminder until it is stopped.
        """
        async with self._slots:
            taken = await self._take_when_there_is_room(job_id)
            if taken is None:
                return
            job, left_s = taken
            await asyncio.wait({self._gateway.start(job, live=False, left_s=left_s)})

    async def _take_when_there_is_room(self, job_id: str) -> tuple[Job, float] | None:
        while True:
            if not self._gateway.accepting:
                await asyncio.Event().wait()
            waiting = await self._read(job_id)
            if waiting is None:
                return None
            wait_s = self._delay_s(waiting.not_before)
            if not wait_s and self._gateway.room > 0 and self._gateway.accepting:
                with self._gateway.draining.coming():
                    taken = await self._take(job_id)
                if taken is not None:
                    return taken
                if await self._read(job_id) is None:
                    return None
            await asyncio.sleep(max(wait_s, FULL_S))

    async def _read(self, job_id: str) -> backlog.Waiting | None:
        while True:
            try:
                return await self._parts.db.read(partial(backlog.find, job_id=job_id))
            except Unavailable as error:
                log.warning("queued job put off", extra={"reason": error.message})
                await asyncio.sleep(FULL_S)

    async def _take(self, job_id: str) -> tuple[Job, float] | None:
        """Take the job; None when it waits no more, or its key runs as many as it may."""
        owner, limits = self._processes.owner, self._gateway.limits

        def take(tx: Transaction) -> tuple[Job, float] | None:
            job = jobs.get_job(tx, job_id)
            if job is None or not limits.may_run_another(tx, job.key_id):
                return None
            if not backlog.take(tx, job_id, owner=owner):
                return None
            mine = jobs.get_job(tx, job_id)
            assert mine is not None
            return mine, (mine.deadline_at - tx.now_ms) / 1000

        return await self._parts.write(take, job_id=job_id, tries=UNTIL_CANCELLED)


def _work(job_id: str, customer_id: str, priority: int, delay_s: float) -> Work:
    return Work(
        queue="jobs",
        item=job_id,
        key=key(job_id),
        partition=customer_id,
        priority=priority,
        delay_s=delay_s,
    )
