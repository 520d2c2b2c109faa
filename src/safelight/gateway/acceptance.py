"""Acceptance: an order becomes durable, or joins the one that it is a retry of.

Owns the one transaction in which price, request and jobs are written or nothing is, and what
refuses an order at the door: a full disk, no room. `joining` decides what is a retry, the ledger
whether the money is there, the budgets whether the key may spend it, `key_limits` whether it may
ask so fast. All ids are made before the transaction: it may be called again.

A queued order is the same rows, leased to nobody. Whoever places many of them in one transaction of
its own (the lines of a batch) calls `place_queued`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from safelight import backlog, budgets, credit_lines, jobs, ledger, lifetimes, webhooks
from safelight.config import LimitsConfig, QueueConfig
from safelight.db import Transaction, UniqueViolation
from safelight.errors import SafelightError, Unavailable
from safelight.gateway import joining, notifying, retention
from safelight.gateway.key_limits import QUEUE_AGAIN_S, Crowded, KeyLimits
from safelight.gateway.orders import Caller, Order, Queued
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.removing import claim_inputs, inputs_of
from safelight.gateway.room import Room
from safelight.types import ImageRequest, Job, JobClass, Quote

log = logging.getLogger("safelight.gateway")

SKEW_MS = 2000
"""Clocks that differ by less are taken for equal: so long may a transaction have waited."""
WATERMARK_LIFE_S = 5.0
"""How long a look at the free disk space, and at the length of the queue, counts."""


Alert = budgets.Alert | credit_lines.LineAlert


class Names:
    """The ids of an order that may be placed."""

    def __init__(self, parts: Parts, n: int) -> None:
        self.request = parts.new_id("req")
        self.jobs = [parts.new_id("job") for _ in range(n)]
        self.reserves = [parts.new_id("tr") for _ in range(n)]


@dataclass(frozen=True)
class _Draft:
    """An order as it is to be written.

    `queued` is None where its jobs are to run here at once.
    """

    request: ImageRequest
    caller: Caller
    digest: bytes
    quote: Quote
    ids: Names
    queued: Queued | None = None


class Acceptance:
    """Accepts orders for one process.

    Args:
        parts: rooms below.
        processes: who else serves the database, and this process's name for leases.
        room: how many jobs may be in flight here.
        min_free_bytes: below this much free space nothing new is accepted.
        limits: of keys that have none of their own.
        queue: how many jobs may wait in the queue, and for how long.
        start: runs an accepted job.
        remind: has queued jobs looked at by whichever process has room.
        expected_s: in how many seconds a job will have ended.
    """

    def __init__(  # noqa: PLR0913  (everything an acceptance depends on, given by name)
        self,
        parts: Parts,
        *,
        processes: Processes,
        room: Room,
        min_free_bytes: int,
        limits: LimitsConfig,
        queue: QueueConfig,
        start: Callable[[Job], object],
        remind: Callable[[Iterable[Job]], object],
        expected_s: Callable[[Job], float],
    ) -> None:
        self._parts = parts
        self._processes = processes
        self._room = room
        self._min_free_bytes = min_free_bytes
        self.limits = KeyLimits(limits, queue)
        self._queue = queue
        self._start = start
        self._remind = remind
        self._expected_s = expected_s
        self._detached = asyncio.Event()
        self._looked_at = float("-inf")
        self._free_bytes = 0
        self._waiting = 0

    async def accept(
        self, request: ImageRequest, caller: Caller, queued: Queued | None = None
    ) -> Order:
        """Accept a checked order, or join the one it is a retry of, durably.

        With `queued` its jobs wait in the queue.

        Raises:
            InvalidValue: its `webhook_url` may not be called.
            InsufficientBalance: nothing was written; also where a budget of the key is too small.
            RateLimited: the key asks too fast, or has too much in flight; nothing was written.
            IdempotencyKeyReused: the key belongs to another body.
            Unavailable: at the bound of jobs in flight or in the queue, or the disk is nearly full.
        """
        notifying.check_order_url(self._parts.guard, caller.webhook_url)
        await self._look_around()
        draft = self._draft(request, caller, queued, Names(self._parts, request.n))
        # Shielded: between the commit and the start of its jobs an order must not be cancelled.
        return await asyncio.shield(self._place_or_wait(draft))

    async def check_queue(self) -> None:
        """Return if queued orders are taken now; for those who call `place_queued`.

        Raises:
            Unavailable: the disk is nearly full, or the queue is.
        """
        await self._look_around()
        self._refuse_what_has_no_place(queued=True)

    def names(self, n: int) -> Names:
        """Return ids for an order of `n` pictures, to be made before its transaction."""
        return Names(self._parts, n)

    def place_queued(
        self, tx: Transaction, request: ImageRequest, caller: Caller, queued: Queued, names: Names
    ) -> tuple[tuple[Job, ...], tuple[Alert, ...]]:
        """Write a checked order whose jobs wait in the queue, in the caller's transaction.

        For many orders in one transaction: what refuses one leaves the others. It joins no earlier
        order, and limits of requests and jobs do not count it. After the commit the caller has its
        jobs reminded of (`Queueing.remind`) and the alerts told (`announce`).

        Args:
            tx: a transaction that may write.
            request: in canonical form.
            caller: whose `idempotency_key` and `retry_count` are not used.
            queued: with its batch.
            names: from `names(request.n)`.

        Returns:
            The jobs, and which shares of budgets and credit line were reached.

        Raises:
            InsufficientBalance: nothing of this order was written; also for a budget of the key.
            CustomerFrozen: the same.
        """
        draft = self._draft(request, caller, queued, names)
        tx.execute("SAVEPOINT one_order")
        try:
            row = self._request_row(tx, draft, retry_of=None)
            jobs.insert_request(tx, row)
            if caller.webhook_url is not None:
                webhooks.keep_order_url(tx, row.id, caller.webhook_url)
            alerts = self._hold_and_insert(tx, draft, row)
        except SafelightError:
            tx.execute("ROLLBACK TO SAVEPOINT one_order")
            raise
        finally:
            tx.execute("RELEASE SAVEPOINT one_order")
        # Nobody waits for the request's answer: no retry shall take it for an order of its own.
        jobs.deliver_request(tx, row.id, retry_count=row.retry_count)
        return jobs.jobs_of(tx, row.id), alerts

    def _draft(
        self, request: ImageRequest, caller: Caller, queued: Queued | None, names: Names
    ) -> _Draft:
        digest = joining.fingerprint(request, caller.route)
        batch = queued is not None and queued.job_class is JobClass.BATCH
        vendor_batch = queued is not None and queued.vendor_batch
        quote = self._parts.channels.quote(request, batch=batch, vendor_batch=vendor_batch)
        return _Draft(request, caller, digest, quote, names, queued)

    def look_again(self) -> None:
        """Say that a caller has left: a retry may be waiting for that."""
        self._detached.set()

    async def _place_or_wait(self, draft: _Draft) -> Order:
        """Place an order; a retry gives the old connection a moment to be seen closing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + joining.JOIN_GRACE_S
        while (left := until - loop.time()) > 0:
            self._detached.clear()
            with contextlib.suppress(joining.Busy):
                return await self._place(draft, patient=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._detached.wait(), min(left, joining.JOIN_LOOK_S))
        # A proxy may keep the old connection open for ever.
        return await self._place(draft, patient=False)

    async def _place(self, draft: _Draft, *, patient: bool) -> Order:
        ids = draft.ids

        def work(tx: Transaction) -> tuple[Order, Iterable[Alert]]:
            order, retry_of = self._join(tx, draft, patient=patient)
            if order is not None:
                return order, ()
            return self._insert(tx, draft, retry_of=retry_of)

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
        announce(alerts, draft.caller)
        if not order.joined:
            self._parts.notes.accepted(order.jobs, draft.caller.traceparent)
        if order.joined:
            self._room.forget(ids.jobs)
            retention.refuse_gone([job.image for job in order.jobs if job.image is not None])
        elif draft.queued is not None:
            self._remind(order.jobs)
        else:
            for job in order.jobs:
                self._start(job)
        return order

    def _join(
        self, tx: Transaction, draft: _Draft, *, patient: bool
    ) -> tuple[Order | None, str | None]:
        """Return the order to join, or None and the id of the failed request that is retried."""
        caller, digest, owner = draft.caller, draft.digest, self._processes.owner
        if caller.idempotency_key is not None:
            return joining.by_key(tx, caller, digest, now_ms=tx.now_ms, owner=owner)
        if caller.retry_count > 0:
            return joining.by_retry_count(
                tx,
                caller,
                digest,
                now_ms=tx.now_ms,
                owner=owner,
                queued=draft.queued is not None,
                alive=self._processes.alive,
                patient=patient,
            )
        return None, None

    def _insert(
        self, tx: Transaction, draft: _Draft, *, retry_of: str | None
    ) -> tuple[Order, Iterable[Alert]]:
        self._refuse_what_has_no_place(queued=draft.queued is not None)
        row = self._request_row(tx, draft, retry_of=retry_of)
        jobs.insert_request(tx, row)
        if draft.caller.webhook_url is not None:
            webhooks.keep_order_url(tx, row.id, draft.caller.webhook_url)
        # After the row: an order that another one of its Idempotency-Key overtook is joined to it.
        queued = draft.queued is not None
        limits = self.limits.admit(tx, row.key_id, draft.request.n, queued=queued)
        alerts = self._hold_and_insert(tx, draft, row)
        order = Order(
            request_id=row.id,
            jobs=jobs.jobs_of(tx, row.id),
            retry_count=draft.caller.retry_count,
            limits=limits,
        )
        if not queued:
            self._room.take(draft.ids.jobs)
        return order, alerts

    def _request_row(
        self, tx: Transaction, draft: _Draft, *, retry_of: str | None
    ) -> jobs.RequestRow:
        caller, queued = draft.caller, draft.queued
        return jobs.RequestRow(
            id=draft.ids.request,
            customer_id=caller.customer_id,
            key_id=caller.key_id,
            route=caller.route,
            fingerprint=draft.digest,
            idempotency_key=None if queued and queued.batch_id else caller.idempotency_key,
            retry_of=retry_of,
            retry_count=caller.retry_count,
            # A queued order's caller too waits: for its 202.
            attached_by=self._processes.owner,
            attached_until=joining.waits_until(caller, tx.now_ms),
            n=draft.request.n,
            created_at=tx.now_ms,
            delivered_at=None,
            batch_id=None if queued is None else queued.batch_id,
        )

    def _hold_and_insert(
        self, tx: Transaction, draft: _Draft, row: jobs.RequestRow
    ) -> tuple[Alert, ...]:
        claim_inputs(tx, draft.request, self._parts.marks)
        lifetimes.keep_inputs(tx, row.id, inputs_of(draft.request))
        if draft.caller.persist:
            retention.wish(tx, customer_id=row.customer_id, request_id=row.id)
        taken = _hold(tx, row, draft.quote, draft.ids)
        deadline_at = self._deadline_at(tx, draft)
        queued = draft.queued or Queued(JobClass.INTERACTIVE)
        for n, job_id in enumerate(draft.ids.jobs):
            jobs.insert_job(
                tx,
                job_id=job_id,
                request=row,
                n=n,
                order=draft.request,
                size_plan=draft.quote.size_plan,
                price_micros=draft.quote.price_micros,
                reserve_id=draft.ids.reserves[n],
                lease_owner=None if draft.queued else self._processes.owner,
                deadline_at=deadline_at,
                budget_day=taken.day,
                job_class=queued.job_class,
                priority=queued.priority,
                not_before=queued.not_before,
                batch_id=queued.batch_id,
                metadata=draft.caller.metadata,
            )
        line = credit_lines.alert(tx, row.customer_id)
        return taken.alerts if line is None else (*taken.alerts, line)

    def _deadline_at(self, tx: Transaction, draft: _Draft) -> int:
        """Return the caller's deadline, but at most the channel's cap away, or the queue's."""
        deadline_at = draft.caller.deadline_at
        skew_ms = tx.now_ms - self._parts.clock.now_ms()
        if deadline_at is not None and abs(skew_ms) > SKEW_MS:
            # It was reckoned on this machine's clock, and the database's is another.
            deadline_at += skew_ms
        if draft.queued is None:
            policy = self._parts.channels.get(draft.request.channel)
            cap_at = tx.now_ms + round(policy.deadline_s * 1000)
        else:
            begins_at = max(tx.now_ms, draft.queued.not_before or 0)
            cap_at = begins_at + round(self._queue.deadline_s * 1000)
        return cap_at if deadline_at is None else min(cap_at, deadline_at)

    async def _look_around(self) -> None:
        """Look at the free space of the disk, and at the length of the queue, now and then."""
        now = self._parts.clock.monotonic()
        if now - self._looked_at > WATERMARK_LIFE_S:
            # The answer before its time: whoever comes meanwhile looks for himself.
            free_bytes = await self._parts.storage.free_bytes()
            waiting = await self._parts.db.read(backlog.count)
            self._free_bytes, self._waiting, self._looked_at = free_bytes, waiting, now

    def _refuse_what_has_no_place(self, *, queued: bool) -> None:
        """Refuse what would start new jobs; a retry that joins needs no room."""
        if self._free_bytes < self._min_free_bytes:
            raise Unavailable(
                "The gateway's disk is nearly full; nothing new is accepted. Tell your operator.",
                code="storage_full",
            )
        if queued and self._waiting >= self._queue.max_waiting:
            raise Unavailable(
                "The queue is full; nothing was charged. Send the request again later.",
                code="queue_full",
                retry_after_s=QUEUE_AGAIN_S,
                should_retry=True,
            )


def _hold(tx: Transaction, row: jobs.RequestRow, quote: Quote, ids: Names) -> budgets.Taken:
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


def announce(alerts: Iterable[Alert], caller: Caller) -> None:
    """Tell the operator, in the log, which shares were reached."""
    for alert in alerts:
        facts = {**msgspec.structs.asdict(alert), "customer_id": caller.customer_id}
        if isinstance(alert, budgets.Alert):
            log.warning("a key's budget has reached a share", extra=facts)
        else:
            log.warning("a customer's credit line has reached a share", extra=facts)
