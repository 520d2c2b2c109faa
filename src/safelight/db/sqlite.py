"""SQLite: one writer thread with group commit, readers on their own snapshots.

Owns connections and pragmas, and who uses which connection. Knows no table. WAL with
synchronous=FULL: an acknowledged commit survives power loss; NORMAL would not promise that. Readers
and the writer never wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from safelight.clock import Clock
from safelight.db import Meter, Transaction, Unmetered
from safelight.db.sqlite_opening import (
    OPEN_PATIENCE_S,
    Damaged,
    look_for_damage_beside,
    named_damage,
    prepare,
)
from safelight.db.sqlite_transaction import SqliteTransaction
from safelight.db.sqlite_trouble import OnDamage, Trouble
from safelight.db.sqlite_writer import BATCH_MAX, Writer
from safelight.errors import ShuttingDown, Unavailable

T = TypeVar("T")

log = logging.getLogger("safelight.db")

BUSY_TIMEOUT_S = 5.0
CHECKED_AT_ONCE_BYTES = 256 * 1024 * 1024
"""A larger file is looked at for damage beside the service: a start must not take minutes because
there are years of books."""
STATEMENTS_KEPT = 512
"""Prepared statements that a connection keeps: more than there are texts in the code."""


class SqliteDatabase:
    """A database file (see `safelight.db.Database`).

    Args:
        path: the file; it is made, migrated and checked.
        clock: gives each transaction its one time.
        check: whether to look for damage; it reads the whole file.
        at_once_bytes: that is done first where the file is no longer than this, else in a thread
            beside the work, and what it finds is damage met later.
        busy_timeout_s: how long a work waits for another process's write lock. Who needs longer
            writes again; an order at the door would rather be refused.
        batch_max: most works that share a commit; 1 gives each its own.
        on_damage: told once, from any thread, when damage is met later.
        meter: is told of commits and of refused writes.

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
        at_once_bytes: int = CHECKED_AT_ONCE_BYTES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        batch_max: int = BATCH_MAX,
        on_damage: OnDamage | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._trouble = Trouble(path, on_damage)
        self._closed = False
        self._meter = meter or Unmetered()
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="safelight-read")
        self._reading: set[sqlite3.Connection] = set()
        with named_damage(path):
            self._writing = _connect(path, max(busy_timeout_s, OPEN_PATIENCE_S))
            try:
                small = not path.exists() or path.stat().st_size <= at_once_bytes
                prepare(self._writing, path, clock.now_ms(), check=check and small)
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
            meter=self._meter,
        )
        self._looking: sqlite3.Connection | None = None
        self._looker = threading.Thread(target=self._look_beside, name="safelight-damage")
        if check and not small:
            self._looking = self._connect_reader()
            self._looker.start()

    @property
    def commits(self) -> int:
        """How many transactions this process has committed."""
        return self._writer.commits

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        """Run `work` in one durable transaction, shared with whoever else writes now."""
        if self._closed:
            raise ShuttingDown
        try:
            result: T = await self._writer.submit(work, company_s=company_s)
        except Unavailable:
            self._meter.refused()
            raise
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot in a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        self._closed = True
        if self._looking is not None:
            self._looking.interrupt()
            await asyncio.to_thread(self._looker.join)
            self._looking.close()
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
            connection = self._connect_reader()
            self._local.connection = connection
            self._reading.add(connection)
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = _connect(self._path, self._busy_timeout_s)
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _look_beside(self) -> None:
        """Look for damage while the file is in use."""
        assert self._looking is not None
        try:
            with named_damage(self._path):
                look_for_damage_beside(self._looking, self._path)
        except Damaged as error:
            self._trouble.found_damage(str(error))
        except sqlite3.Error as error:
            if not self._closed:
                log.warning("the look for damage has failed", extra={"reason": str(error)})

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
