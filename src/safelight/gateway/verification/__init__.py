"""The verification: do money, jobs and pictures agree, on a live installation?

Owns the order of the looks and the report. `money` compares the ledger with itself, `work` money
with jobs and images, `batch_work` lines of batches with orders, `blobs` images with the store,
`findings` names what can be wrong, `known` keeps what was found, `auditor` raises the alarm. Each
look is a short snapshot, so it runs beside a loaded server and needs little memory; what is in
flight always fits together within a snapshot.
It says what is wrong and corrects nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

import msgspec

from safelight.clock import Clock
from safelight.db import Database, Row, Transaction
from safelight.gateway.verification import batch_work, known, money, work
from safelight.gateway.verification.blobs import BlobLook
from safelight.gateway.verification.findings import Check, Finding, found
from safelight.storage import BlobStore

__all__ = ["Check", "Finding", "Report", "Verification", "found", "verify_all"]

FINDINGS_MAX = 1000
"""Most findings that a report lists: a lost store would be one for each picture."""

T = TypeVar("T")


class Report(msgspec.Struct, kw_only=True):
    """What was looked at and what was found. `took_s` in seconds; the rest are counts."""

    customers: int = 0
    transfers: int = 0
    jobs: int = 0
    images: int = 0
    blobs: int = 0
    blobs_hashed: int = 0
    bytes_hashed: int = 0
    blobs_unread: int = 0
    attempts_sent: int = 0
    attempts_delivered: int = 0
    attempts_sold_in_vain: int = 0
    attempts_unknown: int = 0
    took_s: float = 0.0
    findings: list[Finding] = msgspec.field(default_factory=list)
    accepted: list[Finding] = msgspec.field(default_factory=list)
    """Findings that an operator has accepted: they count no more."""
    left_out: int = 0
    """Findings beyond those that are listed."""


class Verification:
    """Looks at one installation.

    Args:
        db: its database.
        store: its pictures; None: they are not looked at.
        clock: measures how long it took.
        rng: chooses the blobs to hash.
        rests: after each snapshot it rests so many times as long as that took, so that orders
            beside it do not wait for a core. 0: as fast as it goes.
    """

    def __init__(
        self,
        db: Database,
        store: BlobStore | None,
        clock: Clock,
        rng: random.Random | None = None,
        *,
        rests: float = 0.0,
    ) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._rests = rests

    async def run(
        self,
        *,
        customer_id: str | None = None,
        blobs: float | None = 1.0,
        and_hash: Collection[str] = (),
    ) -> Report:
        """Look at everything, or at one customer.

        Args:
            customer_id: whose; None is everybody's.
            blobs: of all blobs it is asked whether they are there; this share of them is read and
                hashed. None: blobs are not looked at.
            and_hash: ids of images whose blobs are hashed in any case.
        """
        began = self._clock.monotonic()
        report = Report()
        names = await self._db.read(_names)
        for customer in names if customer_id is None else [customer_id]:
            await self._ledger_of(report, customer)
        await self._strays(report, customer_id)
        _add(report, await self._db.read(partial(work.budget_faults, customer_id=customer_id)))
        await self._jobs(report, customer_id)
        await self._batches(report, customer_id)
        await self._images(report, customer_id, blobs, and_hash)
        if customer_id is None:
            _count_attempts(report, await self._db.read(work.attempt_totals))
        named = [
            msgspec.structs.replace(one, customer=names.get(one.customer_id, ""))
            for one in report.findings
        ]
        report.findings, report.accepted = known.split(named, await self._db.read(known.read))
        report.took_s = self._clock.monotonic() - began
        return report

    async def again(self, first: Report, *, blobs: float | None) -> list[Finding]:
        """Look a second time and return what was found both times."""
        if not first.findings:
            return []
        whose = {one.customer_id for one in first.findings}
        second = await self.run(
            customer_id=whose.pop() if len(whose) == 1 and "" not in whose else None,
            blobs=None if blobs is None else 0.0,
            and_hash={one.subject for one in first.findings},
        )
        marks = {(one.customer_id, one.mark) for one in second.findings}
        return [one for one in first.findings if (one.customer_id, one.mark) in marks]

    async def _look(self, read: Callable[[Transaction], T]) -> T:
        """Read one snapshot, and rest."""
        return await self._and_rest(self._db.read(read))

    async def _and_rest(self, work: Awaitable[T]) -> T:
        began = self._clock.monotonic()
        result = await work
        took_s = self._clock.monotonic() - began
        if self._rests and took_s > 0:
            await asyncio.sleep(self._rests * took_s)
        return result

    async def _ledger_of(self, report: Report, customer_id: str) -> None:
        walk = money.LedgerWalk(customer_id)
        # Hashing takes a while: not on the event loop, and not while a snapshot is open.
        more = True
        while more:
            page = await self._look(walk.read)
            more = await self._and_rest(asyncio.to_thread(walk.take, page))
        report.customers += 1
        report.transfers += walk.transfers
        _add(report, walk.findings)

    async def _strays(self, report: Report, customer_id: str | None) -> None:
        newest = await self._look(work.newest_seq)
        for after in range(0, newest, work.PAGE):
            until = min(after + work.PAGE, newest)
            look = partial(work.strays, after=after, until=until, customer_id=customer_id)
            _add(report, await self._look(look))

    async def _jobs(self, report: Report, customer_id: str | None) -> None:
        after: str | None = ""
        while after is not None:
            look = partial(work.jobs_page, after=after, customer_id=customer_id)
            page = await self._look(look)
            report.jobs += len(page.rows)
            _add(report, page.findings)
            after = page.after

    async def _batches(self, report: Report, customer_id: str | None) -> None:
        batch = await self._look(partial(batch_work.next_batch, after="", customer_id=customer_id))
        while batch is not None:
            _add(report, await self._look(partial(batch_work.batch_faults, batch=batch)))
            batch = await self._look(
                partial(batch_work.next_batch, after=batch["id"], customer_id=customer_id)
            )

    async def _images(
        self,
        report: Report,
        customer_id: str | None,
        share: float | None,
        and_hash: Collection[str],
    ) -> None:
        look = BlobLook(self._db, self._store) if self._store and share is not None else None
        after: str | None = ""
        while after is not None:
            page = await self._look(partial(work.images_page, after=after, customer_id=customer_id))
            report.images += len(page.rows)
            _add(report, page.findings)
            if look is not None:
                ids = {row["id"] for row in page.rows}
                chosen = {one for one in ids if self._rng.random() < (share or 0.0)}
                await look.look(page.rows, to_hash=chosen | (ids & set(and_hash)))
            after = page.after
        if look is not None:
            report.blobs, report.blobs_hashed = look.looked_at, look.hashed
            report.bytes_hashed, report.blobs_unread = look.hashed_bytes, look.unread
            _add(report, look.findings)


def verify_all(tx: Transaction) -> list[Finding]:
    """Return what is wrong with all but the blobs, read in one transaction."""
    findings = [one for customer in _names(tx) for one in money.walk(tx, customer)]
    findings += work.strays(tx, after=0, until=work.newest_seq(tx))
    findings += work.budget_faults(tx)
    findings += batch_work.all_faults(tx)
    for look in (work.jobs_page, work.images_page):
        after: str | None = ""
        while after is not None:
            page = look(tx, after)
            findings += page.findings
            after = page.after
    return findings


def _add(report: Report, findings: list[Finding]) -> None:
    room = FINDINGS_MAX - len(report.findings)
    report.findings += findings[:room]
    report.left_out += max(0, len(findings) - room)


def _names(tx: Transaction) -> dict[str, str]:
    return {row["id"]: row["name"] for row in tx.all("SELECT id, name FROM customer ORDER BY id")}


def _count_attempts(report: Report, totals: Row) -> None:
    report.attempts_sent = totals["sent"]
    report.attempts_delivered = totals["delivered"]
    report.attempts_sold_in_vain = totals["in_vain"]
    report.attempts_unknown = totals["unknown"]
