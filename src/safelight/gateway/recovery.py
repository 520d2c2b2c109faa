"""After a restart: continue or release what an earlier process left.

Runs before anything new is accepted. Every open job is ours (the data folder is locked): it is
taken over under a new epoch; a complete answer in the spool is adopted, without another purchase;
otherwise the job is run again, or, past its deadline, released.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from safelight import jobs
from safelight.db import Transaction
from safelight.gateway import Gateway
from safelight.gateway.running import Answer, Parts
from safelight.gateway.spooling import salvage
from safelight.types import Job

log = logging.getLogger("safelight.recovery")


async def recover(gateway: Gateway, parts: Parts, *, owner: str) -> int:
    """Take over every open job and start it; return how many there were."""

    def begin(tx: Transaction) -> list[Job]:
        jobs.detach_all(tx)
        return jobs.open_jobs(tx)

    left = await parts.db.write(begin)
    answers = await asyncio.to_thread(parts.spool.sweep, {job.id for job in left})
    for job in left:
        await _continue(gateway, parts, job, answers.get(job.id), owner=owner)
    if left:
        log.warning("continued open jobs of an earlier process", extra={"jobs": len(left)})
    return len(left)


async def _continue(
    gateway: Gateway, parts: Parts, job: Job, answer: Path | None, *, owner: str
) -> None:
    salvaged = None if answer is None else await asyncio.to_thread(salvage, answer)

    def take(tx: Transaction) -> Job | None:
        if salvaged is not None:
            received, epoch, k = salvaged
            jobs.receive(tx, job.id, epoch, k, received)
        jobs.lose_attempts(tx, job.id)
        return jobs.take_over(tx, job.id, owner=owner)

    mine = await parts.db.write(take)
    if mine is not None:
        gateway.start(mine, live=False, answer=None if salvaged is None else Answer(*salvaged))
