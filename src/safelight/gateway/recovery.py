"""Continue what a dead process left.

Looks before a process accepts anything, and then every few seconds: so a restart goes on at once,
and where several processes serve the database a living one does. An open job of a dead process is
taken over under a new epoch, by one process only; a complete answer in the spool is adopted,
without another purchase; otherwise the job is run again, or, past its deadline, released.

Jobs are taken page by page, each customer's oldest first, and only so many as may wait here for
their turn: a start is ready after the first page, and ten thousand prompts are never in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from safelight import attempts, heartbeats, jobs, owners
from safelight.db import Transaction
from safelight.gateway import Gateway
from safelight.gateway.calling import Answer
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.spooling import Left, newest_answer, salvage
from safelight.types import Job, Stage

log = logging.getLogger("safelight.recovery")

LOOK_S = 5.0
"""How often a process looks for what dead ones left."""
PAGE = 100
"""Most jobs that are taken in one transaction."""
WINDOW = 500
"""Most jobs taken over that are in flight here: enough that no account ever waits for them."""


class Recovery:
    """Takes over for one process.

    Args:
        gateway: runs what is taken.
        parts: rooms below.
        processes: says who is dead, and this process's name for leases.
    """

    def __init__(self, gateway: Gateway, parts: Parts, processes: Processes) -> None:
        self._gateway = gateway
        self._parts = parts
        self._processes = processes
        self._running: set[asyncio.Task[None]] = set()
        self._more = False

    async def look(self) -> int:
        """Take over all that dead processes left; return how many jobs.

        Where that is more than may be in flight here it lasts until the rest has been begun.
        """
        taken = await self.take_page()
        while self._more and self._gateway.accepting:
            if not await self._some_have_ended():
                break
            taken += await self.take_page()
        return taken

    async def take_page(self) -> int:
        """Take over as many jobs as one page and the room here allow; return how many."""
        # Listed before the open jobs are read: see SpoolFolder.left.
        left = await asyncio.to_thread(self._parts.spool.left)
        files = await asyncio.to_thread(self._processes.files.dead)
        dead = await self._parts.db.read(lambda tx: self._dead(tx, files))
        if not dead and not left:
            self._more = False
            return 0
        most = min(PAGE, WINDOW - len(self._running), self._gateway.room)
        found = await self._parts.db.read(lambda tx: jobs.open_jobs_of(tx, dead, limit=most))
        self._more = bool(dead) and len(found) >= most
        taken = await self.take(found, left)
        still_open = await self._parts.db.read(lambda tx: owners.open_among(tx, left))
        await asyncio.to_thread(self._parts.spool.sweep, left, still_open)
        await self._forget(dead)
        if taken:
            log.warning("took over open jobs of dead processes", extra={"jobs": taken})
        return taken

    async def take(self, found: Collection[tuple[str, Job]], left: Left) -> int:
        """Lease these jobs to this process, each under its next epoch, and start them.

        Args:
            found: jobs with the owners that they were seen with. Those that another process has
                taken, or whose owner has shown life since, are left alone.
            left: files by job.
        """
        salvaged = {
            job.id: answer
            for _, job in found
            if job.id in left and (answer := await asyncio.to_thread(_salvaged, left[job.id]))
        }
        with self._gateway.draining.coming():
            now_ms, mine = await self._parts.db.write(lambda tx: self._take(tx, found, salvaged))
            for job in mine:
                self._parts.spool.adopt(job.id, left.get(job.id, ()))
                left_s = (job.deadline_at - now_ms) / 1000
                answer = salvaged.get(job.id)
                task = self._gateway.start(job, live=False, answer=answer, left_s=left_s)
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        return len(mine)

    def _take(
        self,
        tx: Transaction,
        found: Collection[tuple[str, Job]],
        salvaged: Mapping[str, Answer],
    ) -> tuple[int, list[Job]]:
        me, mine = self._processes.owner, []
        gone = {owner for owner, _ in found if owner == me or not self._processes.alive(tx, owner)}
        # In one order everywhere: two survivors that lock the same rows shall not lock each other.
        for owner, job in sorted(found, key=lambda pair: pair[1].id):
            if owner not in gone or not jobs.take_over(tx, job, dead=owner, owner=me):
                continue
            answer = salvaged.get(job.id)
            if answer is not None:
                # What it cost is not known any more: its usage went with the process.
                attempts.receive(tx, job.id, answer.epoch, answer.k, answer.received)
                jobs.advance(tx, job.id, Stage.RECEIVED)
            attempts.lose(tx, job.id)
            taken = jobs.get_job(tx, job.id)
            assert taken is not None
            mine.append(taken)
        return tx.now_ms, mine

    def _dead(self, tx: Transaction, files: set[str]) -> set[str]:
        """Return the dead processes of which anything is left: a job, a row or a file."""
        known = owners.of_open_jobs(tx) | heartbeats.all_beats(tx).keys() | files
        return {owner for owner in known if not self._processes.alive(tx, owner)}

    async def _forget(self, dead: set[str]) -> None:
        """Remove rows and files of dead processes that have no open job any more."""

        def forget(tx: Transaction) -> set[str]:
            leased = owners.of_open_jobs(tx)
            gone = {one for one in dead - leased if not self._processes.alive(tx, one)}
            for owner in sorted(gone):
                heartbeats.remove(tx, owner)
            return gone

        if dead:
            # The file last: without it only the row could tell others that this process is dead.
            for owner in await self._parts.db.write(forget):
                self._processes.files.forget(owner)

    async def _some_have_ended(self) -> bool:
        """Wait until there is room for another page; False when nothing of ours is under way."""
        while min(WINDOW - len(self._running), self._gateway.room) < PAGE:
            if not self._running:
                return False  # others fill the room; the next look will see
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        return True


def _salvaged(files: Collection[Path]) -> Answer | None:
    path = newest_answer(files)
    if path is None:
        return None
    try:
        return Answer(*salvage(path))
    except FileNotFoundError:  # another process has finished the job
        return None
