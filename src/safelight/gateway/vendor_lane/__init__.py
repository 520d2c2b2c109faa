"""The half-price lane: lines of batches that have time go to the vendor's own Batch API.

Owns the visits to vendor batches, that the engine reminds of: each begins at what the rows say, so
one that is lost or comes twice changes nothing. `entering` chooses and collects lines, `phases`
goes from one state to the next, `sending` gets lines to the vendor, `fetching` takes what comes,
`leaving` lets jobs out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from safelight import vendor_batches
from safelight.config_batches import VendorBatchesConfig
from safelight.db import Transaction
from safelight.engine import Engine, Work
from safelight.errors import Unavailable
from safelight.gateway import Gateway
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane.entering import ASKED, Entering
from safelight.gateway.vendor_lane.fetching import Fetching
from safelight.gateway.vendor_lane.leaving import PAGE, give_back
from safelight.gateway.vendor_lane.phases import Phases
from safelight.gateway.vendor_lane.sending import NotYet, Sending
from safelight.types import Account
from safelight.vendor_batches import Status, Superseded, VendorBatch, items

__all__ = ["ASKED", "VendorLane"]

log = logging.getLogger("safelight.vendor_batches")

PHASES_MAX = 20
"""Phases that one visit goes through: then others have theirs."""
SILENT_MS = 60_000
"""A vendor batch whose look is overdue by so much is reminded of again."""
SWEEP_S = 60.0
SWEEP_MAX = 1000
UNWANTED_AT_ONCE = 500
WAIT_S = 15.0
AGE_SHARE = 0.1
"""The vendor is asked again after this share of the time that it has had."""


class VendorLane:
    """The vendor batches of all customers.

    Args:
        parts: rooms below.
        gateway: runs jobs whose pictures came.
        engine: reminds of vendor batches.
        owner: this process's name for leases.
        accounts: of which those with `vendor_batches` are used.
        config: the operator's bounds.
    """

    def __init__(
        self,
        parts: Parts,
        gateway: Gateway,
        engine: Engine,
        owner: str,
        accounts: Iterable[Account],
        config: VendorBatchesConfig,
    ) -> None:
        self._parts = parts
        self._engine = engine
        self._config = config
        self._accounts = {one.name: one for one in accounts if one.vendor_batches}
        self.entering = Entering(parts, self._accounts.values(), config)
        self._phases = Phases(
            parts,
            gateway,
            Sending(parts),
            Fetching(gateway, parts, owner),
            accounts=self._accounts,
            config=config,
        )

    async def wake(self, vendor_batch_ids: Iterable[str]) -> None:
        """Have vendor batches looked at; what fails, the sweep repeats."""
        for vendor_batch_id in vendor_batch_ids:
            await self._remind(vendor_batch_id, 0.0)

    async def unwant(self, batch_id: str) -> None:
        """Let the jobs of a batch that are here be cancelled: at the vendor, where they are there.

        Those that are only collected end at the next visit; the others with what the vendor says.
        """
        work = partial(items.unwant, batch_id=batch_id, limit=UNWANTED_AT_ONCE)
        found = 0
        while marked := await self._parts.db.write(work):
            found += marked
        if found:
            open_of = partial(vendor_batches.open_of, batch_id=batch_id)
            await self.wake([one.id for one in await self._parts.db.read(open_of)])

    # --- visits ------------------------------------------------------------------------------

    async def visit(self, item: str) -> None:
        """Make a visit: bring a vendor batch as far as it can go, then ask for the next.

        Args:
            item: its id, and behind a slash the number of the reminder; of several only the newest
                counts, so however often it is woken there is one line of visits.

        Raises:
            Unavailable: the database is away; `sweep` comes back to it.
        """
        vendor_batch_id, _, number = item.partition("/")
        visit, fresh = self._parts.new_id("visit"), False
        take = partial(
            vendor_batches.take,
            vendor_batch_id=vendor_batch_id,
            visit=visit,
            number=int(number) if number else None,
        )
        first = batch = await self._parts.db.write(take)
        for _ in range(PHASES_MAX):
            if first is None or batch is None:
                return
            try:
                moved = await self._phases.go_on(batch, visit, fresh=fresh)
            except Superseded:
                # Another visit has begun: that one goes on.
                return
            except NotYet:
                moved = False
            if not moved:
                break
            fresh = batch.status is Status.PACKING
            batch = await self._parts.db.read(
                lambda tx: vendor_batches.taken(tx, vendor_batch_id, visit)
            )
        if first is not None and batch is not None:
            await self._remind(vendor_batch_id, self._delay_s(batch), seen=first.reminders)

    # --- reminders ---------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Remind the engine of vendor batches that are overdue; return how many."""
        if not self._accounts and not await self._parts.db.read(_any_open):
            return 0

        def look(tx: Transaction) -> list[VendorBatch]:
            return vendor_batches.overdue(tx, before_ms=tx.now_ms - SILENT_MS, limit=SWEEP_MAX)

        found = [one.id for one in await self._parts.db.read(look)]
        await self.wake(found)
        await self._free_stranded()
        return len(found)

    async def _free_stranded(self) -> None:
        """Let jobs out whose deadline is over, whatever keeps them: then the reaper ends them."""

        def free(tx: Transaction) -> int:
            found = items.stranded(tx, before_ms=tx.now_ms - SILENT_MS, limit=PAGE)
            for item, name in zip(found, names, strict=False):
                give_back(tx, item, None, sold=None, transfer_id=name)
            return len(found)

        names = [self._parts.new_id("tr") for _ in range(PAGE)]
        late = await self._parts.db.read(
            lambda tx: items.stranded(tx, before_ms=tx.now_ms - SILENT_MS, limit=1)
        )
        while late and await self._parts.db.write(free) == PAGE:
            names = [self._parts.new_id("tr") for _ in range(PAGE)]

    async def _remind(
        self, vendor_batch_id: str, delay_s: float, *, seen: int | None = None
    ) -> None:
        delay_ms = round(delay_s * 1000)
        number = await self._parts.db.write(
            lambda tx: vendor_batches.remind(tx, vendor_batch_id, delay_ms=delay_ms, seen=seen)
        )
        if number is None:
            return
        work = Work(
            queue="vendor_batches",
            item=f"{vendor_batch_id}/{number}",
            key=f"{vendor_batch_id}/{number}",
            delay_s=delay_s,
        )
        try:
            await self._engine.enqueue([work])
        except Unavailable as error:
            log.warning("vendor batch not queued yet", extra={"reason": error.message})

    def _delay_s(self, batch: VendorBatch) -> float:
        """Return after how many seconds the next look is due."""
        config, now = self._config, self._parts.clock.now_ms()
        if batch.status in (Status.COLLECTING, Status.CREATING):
            return WAIT_S
        age_s = (now - batch.created_at) / 1000
        pause = config.poll_min_s * 2**batch.tries if batch.tries else age_s * AGE_SHARE
        pause = min(max(pause, config.poll_min_s), config.poll_max_s)
        if batch.cancelled_at is not None and batch.late_at is None:
            pause = config.poll_min_s
        ahead = [at for at in (batch.cancel_at, batch.return_at) if at > now]
        return min([pause, *((at - now) / 1000 for at in ahead)])


def _any_open(tx: Transaction) -> bool:
    return bool(vendor_batches.listed(tx, open_only=True, limit=1))
