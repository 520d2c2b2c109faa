"""How many reserve+settle pairs a second the ledger moves, with shared commits and without.

Owns the course, the checks and the arithmetic. Unlike the rest of the bench it calls the gateway's
own code in this process (`ledger` on a `Database`): what is compared are two ways to commit, and
HTTP would hide them. Both ways are durable: WAL with synchronous=FULL, an fsync for each commit.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from safelight import __version__, customers, ledger
from safelight.bench.errors import BenchError
from safelight.bench.result import Machine
from safelight.bench.run import this_machine
from safelight.clock import SystemClock
from safelight.db import Database, Transaction
from safelight.db.postgres import PostgresDatabase
from safelight.db.sqlite import SqliteDatabase
from safelight.db.sqlite_writer import BATCH_MAX
from safelight.gateway.verification.money import walk

Progress = Callable[[str], None]

PRICE_MICROS = 30_000
CREDIT_MICROS = 10**12
WARM_UP_PAIRS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure: `waiters` callers at once, `pairs` of each way in each of `rounds`."""

    waiters: int = 64
    pairs: int = 1000
    rounds: int = 7
    postgres: str | None = None


class WayResult(msgspec.Struct, frozen=True, kw_only=True):
    """One way to commit: medians of the rounds. `pairs_per_commit` is None where nobody counts."""

    name: str
    pairs_per_s: float
    lowest_per_s: float
    highest_per_s: float
    pairs: int
    pairs_per_commit: float | None


class MoneyReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; `ratio` is the median over the rounds of shared commits to one commit each."""

    version: str
    machine: Machine
    waiters: int
    rounds: int
    took_s: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    ways: tuple[WayResult, ...]


class _Way:
    """One database that the pairs are moved on, and what was counted there."""

    def __init__(self, name: str, db: Database, waiters: int) -> None:
        self.name = name
        self.db = db
        self.rates: list[float] = []
        self.moved = 0
        self.commits = 0
        self.customers = [f"cus_bench_{number}" for number in range(waiters)]

    async def prepare(self) -> None:
        """Make a customer for each waiter, and warm up."""

        def make(tx: Transaction) -> None:
            for customer in self.customers:
                customers.create_customer(tx, customer_id=customer, name=customer)
                ledger.open_balance(tx, customer)
                ledger.topup(
                    tx,
                    transfer_id=f"tr_{customer}",
                    customer_id=customer,
                    amount_micros=CREDIT_MICROS,
                    actor="bench",
                    reason="bench",
                )

        if await self.db.read(customers.any_customer):
            raise BenchError(f"the database for {self.name} has customers: give it an empty one")
        await self.db.write(make)
        await self._move(WARM_UP_PAIRS)

    async def round(self, pairs: int) -> float:
        """Move so many pairs; return how many that were a second."""
        before = self._counted()
        began = time.perf_counter()
        await self._move(pairs)
        rate = pairs / (time.perf_counter() - began)
        self.rates.append(rate)
        self.commits += self._counted() - before
        return rate

    async def _move(self, pairs: int) -> None:
        left = iter(range(pairs))
        await asyncio.gather(*(self._buy(customer, left) for customer in self.customers))
        self.moved += pairs

    async def _buy(self, customer: str, left: Iterator[int]) -> None:
        """Hold a price and settle it, each in a transaction of its own, as an order does."""
        for _ in left:
            # As wide and as random as the gateway's own ids: indexes feel that.
            reserve_id, settle_id = f"tr_{secrets.token_hex(12)}", f"tr_{secrets.token_hex(12)}"
            await self.db.write(
                partial(
                    ledger.reserve,
                    transfer_id=reserve_id,
                    customer_id=customer,
                    job_id=f"job_{secrets.token_hex(12)}",
                    amount_micros=PRICE_MICROS,
                    actor="key:bench",
                )
            )
            await self.db.write(
                partial(
                    ledger.settle,
                    transfer_id=settle_id,
                    reserve_id=reserve_id,
                    actor="gateway",
                    reason="image delivered",
                )
            )

    def _counted(self) -> int:
        return self.db.commits if isinstance(self.db, SqliteDatabase) else 0

    def result(self) -> WayResult:
        """Return the medians."""
        pairs = self.moved - WARM_UP_PAIRS
        return WayResult(
            name=self.name,
            pairs_per_s=statistics.median(self.rates),
            lowest_per_s=min(self.rates),
            highest_per_s=max(self.rates),
            pairs=pairs,
            pairs_per_commit=pairs / self.commits if self.commits else None,
        )


async def run(plan: Plan, progress: Progress) -> MoneyReport:
    """Measure both ways on SQLite in turns, and Postgres where the plan names one.

    Raises:
        BenchError: a database is not as durable as said, or the books do not show every pair.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
        shared = _Way("one commit for all who wait", _sqlite(Path(folder), BATCH_MAX), plan.waiters)
        single = _Way("one commit each", _sqlite(Path(folder), 1), plan.waiters)
        ways = [shared, single]
        if plan.postgres is not None:
            # Away from the loop: it connects, and migrates.
            server = await asyncio.to_thread(PostgresDatabase, plan.postgres)
            ways.append(_Way("Postgres", server, plan.waiters))
        try:
            ratios = await _measure(plan, ways, progress)
        finally:
            for way in ways:
                await way.db.close()
        for batch_max, way in ((BATCH_MAX, shared), (1, single)):
            await _check_reopened(Path(folder), batch_max, way)
    return MoneyReport(
        version=__version__,
        machine=this_machine(),
        waiters=plan.waiters,
        rounds=plan.rounds,
        took_s=round(time.monotonic() - began, 1),
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        ways=tuple(way.result() for way in ways),
    )


async def _measure(plan: Plan, ways: list[_Way], progress: Progress) -> list[float]:
    """Let the ways take turns; return the ratio of the first to the second in each round."""
    for way in ways:
        await way.prepare()
        await _check_durable(way)
    ratios = []
    for number in range(plan.rounds):
        progress(f"round {number + 1} of {plan.rounds}")
        rates = [await way.round(plan.pairs) for way in ways]
        ratios.append(rates[0] / rates[1])
    return ratios


def _sqlite(folder: Path, batch_max: int) -> SqliteDatabase:
    return SqliteDatabase(folder / f"{batch_max}.db", SystemClock(), batch_max=batch_max)


async def _check_durable(way: _Way) -> None:
    """Ask the connection that commits how it does so."""
    asked = (
        [("PRAGMA synchronous", "synchronous", 2), ("PRAGMA journal_mode", "journal_mode", "wal")]
        if isinstance(way.db, SqliteDatabase)
        else [
            ("SHOW synchronous_commit", "synchronous_commit", "on"),
            ("SHOW fsync", "fsync", "on"),
        ]
    )
    for sql, name, wanted in asked:
        row = await way.db.write(lambda tx, sql=sql: tx.one(sql))  # type: ignore[misc]
        if row is None or row[name] != wanted:
            raise BenchError(f"{way.name} is not durable: {name} is {row and row[name]}")


async def _check_reopened(folder: Path, batch_max: int, way: _Way) -> None:
    """Look at the closed file again: every pair is there, and the books are sound."""
    db = _sqlite(folder, batch_max)
    try:
        settled = await db.read(
            lambda tx: tx.one("SELECT COUNT(*) AS n FROM transfer WHERE kind = 'settle'")
        )
        faults = [
            str(fault)
            for customer in way.customers
            for fault in await db.read(partial(walk, customer_id=customer))
        ]
    finally:
        await db.close()
    if settled is None or settled["n"] != way.moved:
        raise BenchError(f"{way.name}: {way.moved} pairs were acknowledged, {settled} are there")
    if faults:
        raise BenchError(f"{way.name}: the books are not sound: {faults[0]}")
