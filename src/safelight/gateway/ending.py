"""How a job ends without a picture: failed, its attempts closed, its price given back, at once.

Owns that one transaction's steps, for whoever ends a job: its own run, or the reaper. The end with
a picture has one caller and stays with it (`running`).
"""

from __future__ import annotations

from safelight import attempts, budgets, jobs, ledger
from safelight.db import Transaction
from safelight.types import Job, JobFailure


def release(tx: Transaction, job: Job, failure: JobFailure, *, transfer_id: str) -> bool:
    """End a job as failed and give its hold back; False when its epoch is not the current one.

    Args:
        tx: a transaction that may write.
        job: as its owner knows it: only from the current epoch a failure is taken.
        failure: its last word; the code is the reason on the statement.
        transfer_id: made before the transaction.
    """
    if not jobs.fail(tx, job, failure):
        return False
    attempts.lose(tx, job.id)
    ledger.release(
        tx,
        transfer_id=transfer_id,
        reserve_id=job.reserve_id,
        actor="gateway",
        reason=failure.code or failure.type,
    )
    budgets.give_back(tx, key_id=job.key_id, amount_micros=job.price_micros, day=job.budget_day)
    return True
