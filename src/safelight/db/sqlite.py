"""SQLite: one writer thread with group commit, readers on their own snapshots.

Owns connections, pragmas, the writer's batching and the migrations. Knows no table but `migration`.
WAL with synchronous=FULL: an acknowledged commit survives power loss; NORMAL would not promise
that.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from safelight.clock import Clock
from safelight.db import Row, Transaction, UniqueViolation
from safelight.db.schema import migrations
from safelight.errors import ShuttingDown, Unavailable

T = TypeVar("T")

BATCH_MAX = 256
"""Most works that share one commit: beyond it a commit's cost per work no longer falls."""
BUSY_TIMEOUT_S = 5.0
LOCK_LOOK_S = 0.001
"""How often another process's lock is looked at. SQLite's own wait grows to 100 ms between looks;
beside a process that writes without pause that was 2 s for one commit, measured, this is 0.5 s."""

_Work = tuple[Callable[[Transaction], Any], "Future[Any]"]


class SqliteTransaction:
    """One open SQLite transaction (see `safelight.db.Transaction`)."""

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self.now_ms = now_ms

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        return self._run(sql, params).rowcount

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        rows: list[Row] = self._run(sql, params).fetchall()
        return rows

    def lock(self, name: str) -> None:
        """Do nothing: one transaction writes at a time, over all processes."""

    def _run(self, sql: str, params: Mapping[str, Any] | None) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, params or {})
        except sqlite3.IntegrityError as error:
            if "UNIQUE constraint" in str(error):
                raise UniqueViolation(str(error)) from error
            raise


class SqliteDatabase:
    """A database file (see `safelight.db.Database`).

    Args:
        path: the file; it is made, migrated and checked.
        clock: gives each transaction its one time.
        check: whether to look for damage first; it reads the whole file.
        busy_timeout_s: how long to wait for another process's write lock.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        check: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._closed = False
        self._clock = clock
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="safelight-read")
        try:
            connection = self._connect()
            # SQLite does not wait by itself for whoever opens a new file in the same moment.
            _patiently(connection, "PRAGMA journal_mode=WAL", busy_timeout_s)
            if check:
                _check(connection, path)
            _migrate(connection, clock.now_ms())
            connection.execute("PRAGMA busy_timeout=0")  # the writer looks by itself
        except sqlite3.Error:
            for opened in self._connections:
                opened.close()
            raise
        self._thread = threading.Thread(
            target=self._write_loop, args=(connection,), name="safelight-write", daemon=True
        )
        self._thread.start()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one durable transaction, shared with whoever else writes now."""
        if self._closed:
            raise ShuttingDown
        future: Future[T] = Future()
        self._queue.put((work, future))
        # A caller that is cancelled before its turn withdraws the work; afterwards it runs whole.
        return await asyncio.wrap_future(future)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot in a reader thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._connections:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _read(self, work: Callable[[Transaction], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        try:
            return work(SqliteTransaction(connection, self._clock.now_ms()))
        finally:
            connection.execute("ROLLBACK")

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            stop = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH_MAX:
                    more = self._queue.get_nowait()
                    if more is None:
                        stop = True
                        break
                    batch.append(more)
            wanted = [item for item in batch if item[1].set_running_or_notify_cancel()]
            if wanted:
                self._commit(connection, wanted)
            if stop:
                return

    def _commit(self, connection: sqlite3.Connection, batch: list[_Work]) -> None:
        """Run a batch in one transaction, each work in its own savepoint; then tell the callers."""
        ends: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            _patiently(connection, "BEGIN IMMEDIATE", self._busy_timeout_s)
            transaction = SqliteTransaction(connection, self._clock.now_ms())
            for work, future in batch:
                ends.append((future, *_run_in_savepoint(connection, transaction, work)))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # The whole batch is undone: none of it may be acknowledged.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            refusal = _refusal(error)
            ends = [(future, None, refusal) for _, future in batch]
        for future, result, failure in ends:
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)


def _patiently(connection: sqlite3.Connection, sql: str, seconds: float) -> None:
    """Run a statement as soon as other processes let it, at most `seconds` later."""
    until = time.monotonic() + seconds
    while True:
        try:
            connection.execute(sql)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= until:
                raise
        else:
            return
        time.sleep(LOCK_LOOK_S)


def _run_in_savepoint(
    connection: sqlite3.Connection,
    transaction: SqliteTransaction,
    work: Callable[[Transaction], Any],
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT work")
    try:
        result = work(transaction)
    except Exception as error:  # handed to the caller that submitted the work
        if not connection.in_transaction:
            # SQLite has undone the whole transaction (disk full, I/O error), not only this work.
            raise sqlite3.OperationalError(str(error)) from error
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
        return None, error
    connection.execute("RELEASE work")
    return result, None


def _refusal(error: sqlite3.Error) -> Unavailable:
    text = str(error)
    if "full" in text:
        return Unavailable(
            "The disk is full; free space on the data folder's disk.", code="storage_full"
        )
    return Unavailable(
        f"The database cannot be written now ({text}); try again.",
        code="database_busy",
        retry_after_s=1,
        should_retry=True,
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse to start on a damaged file: money is never silently repaired."""
    verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(
            f"{path} is damaged ({verdict}); stop, keep a copy and restore the newest backup"
        )


def _migrate(connection: sqlite3.Connection, now_ms: int) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migration "
        "(version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
    )
    for step in migrations("sqlite"):
        # The check runs inside the write lock: two processes may start on one folder.
        connection.execute("BEGIN IMMEDIATE")
        done = connection.execute(
            "SELECT 1 FROM migration WHERE version = ?", (step.version,)
        ).fetchone()
        connection.execute("COMMIT")
        if done is None:
            _apply(connection, step.sql, step.version, step.name, now_ms)


def _apply(connection: sqlite3.Connection, sql: str, version: int, name: str, now_ms: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\n"
            f"INSERT INTO migration VALUES ({version}, '{name}', {now_ms});\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        row = connection.execute("SELECT 1 FROM migration WHERE version = ?", (version,)).fetchone()
        if row is None:  # not another process that was a moment faster
            raise
