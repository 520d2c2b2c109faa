"""Acceptance: an order becomes durable, or joins the one that it is a retry of.

Owns the one transaction in which price, request and jobs are written or nothing is, and what
refuses an order at the door: a full disk, no room. `joining` decides what is a retry, the ledger
whether the money is there, the budgets whether the key may spend it, `key_limits` whether it may
ask so fast. All ids are made before the transaction: it may be called again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

import msgspec

from safelight import budgets, credit_lines, jobs, ledger
from safelight.config import LimitsConfig
from safelight.db import Transaction, UniqueViolation
from safelight.errors import Unavailable
from safelight.gateway import joining
from safelight.gateway.key_limits import Crowded, KeyLimits
from safelight.gateway.orders import Caller, Order
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.room import Room
from safelight.types import ImageRequest, Job, Quote

log = logging.getLogger("safelight.gateway")

SKEW_MS = 2000
"""Clocks that differ by less are taken for equal: so long may a transaction have waited."""
WATERMARK_LIFE_S = 5.0
"""How long a look at the free disk space counts."""


_Alert = budgets.Alert | credit_lines.LineAlert


class _Ids:
    """The names of an order that may be placed."""

    def __init__(self, parts: Parts, n: int) -> None:
        self.request = parts.new_id("req")
        self.jobs = [parts.new_id("job") for _ in range(n)]
        self.reserves = [parts.new_id("tr") for _ in range(n)]


class Acceptance:
    """Accepts orders for one process.

    Args:
        parts: rooms below.
        processes: who else serves the database, and this process's name for leases.
        room: how many jobs may be in flight here.
        min_free_bytes: below this much free space nothing new is accepted.
        limits: of keys that have none of their own.
        start: runs an accepted job.
        expected_s: in how many seconds a job will have ended.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        processes: Processes,
        room: Room,
        min_free_bytes: int,
        limits: LimitsConfig,
        start: Callable[[Job], object],
        expected_s: Callable[[Job], float],
    ) -> None:
        self._parts = parts
        self._processes = processes
        self._room = room
        self._min_free_bytes = min_free_bytes
        self._limits = KeyLimits(limits)
        self._start = start
        self._expected_s = expected_s
        self._detached = asyncio.Event()
        self._free_checked_at = float("-inf")
        self._free_bytes = 0

    async def accept(self, request: ImageRequest, caller: Caller) -> Order:
        """Accept a checked order, or join the one it is a retry of, durably.

        Raises:
            InsufficientBalance: nothing was written; also where a budget of the key is too small.
            RateLimited: the key asks too fast, or has too much in flight; nothing was written.
            IdempotencyKeyReused: the key belongs to another body.
            Unavailable: at the bound of jobs in flight, or the disk is nearly full.
        """
        await self._look_at_the_disk()
        digest = joining.fingerprint(request, caller.route)
        # Shielded: between the commit and the start of its jobs an order must not be cancelled.
        return await asyncio.shield(self._place_or_wait(request, caller, digest))

    def look_again(self) -> None:
        """Say that a caller has left: a retry may be waiting for that."""
        self._detached.set()

    async def _place_or_wait(self, request: ImageRequest, caller: Caller, digest: bytes) -> Order:
        """Place an order; a retry gives the old connection a moment to be seen closing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + joining.JOIN_GRACE_S
        while (left := until - loop.time()) > 0:
            self._detached.clear()
            with contextlib.suppress(joining.Busy):
                return await self._place(request, caller, digest, patient=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._detached.wait(), min(left, joining.JOIN_LOOK_S))
        # A proxy may keep the old connection open for ever.
        return await self._place(request, caller, digest, patient=False)

    async def _place(
        self, request: ImageRequest, caller: Caller, digest: bytes, *, patient: bool
    ) -> Order:
        quote = self._parts.channels.quote(request)
        ids = _Ids(self._parts, request.n)

        def work(tx: Transaction) -> tuple[Order, Iterable[_Alert]]:
            order, retry_of = self._join(tx, caller, digest, patient=patient)
            if order is not None:
                return order, ()
            return self._insert(tx, request, caller, digest, quote, ids, retry_of=retry_of)

        try:
            try:
                order, alerts = await self._parts.db.write(work)
            except UniqueViolation:
                # Somebody inserted the same Idempotency-Key a moment ago: join that one.
                order, alerts = await self._parts.db.write(work)
        except BaseException as error:
            self._room.forget(ids.jobs)
            if isinstance(error, Crowded):
                now_ms = self._parts.clock.now_ms()
                raise error.refusal(self._expected_s, now_ms) from None
            raise
        _announce(alerts, caller)
        if order.joined:
            self._room.forget(ids.jobs)
        else:
            for job in order.jobs:
                self._start(job)
        return order

    def _join(
        self, tx: Transaction, caller: Caller, digest: bytes, *, patient: bool
    ) -> tuple[Order | None, str | None]:
        """Return the order to join, or None and the id of the failed request that is retried."""
        if caller.idempotency_key is not None:
            return joining.by_key(tx, caller, digest, now_ms=tx.now_ms, owner=self._processes.owner)
        if caller.retry_count > 0:
            return joining.by_retry_count(
                tx,
                caller,
                digest,
                now_ms=tx.now_ms,
                owner=self._processes.owner,
                alive=self._processes.alive,
                patient=patient,
            )
        return None, None

    def _insert(
        self,
        tx: Transaction,
        request: ImageRequest,
        caller: Caller,
        digest: bytes,
        quote: Quote,
        ids: _Ids,
        *,
        retry_of: str | None,
    ) -> tuple[Order, Iterable[_Alert]]:
        self._refuse_on_a_full_disk()
        row = jobs.RequestRow(
            id=ids.request,
            customer_id=caller.customer_id,
            key_id=caller.key_id,
            route=caller.route,
            fingerprint=digest,
            idempotency_key=caller.idempotency_key,
            retry_of=retry_of,
            retry_count=caller.retry_count,
            attached_by=self._processes.owner,
            attached_until=joining.waits_until(caller, tx.now_ms),
            n=request.n,
            created_at=tx.now_ms,
            delivered_at=None,
        )
        jobs.insert_request(tx, row)
        # After the row: an order that another one of its Idempotency-Key overtook is joined to it.
        limits = self._limits.admit(tx, caller.key_id, request.n)
        taken = _hold(tx, row, quote, ids)
        for n in range(request.n):
            self._insert_job(
                tx,
                row,
                n,
                request,
                quote,
                ids,
                deadline_at=caller.deadline_at,
                budget_day=taken.day,
            )
        order = Order(
            request_id=row.id,
            jobs=jobs.jobs_of(tx, row.id),
            retry_count=caller.retry_count,
            limits=limits,
        )
        self._room.take(ids.jobs)
        line = credit_lines.alert(tx, row.customer_id)
        return order, taken.alerts if line is None else (*taken.alerts, line)

    def _insert_job(
        self,
        tx: Transaction,
        row: jobs.RequestRow,
        n: int,
        request: ImageRequest,
        quote: Quote,
        ids: _Ids,
        *,
        deadline_at: int | None,
        budget_day: str,
    ) -> None:
        """Insert the job of one image, leased to this process.

        Its deadline is the caller's, but at most the channel's cap away.
        """
        skew_ms = tx.now_ms - self._parts.clock.now_ms()
        if deadline_at is not None and abs(skew_ms) > SKEW_MS:
            # It was reckoned on this machine's clock, and the database's is another.
            deadline_at += skew_ms
        policy = self._parts.channels.get(request.channel)
        cap_at = tx.now_ms + round(policy.deadline_s * 1000)
        jobs.insert_job(
            tx,
            job_id=ids.jobs[n],
            request=row,
            n=n,
            order=request,
            size_plan=quote.size_plan,
            price_micros=quote.price_micros,
            reserve_id=ids.reserves[n],
            lease_owner=self._processes.owner,
            deadline_at=cap_at if deadline_at is None else min(cap_at, deadline_at),
            budget_day=budget_day,
        )

    async def _look_at_the_disk(self) -> None:
        now = self._parts.clock.monotonic()
        if now - self._free_checked_at > WATERMARK_LIFE_S:
            # The answer before its time: whoever comes meanwhile looks for himself.
            self._free_bytes = await self._parts.storage.free_bytes()
            self._free_checked_at = now

    def _refuse_on_a_full_disk(self) -> None:
        """Refuse what would start new jobs; a retry that joins needs no room."""
        if self._free_bytes < self._min_free_bytes:
            raise Unavailable(
                "The gateway's disk is nearly full; nothing new is accepted. Tell your operator.",
                code="storage_full",
            )


def _hold(tx: Transaction, row: jobs.RequestRow, quote: Quote, ids: _Ids) -> budgets.Taken:
    """Hold the price of each image, and count it against the budgets of the key: all or none."""
    for reserve_id, job_id in zip(ids.reserves, ids.jobs, strict=True):
        ledger.reserve(
            tx,
            transfer_id=reserve_id,
            customer_id=row.customer_id,
            job_id=job_id,
            amount_micros=quote.price_micros,
            actor=f"key:{row.key_id}",
        )
    return budgets.take(tx, row.key_id, quote.price_micros * row.n)


def _announce(alerts: Iterable[_Alert], caller: Caller) -> None:
    for alert in alerts:
        facts = {**msgspec.structs.asdict(alert), "customer_id": caller.customer_id}
        if isinstance(alert, budgets.Alert):
            log.warning("a key's budget has reached a share", extra=facts)
        else:
            log.warning("a customer's credit line has reached a share", extra=facts)
