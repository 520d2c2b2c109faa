"""Cancelling a job: at once where nothing was bought, otherwise no attempt more.

Owns the one transaction of it and what follows in this process; `ending` has its steps. What runs
in another process is told by the row: it is read before each attempt leaves.
"""

from __future__ import annotations

from collections.abc import Callable

from safelight import jobs
from safelight.db import Transaction
from safelight.errors import NotFound
from safelight.gateway import ending
from safelight.gateway.parts import Parts
from safelight.types import Job, JobState

Noted = Callable[[Transaction, Job, Job], None]
"""Is told, in the transaction that cancels, of the job before and after."""


class Cancelling:
    """Cancels jobs for one process.

    Args:
        parts: rooms below.
        ended: told about a job that ended as cancelled: its run here is to stop.
        unwanted: told about one whose run here is to make no further attempt.
    """

    def __init__(
        self, parts: Parts, *, ended: Callable[[Job], None], unwanted: Callable[[str], None]
    ) -> None:
        self._parts = parts
        self._ended = ended
        self._unwanted = unwanted

    async def cancel(self, customer_id: str, job_id: str, *, noted: Noted | None = None) -> Job:
        """Cancel a customer's job and return it as it is then.

        Args:
            customer_id: whose.
            job_id: which.
            noted: notes that it is done, in the same transaction.

        Raises:
            NotFound: no such job, or another customer's.
            Unavailable: the database is away; nothing was changed.
        """
        job = await self._cancel(job_id, customer_id, noted)
        if job is None:
            raise NotFound(f"No job has the id {job_id!r}.", param="id")
        return job

    async def finish(self, job_id: str) -> None:
        """Look again at a job whose customer has cancelled it: perhaps no call is out any more."""
        await self._cancel(job_id, None)

    async def _cancel(
        self, job_id: str, customer_id: str | None, noted: Noted | None = None
    ) -> Job | None:
        transfer_id = self._parts.new_id("tr")

        def cancel(tx: Transaction) -> tuple[Job | None, bool]:
            job = jobs.get_job(tx, job_id)
            if job is None or customer_id not in (None, job.customer_id):
                return None, False
            if job.state.terminal:
                return job, False
            ended = ending.cancel(tx, job, transfer_id=transfer_id)
            if noted is not None:
                noted(tx, job, ended)
            return ended, True

        job, changed = await self._parts.db.write(cancel)
        if job is not None and changed:
            if job.state is JobState.CANCELLED:
                self._parts.notes.ended(job)
                self._parts.news.set()
                self._ended(job)
            elif not job.state.terminal:
                self._unwanted(job.id)
        return job
