"""What a verb costs: CPU time of this process, and steps of SQLite's machine.

Owns the clocks and the counters. Steps are what SQLite's virtual machine carries out (sqlite.org,
"The SQLite Bytecode Engine"): the same work is the same number on every machine and under any load,
so a test can count on it. What a single step costs grows with the depth of an index, and a sort
hides in few of them: hence the CPU time beside it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from safelight.db import Database, Transaction
from safelight.db.sqlite_transaction import SqliteTransaction

T = TypeVar("T")

GRAIN = 10
"""Steps that are counted at once: each count is a visit to Python."""


class Counter:
    """Counts the steps of every connection that it has seen, while it is on."""

    def __init__(self) -> None:
        self.steps = 0
        self.transactions = 0
        self.on = False
        self._known: set[sqlite3.Connection] = set()

    def see(self, connection: sqlite3.Connection) -> None:
        """Count the steps of a connection from now on; called in the thread that uses it."""
        self.transactions += 1
        if self.on and connection not in self._known:
            connection.set_progress_handler(self._count, GRAIN)
            self._known.add(connection)

    def _count(self) -> int:
        self.steps += GRAIN
        return 0

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count from zero; nothing runs when this begins and ends."""
        self.steps = self.transactions = 0
        self.on = True
        try:
            yield
        finally:
            self.on = False
            for connection in self._known:
                connection.set_progress_handler(None, GRAIN)
            self._known.clear()


class Counted:
    """A database whose steps are counted; another one stands behind it."""

    def __init__(self, db: Database, counter: Counter) -> None:
        self._db = db
        self._counter = counter

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        """Run `work` in one durable transaction (see `safelight.db.Database`)."""
        return await self._db.write(lambda tx: self._seen(tx, work), company_s=company_s)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot."""
        return await self._db.read(lambda tx: self._seen(tx, work))

    async def close(self) -> None:
        """Close the database behind."""
        await self._db.close()

    def _seen(self, tx: Transaction, work: Callable[[Transaction], T]) -> T:
        if self._counter.on and isinstance(tx, SqliteTransaction):
            self._counter.see(tx.connection)
        return work(tx)


async def cpu_ms(verb: Callable[[], Awaitable[object]], times: int) -> float:
    """Return the CPU milliseconds of one call, over `times` of them; every thread counts."""
    began = time.process_time()
    for _ in range(times):
        await verb()
    return (time.process_time() - began) * 1000 / times


async def steps(counter: Counter, verb: Callable[[], Awaitable[object]]) -> int:
    """Return the steps of one call."""
    with counter.counting():
        await verb()
    return counter.steps
