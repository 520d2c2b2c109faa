"""What a vendor batch left, line by line: pictures to runs, refusals to their ends.

Owns the reading of output and error files. A picture goes to the spool under the name of its
attempt; then one transaction leases the job to this process, journals the answer and takes the line
out of the vendor batch, and an ordinary run verifies, stores and settles it. From there on it is as
safe as any answer. A line that was taken is passed over when a file is read again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from functools import partial

import msgspec

from safelight import attempts, backlog, costs, jobs, vendor_batches
from safelight.db import Transaction
from safelight.gateway import Gateway
from safelight.gateway.calling import Answer
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane.leaving import give_back, is_final, refuse, settle_late
from safelight.types import Account, Job, Received, Stage
from safelight.upstreams.batches import BatchLine, VendorBatches
from safelight.vendor_batches import VendorBatch, items
from safelight.vendor_batches.items import Item, ItemState

log = logging.getLogger("safelight.vendor_batches")

AT_ONCE = 16
"""Most pictures that are verified and stored while the next one is read."""
FULL_S = 1.0


class Fetching:
    """Fetches what vendor batches left.

    Args:
        gateway: runs jobs whose pictures came.
        parts: rooms below.
        owner: this process's name for leases.
    """

    def __init__(self, gateway: Gateway, parts: Parts, owner: str) -> None:
        self._gateway = gateway
        self._parts = parts
        self._owner = owner

    async def read(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str
    ) -> list[Job]:
        """Read both files; return the jobs that wait in the queue again.

        Returns when every picture that came has been settled, or its run has ended otherwise.

        Raises:
            Superseded: another visit has begun.
            UpstreamError: a file cannot be had.
        """
        returned: list[Job] = []
        running: set[asyncio.Task[None]] = set()
        scratch = self._parts.spool.answer(visit, 0, 0, partials=False)
        try:
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id is None:
                    continue
                async with aclosing(api.lines(account, file_id, scratch=scratch)) as lines:  # type: ignore[type-var]
                    async for line in lines:
                        await self._make_room(running)
                        took = await self._line(account, batch, visit, line)
                        if isinstance(took, asyncio.Task):
                            running.add(took)
                        elif took is not None:
                            returned.append(took)
        finally:
            self._parts.spool.clear(visit)
        if running:
            await asyncio.wait(running)
        return returned

    async def _make_room(self, running: set[asyncio.Task[None]]) -> None:
        """Wait until another picture may be taken here; for ever where this process leaves."""
        while True:
            if not self._gateway.accepting:
                await asyncio.Event().wait()
            running -= {task for task in running if task.done()}
            if len(running) >= AT_ONCE:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            elif self._gateway.room > 0:
                return
            else:
                await asyncio.sleep(FULL_S)

    async def _line(
        self, account: Account, batch: VendorBatch, visit: str, line: BatchLine
    ) -> asyncio.Task[None] | Job | None:
        """Do what one line says; return the run of its job, or the job that waits again."""
        item = await self._parts.db.read(lambda tx: items.get(tx, line.custom_id))
        if item is None or item.vendor_batch_id != batch.id:
            log.warning("a vendor batch names a job that is not in it", extra={"subject": batch.id})
            return None
        if item.state not in (ItemState.OUT, ItemState.LATE):
            return None
        if line.received is None:
            return await self._without_picture(batch, visit, item, line)
        return await self._picture(account, batch, visit, item, line.received)

    # --- pictures ----------------------------------------------------------------------------

    async def _picture(
        self,
        account: Account,
        batch: VendorBatch,
        visit: str,
        item: Item,
        came: Received,
    ) -> asyncio.Task[None] | None:
        assert item.epoch is not None
        assert item.k is not None
        cost = costs.vendor_cost_micros(account, came.usage, batch=True)
        if cost is not None:
            self._parts.notes.metrics.vendor_cost.add(account.name, by=cost)
        if item.state is ItemState.LATE and not await self._waits(item.job_id):
            answer = Answer(came, item.epoch, item.k, cost_micros=cost)
            await self._parts.db.write(lambda tx: self._waste(tx, batch, visit, item, answer))
            return None
        path = self._parts.spool.answer(item.job_id, item.epoch, item.k, partials=False)
        came.path.rename(path)
        received = msgspec.structs.replace(came, path=path)
        answer = Answer(received, item.epoch, item.k, cost_micros=cost)
        with self._gateway.draining.coming():
            taken = await self._parts.db.write(
                lambda tx: self._take(tx, batch, visit, item, answer)
            )
            if taken is None:
                # Alone: a run of the job may have other files here.
                path.unlink(missing_ok=True)
                return None
            job, left_s = taken
            return self._gateway.start(job, live=False, answer=answer, left_s=left_s)

    def _take(
        self, tx: Transaction, batch: VendorBatch, visit: str, item: Item, answer: Answer
    ) -> tuple[Job, float] | None:
        """Lease the job to this process with its answer journalled; None: nobody needs it."""
        vendor_batches.hold(tx, batch, visit)
        taken = items.take(tx, item.job_id, owner=self._owner)
        # Sold, whatever becomes of it: a picture for a job that was bought elsewhere is waste.
        note_answer(tx, item, answer)
        items.note(tx, item.job_id, ItemState.TAKEN if taken else ItemState.WASTED)
        if not taken:
            return None
        jobs.advance(tx, item.job_id, Stage.RECEIVED)
        job = jobs.get_job(tx, item.job_id)
        assert job is not None
        return job, (job.deadline_at - tx.now_ms) / 1000

    async def _waits(self, job_id: str) -> bool:
        return await self._parts.db.read(partial(backlog.find, job_id=job_id)) is not None

    def _waste(
        self, tx: Transaction, batch: VendorBatch, visit: str, item: Item, answer: Answer
    ) -> None:
        vendor_batches.hold(tx, batch, visit)
        note_answer(tx, item, answer)
        items.note(tx, item.job_id, ItemState.WASTED)

    # --- everything else ---------------------------------------------------------------------

    async def _without_picture(
        self, batch: VendorBatch, visit: str, item: Item, line: BatchLine
    ) -> Job | None:
        if item.state is ItemState.LATE:
            await self._parts.db.write(lambda tx: self._end_late(tx, batch, visit, item, line))
            return None
        transfer_id, error = self._parts.new_id("tr"), line.error

        def end(tx: Transaction) -> tuple[Job | None, bool]:
            """Return the job if it waits again or has ended, and whether that was here."""
            vendor_batches.hold(tx, batch, visit)
            if error is not None and is_final(error):
                ours = refuse(tx, item, error, transfer_id=transfer_id)
                return jobs.get_job(tx, item.job_id), ours
            # What the vendor has answered it will not answer again: nothing more comes of it.
            sold = False if error is None else bool(error.sold)
            left = give_back(tx, item, error, sold=sold, transfer_id=transfer_id)
            return (left, True) if left is not None else (jobs.get_job(tx, item.job_id), False)

        job, here = await self._parts.db.write(end)
        self._parts.news.set()
        if job is None or not job.state.terminal:
            return job if here else None
        if here:
            self._parts.notes.ended(job)
        self._gateway.ended_elsewhere(job)
        return None

    def _end_late(
        self, tx: Transaction, batch: VendorBatch, visit: str, item: Item, line: BatchLine
    ) -> None:
        vendor_batches.hold(tx, batch, visit)
        sold = line.error is not None and bool(line.error.sold)
        settle_late(tx, item, line.error, sold=sold)


def note_answer(tx: Transaction, item: Item, answer: Answer) -> None:
    """Journal the picture of a line with its attempt."""
    attempts.note_answer(
        tx, item.job_id, answer.epoch, answer.k, answer.received, cost_micros=answer.cost_micros
    )
