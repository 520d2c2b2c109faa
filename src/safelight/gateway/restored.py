"""The first start after a restore: jobs that were open in the backup end free.

Owns that decision. A job that was open when the backup was taken has gone on since, in books that
are lost: it may have been bought, delivered and charged there. To run it again would buy a picture
that nobody waits for; to charge for it would be a guess. So its hold is given back, with a reason
of its own on the statement, and whoever still wants the picture orders it. No other line is
written: pictures that the backup does not know are nobody's debt. Open batches are cancelled.
"""

from __future__ import annotations

import logging

from safelight import batches, jobs
from safelight.db import Transaction
from safelight.gateway import ending
from safelight.gateway.parts import Parts
from safelight.types import Job, JobFailure

log = logging.getLogger("safelight.recovery")

REASON = "restored_from_backup"


async def release_open_jobs(parts: Parts, *, until_ms: int) -> int:
    """End every job that is open and was accepted by then; return how many.

    Safe to run again, and beside another process that does the same.
    """
    # Before the jobs, or a batch would order anew what it cannot know to be bought.
    await parts.db.write(lambda tx: batches.cancel_open(tx, until_ms=until_ms))
    released = 0
    for job_id in await parts.db.read(lambda tx: jobs.open_job_ids(tx, until_ms=until_ms)):
        transfer_id = parts.new_id("tr")

        def end(
            tx: Transaction, job_id: str = job_id, transfer_id: str = transfer_id
        ) -> Job | None:
            job = jobs.get_job(tx, job_id)
            if job is None or not ending.release(tx, job, _failure(), transfer_id=transfer_id):
                return None
            return jobs.get_job(tx, job_id)

        ended = await parts.write(end, job_id=job_id)
        if ended is not None:
            parts.notes.ended(ended)
            released += 1
    if released:
        log.warning("released jobs that were open in the backup", extra={"jobs": released})
    return released


def _failure() -> JobFailure:
    return JobFailure(
        status=503,
        type="service_unavailable_error",
        code=REASON,
        message="The gateway was restored from a backup that was taken before this job ended. "
        "Nothing was charged; send the request again.",
        should_retry=True,
    )
