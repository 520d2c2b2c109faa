"""The phases of a vendor batch, each from what its rows say to what they say next.

Owns their order, and what is done when time runs short: it is cancelled at the vendor, what is done
is taken, the rest goes back to the live lane. Every transaction is under `vendor_batches.hold`, so
an older visit ends with its next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from safelight import batches, vendor_batches
from safelight.batches import BatchStatus, lines
from safelight.batches.lines import LineState
from safelight.config_batches import VendorBatchesConfig
from safelight.db import Transaction
from safelight.errors import FaultClass, Unavailable, UpstreamError
from safelight.gateway import Gateway
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane.fetching import Fetching
from safelight.gateway.vendor_lane.leaving import Leaving
from safelight.gateway.vendor_lane.sending import ASK_S, CREATE_SETTLED_S, Sending, refused
from safelight.types import Account, Job
from safelight.upstreams.batches import OffersBatches, Remote, VendorBatches
from safelight.vendor_batches import Status, Superseded, VendorBatch, items
from safelight.vendor_batches.items import ItemState

log = logging.getLogger("safelight.vendor_batches")

TRIES_MAX = 8
"""Failures in a row after which nothing more is tried to be sent."""
GIVE_UP_MS = 48 * 3600 * 1000
"""A vendor batch that has not come to its end after so long never will; the vendor's window is a
day."""
TOUCH_S = 20.0
HOPELESS = (FaultClass.AUTH, FaultClass.QUOTA, FaultClass.CLIENT, FaultClass.CAPABILITY)
"""Refusals that the same call would meet again."""


class Phases:
    """Goes on with vendor batches in this process.

    Args:
        parts: rooms below.
        gateway: has jobs looked at that wait again.
        sending: gets them to the vendor.
        fetching: takes what comes.
        accounts: those that may be used, by name.
        config: the operator's bounds.
    """

    def __init__(
        self,
        parts: Parts,
        gateway: Gateway,
        sending: Sending,
        fetching: Fetching,
        *,
        accounts: Mapping[str, Account],
        config: VendorBatchesConfig,
    ) -> None:
        self._parts = parts
        self._gateway = gateway
        self._sending = sending
        self._fetching = fetching
        self._leaving = Leaving(parts)
        self._accounts = accounts
        self._config = config

    async def go_on(self, batch: VendorBatch, visit: str, *, fresh: bool) -> bool:
        """Do what is next; False when that must wait.

        Args:
            batch: as the visit has taken it.
            visit: the one that works on it.
            fresh: whether this visit has noted just now that the call which buys leaves.

        Raises:
            Superseded: another visit has begun.
            NotYet: an earlier call may still be under way.
        """
        if batch.status is Status.COLLECTING:
            return await self._parts.db.write(lambda tx: self._pack(tx, batch, visit))
        account = self._accounts.get(batch.account)
        api = None if account is None else self._api(account)
        if account is None or api is None:
            sold = False if batch.status is Status.PACKING else None
            await self._give_up(batch, visit, "the account is not configured any more", sold=sold)
            return True
        match batch.status:
            case Status.PACKING:
                return await self._send(api, account, batch, visit)
            case Status.CREATING:
                return await self._create(api, account, batch, visit, fresh=fresh)
            case Status.OUT:
                return await self._look(api, account, batch, visit)
            case _:
                return await self._fetch(api, account, batch, visit)

    def _api(self, account: Account) -> VendorBatches | None:
        upstream = self._parts.upstreams.get(account.upstream)
        return upstream.batches if isinstance(upstream, OffersBatches) else None

    def _pack(self, tx: Transaction, batch: VendorBatch, visit: str) -> bool:
        """Close a vendor batch when its batch has no more lines for it, or it has waited enough."""
        vendor_batches.hold(tx, batch, visit)
        age_ms = tx.now_ms - batch.created_at
        source = batches.get(tx, batch.batch_id)
        feeding = source is not None and source.status is BatchStatus.IN_PROGRESS
        more = feeding and bool(
            lines.lines_in(tx, batch.batch_id, [LineState.WAITING], after=0, limit=1)
        )
        if more and age_ms < self._config.collect_s * 1000 and batch.lines < self._config.max_lines:
            return False
        vendor_batches.pack(tx, batch.id)
        return True

    async def _send(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str
    ) -> bool:
        await self._sending.begin_attempts(batch, visit)
        if self._now_ms() >= batch.cancel_at:
            await self._give_up(batch, visit, "too late to be sent")
            return True
        if not await self._count(batch, ItemState.OUT):
            await self._give_up(batch, visit, "every job was cancelled")
            return True
        try:
            async with self._touching(batch, visit):
                await self._sending.send_file(api, account, batch, visit)
        except UpstreamError as error:
            if error.fault in HOPELESS or batch.tries + 1 >= TRIES_MAX:
                await self._give_up(batch, visit, _words(error))
                return True
            await self._note_trouble(batch, visit, error)
            return False
        return True

    async def _create(
        self,
        api: VendorBatches,
        account: Account,
        batch: VendorBatch,
        visit: str,
        *,
        fresh: bool,
    ) -> bool:
        """Buy, once: see `sending`."""
        try:
            remote = None if fresh else await self._sending.find(api, account, batch)
        except UpstreamError as error:
            await self._note_trouble(batch, visit, error)
            return await self._past_its_time(batch, visit)
        if remote is None and self._is_over(batch):
            return await self._end_unfound(batch, visit)
        try:
            if remote is None:
                remote = await self._sending.create(api, account, batch, visit, fresh=fresh)
        except UpstreamError as error:
            if refused(error) and error.fault in HOPELESS:
                await self._give_up(batch, visit, _words(error))
                return True
            await self._note_trouble(batch, visit, error)
            return await self._past_its_time(batch, visit)
        found = remote

        def note(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.accepted(tx, batch.id, remote_id=found.id, status=found.status)

        await self._parts.db.write(note)
        log.info("vendor batch accepted", extra={"subject": batch.id, "account": account.name})
        return True

    async def _end_unfound(self, batch: VendorBatch, visit: str) -> bool:
        """End a vendor batch that the vendor does not know, when nobody waits for it any more."""
        await self._past_its_time(batch, visit)
        assert batch.sending_at is not None
        if self._now_ms() < batch.sending_at + CREATE_SETTLED_S * 1000:
            return False
        await self._leaving.never_made(batch, visit)
        await self._finish(batch, visit, "the vendor never had it")
        return True

    # --- while it is out ---------------------------------------------------------------------

    async def _look(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str
    ) -> bool:
        assert batch.remote_id is not None
        deadline = self._parts.clock.monotonic() + ASK_S
        try:
            remote = await api.look(account, batch.remote_id, deadline=deadline)
            if not remote.ended and await self._shall_cancel(batch):
                remote = await self._cancel(api, account, batch, visit, remote)
        except UpstreamError as error:
            await self._note_trouble(batch, visit, error)
            if self._now_ms() - batch.created_at > GIVE_UP_MS:
                await self._give_up(batch, visit, _words(error), sold=None)
                return True
            return await self._past_its_time(batch, visit)

        def note(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.looked(
                tx,
                batch.id,
                status=remote.status,
                output_file_id=remote.output_file_id,
                error_file_id=remote.error_file_id,
                ended=remote.ended,
            )
            if remote.problem:
                vendor_batches.note_trouble(tx, batch.id, remote.problem)

        await self._parts.db.write(note)
        if remote.ended:
            log.info("vendor batch ended", extra={"subject": batch.id, "reason": remote.status})
            return True
        return await self._past_its_time(batch, visit)

    async def _shall_cancel(self, batch: VendorBatch) -> bool:
        if batch.cancelled_at is not None:
            return False
        if self._now_ms() >= batch.cancel_at:
            return True
        return await self._parts.db.read(lambda tx: items.all_unwanted(tx, batch.id))

    async def _cancel(
        self,
        api: VendorBatches,
        account: Account,
        batch: VendorBatch,
        visit: str,
        known: Remote,
    ) -> Remote:
        """Cancel it at the vendor; what is done there is still given."""
        deadline = self._parts.clock.monotonic() + ASK_S
        try:
            remote = await api.cancel(account, known.id, deadline=deadline)
        except UpstreamError:
            # It may have ended just now, and cannot be cancelled: then a look says so.
            remote = await api.look(account, known.id, deadline=deadline)
            if not remote.ended:
                raise

        def note(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.note_cancelled(tx, batch.id)

        await self._parts.db.write(note)
        log.info("vendor batch cancelled", extra={"subject": batch.id})
        return remote

    async def _past_its_time(self, batch: VendorBatch, visit: str) -> bool:
        """Return what is not back to the live lane, if it must be there now; False: wait on."""
        if not self._is_over(batch):
            return False
        left = await self._leaving.all_of(batch, visit, state=ItemState.OUT, sold=None)
        if left or batch.late_at is None:

            def note(tx: Transaction) -> None:
                vendor_batches.hold(tx, batch, visit)
                vendor_batches.note_late(tx, batch.id)

            await self._parts.db.write(note)
            self._returned(batch, left, "late")
        return False

    # --- what it left ------------------------------------------------------------------------

    async def _fetch(
        self, api: VendorBatches, account: Account, batch: VendorBatch, visit: str
    ) -> bool:
        back: list[Job] = []
        try:
            # A visit that ended between the last line and the end may have removed the files.
            if await self._count(batch, ItemState.OUT) or await self._count(batch, ItemState.LATE):
                async with self._touching(batch, visit):
                    back = await self._fetching.read(api, account, batch, visit)
        except UpstreamError as error:
            await self._note_trouble(batch, visit, error)
            if self._now_ms() - batch.created_at > GIVE_UP_MS:
                await self._give_up(batch, visit, _words(error), sold=None)
                return True
            return await self._past_its_time(batch, visit)
        # What the files do not name the vendor has not made, and does not bill.
        back += await self._leaving.all_of(batch, visit, state=ItemState.OUT, sold=False)
        await self._leaving.never_made(batch, visit)
        self._returned(batch, back, "not made")
        await self._forget_files(api, account, batch)
        await self._finish(batch, visit, None)
        return True

    async def _forget_files(self, api: VendorBatches, account: Account, batch: VendorBatch) -> None:
        """Have prompts and pictures removed at the vendor, where they would lie for a month."""
        for file_id in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            deadline = self._parts.clock.monotonic() + ASK_S
            try:
                await api.forget(account, file_id, deadline=deadline)
            except UpstreamError as error:
                log.info("vendor file not removed", extra={"reason": _words(error)})

    # --- giving up ---------------------------------------------------------------------------

    async def _give_up(
        self, batch: VendorBatch, visit: str, reason: str, *, sold: bool | None = False
    ) -> None:
        """Return every job to the live lane, and end the vendor batch.

        Args:
            batch: whose jobs.
            visit: the one that works on it.
            reason: for the operator.
            sold: whether the vendor bills for what was sent; None: nobody can say.
        """
        back = await self._leaving.all_of(batch, visit, state=ItemState.WAITING, sold=False)
        back += await self._leaving.all_of(batch, visit, state=ItemState.OUT, sold=sold)
        self._returned(batch, back, reason)
        await self._finish(batch, visit, reason)

    async def _finish(self, batch: VendorBatch, visit: str, reason: str | None) -> None:
        def end(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.finish(tx, batch.id, reason=reason)

        await self._parts.db.write(end)

    def _returned(self, batch: VendorBatch, back: Sequence[Job], reason: str) -> None:
        if not back:
            return
        log.warning(
            "lines returned to the live lane",
            extra={"subject": batch.id, "jobs": len(back), "reason": reason},
        )
        self._gateway.remind(back)

    async def _note_trouble(self, batch: VendorBatch, visit: str, error: UpstreamError) -> None:
        def note(tx: Transaction) -> None:
            vendor_batches.hold(tx, batch, visit)
            vendor_batches.note_trouble(tx, batch.id, _words(error))

        await self._parts.db.write(note)
        log.warning("vendor batch put off", extra={"subject": batch.id, "reason": _words(error)})

    @asynccontextmanager
    async def _touching(self, batch: VendorBatch, visit: str) -> AsyncIterator[None]:
        """Say every few seconds that this visit is at work: a file of 200 MB takes its time."""

        async def touch() -> None:
            with contextlib.suppress(Superseded):
                while True:
                    await asyncio.sleep(TOUCH_S)
                    with contextlib.suppress(Unavailable):
                        await self._parts.db.write(lambda tx: vendor_batches.hold(tx, batch, visit))

        task = asyncio.create_task(touch(), name=f"touch {batch.id}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _count(self, batch: VendorBatch, state: ItemState) -> int:
        return len(
            await self._parts.db.read(lambda tx: items.in_state(tx, batch.id, state, limit=1))
        )

    def _is_over(self, batch: VendorBatch) -> bool:
        return self._now_ms() >= batch.return_at

    def _now_ms(self) -> int:
        return self._parts.clock.now_ms()


def _words(error: UpstreamError) -> str:
    return f"{error.fault}: {error.code}"
