"""How collected jobs get to a vendor: attempts journalled, file written and sent, batch created.

Owns the order of these steps, each durable before the next begins. The attempts come before the
first byte leaves, as for every call. Then the file; then, noted before it leaves, the call that
buys: whoever finds a vendor batch in `creating` looks for our tag at the vendor first, and calls
again only when an earlier call cannot be under way any more. So nothing is bought twice, wherever
a process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from safelight import attempts, jobs, vendor_batches
from safelight.db import Transaction
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.calling import call_of
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane.leaving import PAGE, give_back
from safelight.types import Account, Job
from safelight.upstreams.batches import Remote, VendorBatches
from safelight.vendor_batches import Superseded, VendorBatch, items
from safelight.vendor_batches.items import Item, ItemState

ASK_S = 60.0
"""How long the vendor may take for a small answer."""
FILE_S = 3600.0
CREATE_SETTLED_S = 300.0
"""A call that creates a batch has ended this long after it was noted: it may take `ASK_S`, and
leaves within `LEAVE_S` of the note or not at all."""
LEAVE_S = 60.0
SKEW_S = 600
"""How far the vendor's clock and ours may be apart."""


class NotYet(Exception):
    """Nobody can say yet whether the vendor has the batch."""


class Sending:
    """Sends vendor batches.

    Args:
        parts: rooms below.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # --- packing -----------------------------------------------------------------------------

    async def begin_attempts(self, batch: VendorBatch, visit: str) -> None:
        """Journal an attempt of every job that is collected; those cancelled meanwhile end.

        Raises:
            Superseded: another visit has begun.
        """
        while True:
            page = await self._parts.db.read(
                lambda tx: items.in_state(tx, batch.id, ItemState.WAITING, limit=PAGE)
            )
            if not page:
                return
            names = [self._parts.new_id("tr") for _ in page]
            ended = await self._parts.db.write(partial(self._begin, batch, visit, page, names))
            self._parts.news.set()
            for job in ended:
                self._parts.notes.ended(job)

    def _begin(
        self,
        batch: VendorBatch,
        visit: str,
        page: Sequence[Item],
        names: Sequence[str],
        tx: Transaction,
    ) -> list[Job]:
        vendor_batches.hold(tx, batch, visit)
        ended = []
        for item, name in zip(page, names, strict=True):
            job = jobs.get_job(tx, item.job_id)
            begun = job is not None and attempts.begin(
                tx, job, k=job.attempts + 1, account=batch.account, group=batch.known_as
            )
            if job is not None and begun:
                items.send(tx, job, batch.id)
            else:
                left = give_back(tx, item, None, sold=False, transfer_id=name)
                if left is not None and left.state.terminal:
                    ended.append(left)
        return ended

    async def send_file(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str
    ) -> None:
        """Write the input file, send it, and note its name there: what follows buys.

        Raises:
            Superseded: another visit has begun.
            UpstreamError: the vendor did not take it.
        """
        # In the spool, where what a killed process leaves is swept.
        path = self._parts.spool.answer(visit, 0, 0, partials=False)
        try:
            await self._write(api, account, batch, visit, path)
            deadline = self._parts.clock.monotonic() + FILE_S
            name = f"safelight-{batch.id}.jsonl"
            file_id = await api.send_file(account, path, name=name, deadline=deadline)
        finally:
            self._parts.spool.clear(visit)

        def note(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.sending(tx, batch.id, input_file_id=file_id)

        await self._parts.db.write(note)

    async def _write(
        self,
        api: VendorBatches,
        account: Account,
        batch: VendorBatch,
        visit: str,
        path: Path,
    ) -> None:
        after = ""
        with path.open("wb") as file:
            while True:
                page = await self._parts.db.read(
                    partial(_out, vendor_batch_id=batch.id, after=after)
                )
                lines = [api.line(account, await call_of(self._parts, job), job.id) for job in page]
                await asyncio.to_thread(file.write, b"".join(lines))
                if len(page) < PAGE:
                    return
                after = page[-1].id
                await self._parts.db.write(lambda tx: vendor_batches.hold(tx, batch, visit))

    # --- creating ----------------------------------------------------------------------------

    async def create(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str, *, fresh: bool
    ) -> Remote:
        """Have the vendor make a batch of the file; only after `find` has found none.

        Args:
            api: the vendor's.
            account: whose.
            batch: in `creating`.
            visit: the one that works on it.
            fresh: whether this visit has noted a moment ago that the call leaves.

        Raises:
            Superseded: another visit has begun, or this process stood still.
            NotYet: an earlier call may still be under way.
            UpstreamError: see `refused`.
        """
        assert batch.input_file_id is not None
        assert batch.sending_at is not None
        noted, clock = batch.sending_at, self._parts.clock
        if not fresh:
            if clock.now_ms() < noted + CREATE_SETTLED_S * 1000:
                raise NotYet
            noted = await self._parts.db.write(lambda tx: self._again(tx, batch, visit))
        if clock.now_ms() > noted + LEAVE_S * 1000:
            # This process stood still since: others may think by now that nothing has left.
            raise Superseded(batch.id)
        deadline = clock.monotonic() + ASK_S
        return await api.create(account, batch.input_file_id, tag=batch.id, deadline=deadline)

    def _again(self, tx: Transaction, batch: VendorBatch, visit: str) -> int:
        vendor_batches.hold(tx, batch, visit)
        vendor_batches.sending(tx, batch.id, input_file_id=None)
        return tx.now_ms

    async def find(self, api: VendorBatches, account: Account, batch: VendorBatch) -> Remote | None:
        """Return the batch that an earlier call made, by our tag, or None.

        Raises:
            UpstreamError: the vendor does not say.
        """
        deadline = self._parts.clock.monotonic() + ASK_S
        since_s = batch.created_at // 1000 - SKEW_S
        return await api.find(account, tag=batch.id, since_s=since_s, deadline=deadline)


def refused(error: UpstreamError) -> bool:
    """Return whether the vendor has said for certain that it made nothing of a call."""
    never_left = error.fault is FaultClass.LOCAL
    return never_left or (error.status is not None and 400 <= error.status < 500)


def _out(tx: Transaction, vendor_batch_id: str, after: str) -> list[Job]:
    page = items.in_state(tx, vendor_batch_id, ItemState.OUT, after=after, limit=PAGE)
    found = {job.id: job for job in jobs.among(tx, [item.job_id for item in page])}
    return [found[item.job_id] for item in page]
