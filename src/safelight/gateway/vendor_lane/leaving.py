"""How a job leaves a vendor batch without the vendor's picture: back to the live lane, or ended.

Owns those transactions, a page of jobs each. What the vendor may still deliver afterwards is found
by the item's state; nothing here asks a vendor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from safelight import attempts, jobs
from safelight.db import Transaction
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway import ending, failures
from safelight.gateway.calling import RETURNED
from safelight.gateway.parts import Parts
from safelight.types import Job
from safelight.vendor_batches import VendorBatch, hold, items
from safelight.vendor_batches.items import Item, ItemState

PAGE = 100
"""Most jobs of one transaction: nobody else writes meanwhile."""


class Leaving:
    """Lets jobs out of vendor batches.

    Args:
        parts: rooms below.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def all_of(
        self, batch: VendorBatch, visit: str, *, state: ItemState, sold: bool | None
    ) -> list[Job]:
        """Return to the live lane every job that is in a state, page by page.

        Args:
            batch: whose jobs.
            visit: the one that works on it.
            state: WAITING or OUT.
            sold: whether the vendor bills for what has no picture here: False where it has said
                that it made none, None where it may still make some.

        Returns:
            The jobs that wait in the queue from now on; they are to be reminded of.

        Raises:
            Superseded: another visit has begun.
        """
        returned: list[Job] = []
        while True:
            page = await self._parts.db.read(
                lambda tx: items.in_state(tx, batch.id, state, limit=PAGE)
            )
            if not page:
                return returned
            names = [self._parts.new_id("tr") for _ in page]
            work = partial(self._page, batch, visit, page, names, sold)
            left = await self._parts.db.write(work)
            self._parts.news.set()
            for job in left:
                if job.state.terminal:
                    self._parts.notes.ended(job)
                else:
                    returned.append(job)

    async def never_made(self, batch: VendorBatch, visit: str) -> None:
        """Note that the vendor has made no picture for any line that it was given up for.

        Raises:
            Superseded: another visit has begun.
        """
        while True:
            page = await self._parts.db.read(
                lambda tx: items.in_state(tx, batch.id, ItemState.LATE, limit=PAGE)
            )
            if not page:
                return

            def note(tx: Transaction, page: Sequence[Item] = page) -> None:
                hold(tx, batch, visit)
                for item in page:
                    settle_late(tx, item, None, sold=False)

            await self._parts.db.write(note)

    def _page(
        self,
        batch: VendorBatch,
        visit: str,
        page: Sequence[Item],
        names: Sequence[str],
        sold: bool | None,
        tx: Transaction,
    ) -> list[Job]:
        hold(tx, batch, visit)
        found = (
            give_back(tx, item, None, sold=sold, transfer_id=name)
            for item, name in zip(page, names, strict=True)
        )
        return [job for job in found if job is not None]


def give_back(
    tx: Transaction,
    item: Item,
    error: UpstreamError | None,
    *,
    sold: bool | None,
    transfer_id: str,
) -> Job | None:
    """Let one job wait in the queue again, or end it if its customer has cancelled it.

    Returns it as it stands then, or None where it had ended before.

    Args:
        tx: a transaction that may write.
        item: its place, WAITING or OUT.
        error: what the vendor answered for it, or None.
        sold: whether the vendor bills for it; None: nobody can say.
        transfer_id: for a job that its customer has cancelled: it ends here, free.
    """
    _close_attempt(tx, item, error, sold=sold)
    late = item.state is ItemState.OUT and sold is None
    items.note(tx, item.job_id, ItemState.LATE if late else ItemState.RETURNED)
    job = jobs.get_job(tx, item.job_id)
    if job is None or job.state.terminal:
        return None
    if items.give_back(tx, job):
        return jobs.get_job(tx, item.job_id)
    if job.cancel_requested_at is not None:
        ending.cancel(tx, job, transfer_id=transfer_id)
        return jobs.get_job(tx, item.job_id)
    return None


def settle_late(tx: Transaction, item: Item, error: UpstreamError | None, *, sold: bool) -> None:
    """Note what the vendor says in the end of a line that was bought elsewhere meanwhile."""
    _close_attempt(tx, item, error, sold=sold)
    items.note(tx, item.job_id, ItemState.RETURNED)


def refuse(tx: Transaction, item: Item, error: UpstreamError, *, transfer_id: str) -> bool:
    """End a job free whose prompt the vendor refuses; False where it has ended before."""
    _close_attempt(tx, item, error, sold=error.sold)
    items.note(tx, item.job_id, ItemState.REFUSED)
    job = jobs.get_job(tx, item.job_id)
    if job is None or job.state.terminal:
        return False
    failure = failures.final_failure(error, retried=True)
    return ending.release(tx, job, failure, transfer_id=transfer_id)


def is_final(error: UpstreamError) -> bool:
    """Return whether a line's answer is its job's last word: another would be the same."""
    return error.fault is FaultClass.CLIENT


def _close_attempt(
    tx: Transaction, item: Item, error: UpstreamError | None, *, sold: bool | None
) -> None:
    if item.epoch is None or item.k is None:
        return
    attempts.end(
        tx,
        item.job_id,
        item.epoch,
        item.k,
        outcome=RETURNED if error is None else str(error.fault),
        code=None if error is None else error.code,
        sold=sold,
        upstream_request_id=None if error is None else error.upstream_request_id,
    )
