"""Continue or release what a dead process left.

Runs before a process accepts anything, and then every few seconds: so a restart goes on at once,
and where several processes serve the folder a living one does. Every open job whose process is dead
is taken over under a new epoch, by one process only; a complete answer in the spool is adopted,
without another purchase; otherwise the job is run again, or, past its deadline, released.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from safelight import attempts, jobs
from safelight.db import Transaction
from safelight.gateway import Gateway
from safelight.gateway.calling import Answer
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.spooling import newest_answer, salvage
from safelight.types import Job

log = logging.getLogger("safelight.recovery")


async def recover(gateway: Gateway, parts: Parts, processes: Processes) -> int:
    """Take over every open job of a dead process and start it; return how many were taken."""
    left = await asyncio.to_thread(parts.spool.left)
    leases = await parts.db.read(jobs.lease_owners)
    dead = {owner for owner in leases if not processes.alive(owner)} | processes.dead()
    if not dead and not left:
        return 0
    if dead:
        await parts.db.write(lambda tx: jobs.detach_callers_of(tx, dead))
    orphans, still_open = await parts.db.read(
        lambda tx: (jobs.open_jobs_of(tx, dead), jobs.open_job_ids(tx))
    )
    taken = 0
    for owner, job in orphans:
        taken += await _continue(gateway, parts, processes, job, owner, left.get(job.id, ()))
    await asyncio.to_thread(parts.spool.sweep, left, still_open)
    for owner in dead:
        processes.forget(owner)
    if taken:
        log.warning("took over open jobs of dead processes", extra={"jobs": taken})
    return taken


async def _continue(
    gateway: Gateway,
    parts: Parts,
    processes: Processes,
    job: Job,
    dead: str,
    files: Collection[Path],
) -> bool:
    """Take one job over and start it; False when another process was faster."""
    salvaged = await asyncio.to_thread(_salvaged, files)

    def take(tx: Transaction) -> Job | None:
        if not jobs.take_over(tx, job, dead=dead, owner=processes.owner):
            return None
        if salvaged is not None:
            # What it cost is not known any more: its usage went with the process.
            attempts.receive(tx, job.id, salvaged.epoch, salvaged.k, salvaged.received)
        attempts.lose(tx, job.id)
        return jobs.get_job(tx, job.id)

    mine = await parts.db.write(take)
    if mine is None:
        return False
    parts.spool.adopt(job.id, files)
    gateway.start(mine, live=False, answer=salvaged)
    return True


def _salvaged(files: Collection[Path]) -> Answer | None:
    path = newest_answer(files)
    if path is None:
        return None
    try:
        return Answer(*salvage(path))
    except FileNotFoundError:  # another process has finished the job
        return None
