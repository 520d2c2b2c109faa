"""A database in virtual time: real SQLite in memory, with the latencies and faults of a seed.

The tables, the migrations and the transaction are the product's; what stands between them and the
gateway is this driver in place of the thread with its queue. One `Tables` is what survives; each
process has a `SimulatedDatabase` of its own, which dies with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safelight.clock import Clock
from safelight.db import Row, Transaction, UniqueViolation
from safelight.db.sqlite_opening import prepare
from safelight.db.sqlite_transaction import SqliteTransaction
from safelight.db.sqlite_trouble import Trouble
from safelight.errors import ShuttingDown, Unavailable
from simulation.weather import Weather

T = TypeVar("T")

_Work = tuple[Callable[[Transaction], Any], asyncio.Future[Any]]
_End = tuple[asyncio.Future[Any], Any, Exception | None]

BATCH_MAX = 256
PATIENCE_S = 5.0
"""How long a work waits for a database that is away before it is refused."""


class Tables:
    """What is on the disk."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA foreign_keys=ON")
        prepare(self.connection, Path("memory"), 0, check=False)
        self.trouble = Trouble(Path("memory"))

    def look(self, work: Callable[[Transaction], T], now_ms: int) -> T:
        """Run a read at once, outside of any process."""
        self.connection.execute("BEGIN")
        try:
            return work(self.transaction(now_ms, writing=False))
        finally:
            self.connection.execute("ROLLBACK")

    def change(self, work: Callable[[Transaction], T], now_ms: int) -> T:
        """Run a write at once, outside of any process."""
        self.connection.execute("BEGIN IMMEDIATE")
        result = work(self.transaction(now_ms))
        self.connection.execute("COMMIT")
        return result

    def transaction(self, now_ms: int, *, writing: bool = True) -> Transaction:
        return StrictTransaction(self.connection, now_ms, self.trouble, writing=writing)


class StrictTransaction(SqliteTransaction):
    """As Postgres: after a refused row nothing more is done in this work."""

    __slots__ = ("refused",)

    def __init__(
        self, connection: sqlite3.Connection, now_ms: int, trouble: Trouble, *, writing: bool
    ) -> None:
        super().__init__(connection, now_ms, trouble, writing=writing)
        self.refused = False

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        assert not self.refused, f"work goes on after a refused row: {sql}"
        try:
            return super().execute(sql, params)
        except UniqueViolation:
            self.refused = True
            raise

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        assert not self.refused, f"work goes on after a refused row: {sql}"
        return super().all(sql, params)


class SimulatedDatabase:
    """One process's way to the tables (see `safelight.db.Database`).

    Args:
        tables: what all processes share.
        clock: gives each transaction its time.
        die: ends the process, and says where.
        weather: what goes wrong.
        rng: draws latencies.
        over: whether the run has ended.
    """

    def __init__(
        self,
        tables: Tables,
        clock: Clock,
        die: Callable[[str], None],
        weather: Weather,
        rng: random.Random,
        over: Callable[[], bool],
    ) -> None:
        self._over = over
        self._tables = tables
        self._clock = clock
        self._die = die
        self._weather = weather
        self._rng = rng
        self._waiting: list[_Work] = []
        self._busy = False
        self._closed = False
        self.commits = 0

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        if self._closed or self._over():
            raise ShuttingDown
        if company_s:
            await asyncio.sleep(company_s)
        await self._wait_until_there()
        if self._weather.strikes("busy"):
            await asyncio.sleep(PATIENCE_S)
            raise _busy()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        self._begin()
        return await future

    async def read(self, work: Callable[[Transaction], T]) -> T:
        if self._over():
            raise ShuttingDown
        await self._wait_until_there()
        await asyncio.sleep(self._seconds() / 2)
        return self._tables.look(work, self._clock.now_ms())

    async def close(self) -> None:
        self._closed = True
        while self._busy and not self._over():  # noqa: ASYNC110  (virtual time costs nothing)
            await asyncio.sleep(0.01)

    async def _wait_until_there(self) -> None:
        left = PATIENCE_S
        while self._weather.lasts("database-away"):
            if left <= 0:
                raise _busy()
            await asyncio.sleep(0.5)
            left -= 0.5

    def _seconds(self) -> float:
        if self._weather.lasts("database-slow"):
            return self._rng.uniform(0.1, 2.0)
        return self._rng.uniform(0.0005, 0.004)

    def _begin(self) -> None:
        if not self._busy and self._waiting:
            self._busy = True
            asyncio.get_running_loop().call_later(self._seconds(), self._commit)

    def _commit(self) -> None:
        """Do what waits in one transaction; its answer comes some time later."""
        batch = [one for one in self._waiting[:BATCH_MAX] if not one[1].cancelled()]
        del self._waiting[:BATCH_MAX]
        if batch and self._weather.strikes("die-before-commit"):
            self._die("before a commit")
            return
        if self._weather.lasts("database-full"):
            ends: list[_End] = [(future, None, _full()) for _, future in batch]
        else:
            ends = self._run(batch)
        if batch and self._weather.strikes("die-after-commit"):
            self._die("after a commit")
            return
        asyncio.get_running_loop().call_later(self._seconds() / 2, self._answer, ends)

    def _run(self, batch: list[_Work]) -> list[_End]:
        connection = self._tables.connection
        now_ms = self._clock.now_ms()
        connection.execute("BEGIN IMMEDIATE")
        ends = [(future, *self._run_one(work, now_ms)) for work, future in batch]
        connection.execute("COMMIT")
        self.commits += 1
        return ends

    def _run_one(
        self, work: Callable[[Transaction], T], now_ms: int
    ) -> tuple[T | None, Exception | None]:
        connection = self._tables.connection
        if self._weather.strikes("commit-twice"):
            connection.execute("SAVEPOINT first")
            with contextlib.suppress(Exception):  # undone and done again, however it ended
                work(self._tables.transaction(now_ms))
            connection.execute("ROLLBACK TO first")
            connection.execute("RELEASE first")
        connection.execute("SAVEPOINT work")
        try:
            result = work(self._tables.transaction(now_ms))
        except Exception as error:  # noqa: BLE001  (handed to the caller that submitted the work)
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            return None, error
        connection.execute("RELEASE work")
        return result, None

    def _answer(self, ends: list[_End]) -> None:
        for future, result, error in ends:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._busy = False
        self._begin()


def _busy() -> Unavailable:
    return Unavailable(
        "The database cannot be reached.", code="database_busy", retry_after_s=1, should_retry=True
    )


def _full() -> Unavailable:
    return Unavailable("The disk is full.", code="storage_full")
