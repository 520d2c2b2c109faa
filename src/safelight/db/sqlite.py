"""SQLite: one writer thread with group commit, readers on their own snapshots.

Owns connections and pragmas, and who uses which connection. Knows no table. WAL with
synchronous=FULL: an acknowledged commit survives power loss; NORMAL would not promise that. Readers
and the writer never wait for each other.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from safelight.clock import Clock
from safelight.db import Transaction
from safelight.db.sqlite_opening import OPEN_PATIENCE_S, named_damage, prepare
from safelight.db.sqlite_transaction import SqliteTransaction
from safelight.db.sqlite_trouble import OnDamage, Trouble
from safelight.db.sqlite_writer import BATCH_MAX, Writer
from safelight.errors import ShuttingDown

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
STATEMENTS_KEPT = 512
"""Prepared statements that a connection keeps: more than there are texts in the code."""


class SqliteDatabase:
    """A database file (see `safelight.db.Database`).

    Args:
        path: the file; it is made, migrated and checked.
        clock: gives each transaction its one time.
        check: whether to look for damage first; it reads the whole file.
        busy_timeout_s: how long a work waits for another process's write lock. Who needs longer
            writes again; an order at the door would rather be refused.
        batch_max: most works that share a commit; 1 gives each its own.
        on_damage: told once, from any thread, when damage is met later.

    Raises:
        Damaged: the file is damaged.
        sqlite3.Error: it is not to be opened.
        SchemaTooNew: a newer safelight has migrated it.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        check: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        batch_max: int = BATCH_MAX,
        on_damage: OnDamage | None = None,
    ) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._trouble = Trouble(path, on_damage)
        self._closed = False
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="safelight-read")
        self._reading: set[sqlite3.Connection] = set()
        with named_damage(path):
            self._writing = _connect(path, max(busy_timeout_s, OPEN_PATIENCE_S))
            try:
                prepare(self._writing, path, clock.now_ms(), check=check)
            except BaseException:
                self._writing.close()
                raise
        self._writer = Writer(
            self._writing,
            path,
            clock,
            self._trouble,
            patience_s=busy_timeout_s,
            batch_max=batch_max,
        )

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one durable transaction, shared with whoever else writes now."""
        if self._closed:
            raise ShuttingDown
        result: T = await self._writer.submit(work)
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot in a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        self._closed = True
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in (*self._reading, self._writing):
            connection.close()

    def _read(self, work: Callable[[Transaction], T]) -> T:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                return work(
                    SqliteTransaction(
                        connection, self._clock.now_ms(), self._trouble, writing=False
                    )
                )
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            # A connection that met trouble may remember it: the next read gets a new one.
            self._forget_reader()
            judged = self._trouble.judged(error, writing=False)
            if judged is error:
                raise
            raise judged from error

    def _reader(self) -> sqlite3.Connection:
        """Return this thread's own connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self._path, self._busy_timeout_s)
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            self._reading.add(connection)
        return connection

    def _forget_reader(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            self._reading.discard(connection)
            connection.close()


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
