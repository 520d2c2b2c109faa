"""How a job ends without a picture: its attempts closed, its price given back, at once.

Owns that one transaction's steps, for whoever ends a job: its own run, the reaper, its customer.
The end with a picture has one caller and stays with it (`running`).
"""

from __future__ import annotations

from safelight import attempts, budgets, jobs, ledger
from safelight.db import Transaction
from safelight.gateway import failures, notifying
from safelight.types import Job, JobFailure


def release(tx: Transaction, job: Job, failure: JobFailure, *, transfer_id: str) -> bool:
    """End a job as failed and give its hold back; False when its epoch is not the current one.

    Its webhooks are told; `Parts.news` is to be set after the commit, or they hear a minute later.

    Args:
        tx: a transaction that may write.
        job: as its owner knows it: only from the current epoch a failure is taken.
        failure: its last word; the code is the reason on the statement.
        transfer_id: made before the transaction.
    """
    if not jobs.fail(tx, job, failure, cancelled=failures.cancelled()):
        return False
    ended = jobs.get_job(tx, job.id)
    assert ended is not None
    assert ended.failure is not None
    failure = ended.failure
    attempts.lose(tx, job.id)
    ledger.release(
        tx,
        transfer_id=transfer_id,
        reserve_id=job.reserve_id,
        actor="gateway",
        reason=failure.code or failure.type,
    )
    budgets.give_back(tx, key_id=job.key_id, amount_micros=job.price_micros, day=job.budget_day)
    notifying.job_ended(tx, job)
    return True


def cancel(tx: Transaction, job: Job, *, transfer_id: str) -> Job:
    """Let no further attempt be made for a job; end it now if no call for it is under way.

    A call that is out cannot be called back: its picture, if it comes, is delivered and charged.
    Otherwise the job ends as cancelled, whoever ends it.

    Args:
        tx: a transaction that may write.
        job: the job as it was found; one that has ended stays as it is.
        transfer_id: made before the transaction.

    Returns:
        The job as it is now.
    """
    # The row first: whoever journals an attempt waits for it, or has done so and is seen below.
    open_still = jobs.request_cancel(tx, job.id)
    now = jobs.get_job(tx, job.id)
    assert now is not None
    if not open_still or attempts.under_way(tx, job.id):
        return now
    release(tx, now, failures.cancelled(), transfer_id=transfer_id)
    ended = jobs.get_job(tx, job.id)
    assert ended is not None
    return ended
