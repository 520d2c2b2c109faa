"""Feeding: lines of a batch become queued orders, a few at a time.

Owns what happens to a line between its place in the file and the order it becomes, or the refusal
it ends with. A line is accepted in one transaction with its price held and its own row changed
from `waiting`, so it is bought once wherever a crash falls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from safelight import batches
from safelight.batches import BatchRow, LineFault
from safelight.batches import lines as rows
from safelight.batches.lines import LineRow, LineState
from safelight.config_batches import BatchesConfig
from safelight.db import Transaction
from safelight.errors import (
    CustomerFrozen,
    InsufficientBalance,
    SafelightError,
    Unavailable,
)
from safelight.gateway import failures, notifying
from safelight.gateway.acceptance import Acceptance, Alert, Names, announce
from safelight.gateway.batching.forms import Forms, Wanted, failure_of
from safelight.gateway.batching.intake import Envelope
from safelight.gateway.orders import Caller, Queued
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane import VendorLane
from safelight.types import Job, JobClass, JobFailure

log = logging.getLogger("safelight.batches")

AT_ONCE = 50
"""Lines of one transaction."""
SPAN_BYTES = 4 * 1024 * 1024
"""Bytes of the file that are read for them."""
PRIORITY = 1000
"""Behind what the customer queues itself."""


Remind = Callable[[Iterable[Job]], object]
"""Has placed jobs looked at: `Gateway.remind`."""


class _Ready(msgspec.Struct, frozen=True):
    """A line that was read: what it orders, or why it is refused."""

    line: LineRow
    wanted: Wanted | None = None
    names: Names | None = None
    failure: JobFailure | None = None


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction did: how many lines left `waiting`, and the orders of them."""

    jobs: tuple[Job, ...] = ()
    lines: int = 0
    collected: int = 0
    """Jobs that are collected for a vendor; they are not in the queue."""
    wake: frozenset[str] = frozenset()
    """Vendor batches that are to be looked at."""
    alerts: tuple[Alert, ...] = ()


class Feeder:
    """Feeds one batch in one visit.

    Args:
        parts: rooms below.
        acceptance: places orders.
        remind: has their jobs looked at.
        forms: reads lines.
        config: how many lines may be under way, how long money is waited for.
        lane: takes lines for the vendors' own Batch APIs.
    """

    def __init__(
        self,
        parts: Parts,
        acceptance: Acceptance,
        remind: Remind,
        forms: Forms,
        config: BatchesConfig,
        lane: VendorLane,
    ) -> None:
        self._parts = parts
        self._acceptance = acceptance
        self._remind = remind
        self._forms = forms
        self._config = config
        self._lane = lane

    async def feed(self, batch: BatchRow, visit: str) -> Fed:
        """Let some waiting lines become orders, as many as may be under way.

        Raises:
            Superseded: another visit has begun.
            StorageError: the file cannot be read.
        """
        room, lines = await self._parts.db.read(lambda tx: self._next_lines(tx, batch))
        lines = lines[:room]
        if not lines or not await self._is_room():
            return Fed()
        ready = [
            await self._read(batch, line, data)
            for line, data in await self._data_of(batch, _span(lines))
        ]
        fed = await self._parts.db.write(lambda tx: self._place(tx, batch, visit, ready))
        self._remind(fed.jobs)
        await self._lane.wake(fed.wake)
        announce(fed.alerts, _caller(batch))
        return fed

    async def unwant(self, batch: BatchRow) -> None:
        """Let those jobs of a batch be cancelled that are collected for a vendor, or with one."""
        await self._lane.unwant(batch.id)

    async def _is_room(self) -> bool:
        try:
            await self._acceptance.check_queue()
        except Unavailable as error:
            log.warning("batches put off", extra={"reason": error.message})
            return False
        return True

    def _next_lines(self, tx: Transaction, batch: BatchRow) -> tuple[int, list[LineRow]]:
        under_way = rows.count_in(tx, batch.id, LineState.UNDER_WAY)
        room = self._lane.entering.room(
            tx, batch, under_way=under_way, live=self._config.lines_under_way
        )
        return room, rows.lines_in(
            tx, batch.id, [LineState.WAITING], after=0, limit=min(AT_ONCE, max(room, 1))
        )

    async def _data_of(
        self, batch: BatchRow, lines: Sequence[LineRow]
    ) -> list[tuple[LineRow, bytes]]:
        first, last = lines[0], lines[-1]
        span = bytearray()
        length = last.start + last.length - first.start
        chunks = self._parts.storage.read(batch.input_digest, start=first.start, length=length)
        async for chunk in chunks:
            span += chunk
        found = []
        for line in lines:
            at = line.start - first.start
            found.append((line, bytes(span[at : at + line.length])))
        return found

    async def _read(self, batch: BatchRow, line: LineRow, data: bytes) -> _Ready:
        try:
            body = msgspec.json.decode(data, type=Envelope).body
            wanted = await self._forms.read(batch, bytes(body))
            notifying.check_order_url(self._parts.guard, wanted.webhook_url)
        except Unavailable:
            raise
        except SafelightError as error:
            return _Ready(line, failure=failure_of(error))
        except (msgspec.MsgspecError, ValueError):  # the same bytes were read before
            log.exception("a line is not what it was", extra={"batch_id": batch.id})
            return _Ready(line, failure=failures.internal())
        return _Ready(line, wanted=wanted, names=self._acceptance.names(wanted.request.n))

    def _place(self, tx: Transaction, batch: BatchRow, visit: str, ready: Sequence[_Ready]) -> Fed:
        batches.hold(tx, batch, visit)
        fed = Fed()
        vendor = self._lane.entering.wants(batch)
        for one in ready:
            try:
                placed, alerts = self._place_line(tx, batch, one, vendor=vendor)
            except (InsufficientBalance, CustomerFrozen) as error:
                if not self._waited_enough(tx, batch):
                    batches.note_starving(tx, batch.id, _starving(error, one.line))
                    break
                rows.refuse_line(tx, batch.id, one.line.line, failure_of(error))
                placed, alerts = (), ()
            except Unavailable:
                # No fault of the line: it is read again in the next visit.
                break
            except SafelightError as error:
                rows.refuse_line(tx, batch.id, one.line.line, failure_of(error))
                placed, alerts = (), ()
            fed = self._add(tx, batch, fed, placed, alerts, vendor=vendor)
            if vendor and one is ready[-1] and len(ready) < AT_ONCE:
                last = self._lane.entering.collecting(tx, batch)
                fed = msgspec.structs.replace(fed, wake=fed.wake | last)
        else:
            if (fed.jobs or fed.collected) and batch.starved_at is not None:
                batches.note_starving(tx, batch.id, None)
        if fed.lines:
            batches.note_progress(tx, batch.id)
        return fed

    def _add(
        self,
        tx: Transaction,
        batch: BatchRow,
        fed: Fed,
        placed: tuple[Job, ...],
        alerts: tuple[Alert, ...],
        *,
        vendor: bool,
    ) -> Fed:
        """Count a line in; with `vendor` its jobs are collected for a vendor, not queued."""
        made = self._lane.entering.enter(tx, batch, placed) if vendor else frozenset()
        return Fed(
            jobs=fed.jobs if vendor else (*fed.jobs, *placed),
            lines=fed.lines + 1,
            collected=fed.collected + (len(placed) if vendor else 0),
            wake=fed.wake | made,
            alerts=(*fed.alerts, *alerts),
        )

    def _place_line(
        self, tx: Transaction, batch: BatchRow, one: _Ready, *, vendor: bool
    ) -> tuple[tuple[Job, ...], tuple[Alert, ...]]:
        """Order what a line wants, or end it with its refusal.

        Raises:
            SafelightError: the order is refused; nothing of the line was written.
            Superseded: the line does not wait any more.
        """
        if one.wanted is None or one.names is None:
            rows.refuse_line(tx, batch.id, one.line.line, one.failure or failures.internal())
            return (), ()
        caller = msgspec.structs.replace(
            _caller(batch), webhook_url=one.wanted.webhook_url, metadata=one.wanted.metadata
        )
        queued = Queued(JobClass.BATCH, priority=PRIORITY, batch_id=batch.id, vendor_batch=vendor)
        placed = self._acceptance.place_queued(tx, one.wanted.request, caller, queued, one.names)
        rows.accept_line(
            tx,
            batch.id,
            one.line.line,
            request_id=one.names.request,
            answer=one.wanted.answer,
        )
        return placed

    def _waited_enough(self, tx: Transaction, batch: BatchRow) -> bool:
        patience_ms = self._config.wait_for_money_s * 1000
        starved_at = tx.now_ms if batch.starved_at is None else batch.starved_at
        return tx.now_ms - starved_at >= patience_ms


def _caller(batch: BatchRow) -> Caller:
    return Caller(
        customer_id=batch.customer_id,
        key_id=batch.key_id,
        route=batch.endpoint,
        deadline_at=batch.expires_at,
    )


def _starving(error: SafelightError, line: LineRow) -> LineFault:
    return LineFault(
        code=error.code or error.type,
        message=f"{error.message} The batch goes on by itself as soon as this line can be paid.",
        line=line.line,
    )


def _span(lines: Sequence[LineRow]) -> Sequence[LineRow]:
    """Return as many of the lines as lie in one span that is read at once; one at least."""
    first = lines[0].start
    fitting = [line for line in lines if line.start + line.length - first <= SPAN_BYTES]
    return fitting or lines[:1]
