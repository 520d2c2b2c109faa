"""The reaper: no hold outlives its job, and no job its deadline by more than a grace.

Owns three looks at the open jobs. One whose deadline has passed, and which its owner does not end,
is ended and released, whoever owns it. One that is leased to this process and does not run here is
taken up (its acceptance or takeover was written, but the answer to the commit was lost). One that
runs here and has ended elsewhere is stopped.

How long a job has been open is measured by this process's own watching, in monotonic seconds in
which it really looked: so a wall clock that jumps forward fails no running job, one that jumps back
keeps no hold alive, and after a time without the database whoever holds a picture settles first.
Only a job whose owner is dead, or that waits in the queue, is judged by its deadline on the wall
clock; nobody else is left who could know better.

A job that its customer has cancelled while a call was out is looked at again here: it ends as soon
as no call is, in whichever process it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

import msgspec

from safelight import attempts, jobs, owners
from safelight.db import Transaction
from safelight.gateway import Gateway, ending, failures
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.recovery import Recovery
from safelight.gateway.spooling import Left, newest_answer
from safelight.owners import OpenJob
from safelight.types import Job

log = logging.getLogger("safelight.recovery")

LOOK_S = 5.0
"""How often the reaper looks."""
GRACE_S = 30.0
"""How long after its deadline a job may take to end: to verify, to store, to write."""
ORPHAN_S = 15.0
"""How long a job of this process may not run here: an acceptance starts it in milliseconds."""
PAGE = 100
"""Most jobs that are ended in one transaction."""
QUEUED_MAX = 1000
"""Most jobs that are ended in the queue at one look."""


class _Watched(msgspec.Struct, frozen=True):
    """Since when the reaper has seen a job open, on its own count of seconds watched."""

    epoch: int
    since: float


class Reaper:
    """Watches the open jobs for one process.

    Args:
        gateway: knows what runs here.
        parts: rooms below.
        processes: says who is dead, and this process's name.
        recovery: takes over what shall be run.
    """

    def __init__(
        self, gateway: Gateway, parts: Parts, processes: Processes, recovery: Recovery
    ) -> None:
        self._gateway = gateway
        self._parts = parts
        self._processes = processes
        self._recovery = recovery
        self._looked_at = float("-inf")
        self._seconds = 0.0
        self._watched: dict[str, _Watched] = {}
        self._idle: dict[str, float] = {}
        self._gone: frozenset[str] = frozenset()

    async def look(self) -> None:
        """Look once; what needs to be done is done when this returns."""
        if not self._gateway.accepting:
            return  # who drains begins nothing
        # Listed before the open jobs are read: see SpoolFolder.left.
        left = await asyncio.to_thread(self._parts.spool.left)
        running = self._gateway.running_ids
        found, dead, now_ms = await self._parts.db.read(self._read)
        self._watch(found)
        await self._stop_ended(running & self._gateway.running_ids - {job.id for job in found})
        orphans = self._orphans(found, running)
        overdue = {job.id for job in found if self._overdue(job, dead, now_ms)}
        for job in found:
            if job.unwanted:
                await self._gateway.cancelling.finish(job.id)
        answered = {
            job.id
            for job in found
            if job.id in overdue and job.owner in dead and newest_answer(left.get(job.id, ()))
        }
        await self._take_up([job for job in found if job.id in orphans | answered], left)
        late = [job for job in found if job.id in overdue - orphans - answered]
        before_ms = now_ms - round(GRACE_S * 1000)
        queued = partial(owners.overdue_in_queue, before_ms=before_ms, limit=QUEUED_MAX)
        late += await self._parts.db.read(queued)
        for start in range(0, len(late), PAGE):
            await self._end(late[start : start + PAGE])
        await self._close_calls(before_ms)

    # --- watching ------------------------------------------------------------------------------

    def _read(self, tx: Transaction) -> tuple[list[OpenJob], set[str], int]:
        found = owners.open_jobs(tx)
        known = {job.owner for job in found}
        dead = {owner for owner in known if not self._processes.alive(tx, owner)}
        return found, dead, tx.now_ms

    def _watch(self, found: Iterable[OpenJob]) -> None:
        now = self._parts.clock.monotonic()
        # What passed while nobody looked does not count, were it a pause or a lost database.
        self._seconds += min(now - self._looked_at, 2 * LOOK_S)
        self._looked_at = now
        watched = {}
        for job in found:
            before = self._watched.get(job.id)
            if before is None:
                before = _Watched(job.epoch, self._seconds)
            elif before.epoch != job.epoch:
                # Its new owner shall have the grace, to end it: no more, or holds would add up.
                since = max(before.since, self._seconds - job.planned_s)
                before = _Watched(job.epoch, since)
            watched[job.id] = before
        self._watched = watched

    def _overdue(self, job: OpenJob, dead: set[str], now_ms: int) -> bool:
        if job.owner in dead:
            return now_ms > job.deadline_at + GRACE_S * 1000
        return self._seconds - self._watched[job.id].since > job.planned_s + GRACE_S

    def _orphans(self, found: Iterable[OpenJob], running: frozenset[str]) -> set[str]:
        """Return the jobs of this process that have not run here for a while."""
        here = running | self._gateway.running_ids
        mine = {job.id for job in found if job.owner == self._processes.owner} - here
        self._idle = {job_id: self._idle.get(job_id, self._seconds) for job_id in mine}
        return {one for one, since in self._idle.items() if self._seconds - since >= ORPHAN_S}

    # --- doing ---------------------------------------------------------------------------------

    async def _stop_ended(self, gone: frozenset[str]) -> None:
        """Stop runs of jobs that ended elsewhere; at the second look, for most end themselves."""
        twice, self._gone = sorted(gone & self._gone), gone
        for start in range(0, len(twice), owners.ASK_MAX):
            ended = partial(jobs.among, job_ids=twice[start : start + owners.ASK_MAX], ended=True)
            for job in await self._parts.db.read(ended):
                self._gateway.ended_elsewhere(job)

    async def _take_up(self, found: list[OpenJob], left: Left) -> None:
        """Run jobs that nobody runs, or whose answer is there; past the deadline that ends them."""
        for one in found:
            job = await self._parts.db.read(partial(jobs.get_job, job_id=one.id))
            if job is not None and job.epoch == one.epoch:
                own = self._parts.spool.own(job.id) if one.owner == self._processes.owner else ()
                files = {job.id: [*left.get(job.id, ()), *own]}
                log.warning("took up a job that nobody runs", extra={"job_id": job.id})
                await self._recovery.take([(one.owner, job)], files)

    async def _close_calls(self, before_ms: int) -> None:
        """Close the attempts of jobs that ended long ago: who made them died just then.

        If not, and the call ends after all, its end is journalled over this.
        """
        for job_id in await self._parts.db.read(partial(attempts.left_open, before_ms=before_ms)):
            await self._parts.db.write(partial(attempts.lose, job_id=job_id))

    async def _end(self, late: list[OpenJob]) -> None:
        """Fail and release jobs: taken over first, for a failure counts from the owner only."""
        ids = {one.id: self._parts.new_id("tr") for one in late}

        def end(tx: Transaction) -> list[Job]:
            ended = (self._release(tx, one, ids[one.id]) for one in sorted(late, key=_by_id))
            return [job for job in ended if job is not None]

        ended = await self._parts.db.write(end)
        self._parts.news.set()
        for job in ended:
            log.warning("ended a job past its deadline", extra={"job_id": job.id})
            self._parts.notes.ended(job)
            self._gateway.ended_elsewhere(job)

    def _release(self, tx: Transaction, one: OpenJob, transfer_id: str) -> Job | None:
        job = jobs.get_job(tx, one.id)
        if job is None or job.epoch != one.epoch:
            return None  # it ended, or was taken over, a moment ago
        if not jobs.take_over(tx, job, dead=one.owner, owner=self._processes.owner):
            return None
        mine = msgspec.structs.replace(job, epoch=job.epoch + 1)
        ending.release(tx, mine, failures.out_of_time(), transfer_id=transfer_id)
        return jobs.get_job(tx, one.id)


def _by_id(job: OpenJob) -> str:
    return job.id
