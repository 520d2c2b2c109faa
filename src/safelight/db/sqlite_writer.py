"""The writer of an SQLite file: one thread, many waiters, one commit for all who wait.

Owns group commit, the wait for other processes' locks and the length of the write-ahead log. What
to run it is given; what errors mean is `sqlite_trouble`'s business.

Group commit is as old as DeWitt et al., "Implementation Techniques for Main Memory Database
Systems" (1984): whoever asks while the disk is busy shares the next flush. A commit costs one fsync
and two visits between threads, a work that shares it neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.clock import Clock
from safelight.db import Meter, Transaction, Unmetered
from safelight.db.sqlite_transaction import SqliteTransaction
from safelight.db.sqlite_trouble import Trouble
from safelight.errors import Unavailable

BATCH_MAX = 256
"""Most works that share one commit: beyond it a commit's cost per work no longer falls."""
LOCK_LOOK_S = 0.001
"""How often another process's lock is looked at. SQLite's own wait grows to 100 ms between looks;
beside a process that writes without pause that was 2 s for one commit, measured, this is 0.5 s."""
LOG_PAGES = 8000
"""At so many pages (32 MB) SQLite moves the log into the database file in the first pause that
readers leave. A shared commit touches some 200 pages; at SQLite's own 1000 every fifth commit
moved the same pages of the indexes once more (docs/performance.md)."""
LOG_KEPT_BYTES = 32 * 1024 * 1024
"""What is left of a longer log's file when SQLite begins it anew."""
LOG_MAX_BYTES = 64 * 1024 * 1024
"""A longer log is cut, and readers are waited for."""
CACHE_KIB = 32 * 1024
"""Pages that the writer keeps in memory. The indexes over random ids soon outgrow SQLite's 2 MB."""
LOG_LOOK_COMMITS = 64
LOG_WAIT_MS = 100
IDLE_S = 5.0
"""After so much silence the log is moved into the database file."""


@dataclass(slots=True, eq=False)
class _Submitted:
    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    until: float
    """When its caller has waited long enough for another process's lock, monotonic seconds."""


_End = tuple[asyncio.Future[Any], Any, BaseException | None]


class _Undone(Exception):
    """SQLite has undone the whole transaction (disk full, I/O error), not only one work."""


class Writer:
    """Runs works in durable transactions, one after another, for the callers of one event loop.

    Args:
        connection: the thread's own from here on.
        path: the database file, whose log is kept short.
        clock: gives each transaction its one time.
        trouble: judges errors.
        patience_s: how long a work waits for another process's lock before it is refused.
        batch_max: most works in one transaction; 1 gives each a commit of its own.
        meter: is told of each commit.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        clock: Clock,
        trouble: Trouble,
        *,
        patience_s: float,
        batch_max: int = BATCH_MAX,
        meter: Meter | None = None,
    ) -> None:
        self.commits = 0
        """How many transactions were committed."""
        self._connection = connection
        self._log = path.with_name(path.name + "-wal")
        self._clock = clock
        self._trouble = trouble
        self._patience_s = patience_s
        self._batch_max = batch_max
        self._meter = meter or Unmetered()
        self._gathered: list[_Submitted] = []
        self._gathering: asyncio.AbstractEventLoop | None = None
        self._hurried = False
        """Whether what was gathered goes over at the end of this turn of the loop."""
        self._queue: queue.SimpleQueue[list[_Submitted] | None] = queue.SimpleQueue()
        self._waiting: deque[_Submitted] = deque()
        self._open = True
        self._unmoved = False
        connection.execute("PRAGMA busy_timeout=0")  # the lock is looked at here
        connection.execute(f"PRAGMA journal_size_limit={LOG_KEPT_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        self._thread = threading.Thread(target=self._run, name="safelight-write", daemon=True)
        self._thread.start()

    # --- in the event loop -----------------------------------------------------------------------

    def submit(
        self, work: Callable[[Transaction], Any], *, company_s: float = 0.0
    ) -> asyncio.Future[Any]:
        """Return the future of a work's result, which is durable when the future is done.

        A caller that is cancelled before its turn withdraws the work; afterwards it runs whole.

        Args:
            work: to be run.
            company_s: how long it may wait for others whose commit it can share, seconds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._gathering is not loop:
            # All that is submitted in this turn of the loop goes over together: waiters whom one
            # commit woke would else meet a writer that has begun with the first of them.
            self._hand_over()
            self._gathering = loop
            self._hurried = False
        self._gathered.append(
            _Submitted(work, future, loop, time.monotonic() + company_s + self._patience_s)
        )
        if not company_s and not self._hurried:
            self._hurried = True
            loop.call_soon(self._hand_over)
        elif company_s and len(self._gathered) == 1:
            loop.call_later(company_s, self._hand_over)
        return future

    def _hand_over(self) -> None:
        gathered, self._gathered, self._gathering = self._gathered, [], None
        if gathered:
            self._queue.put(gathered)

    def stop(self) -> None:
        """Take nothing more; end when all that was submitted is done."""
        self._hand_over()
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the end. Blocks."""
        self._thread.join()

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while self._open or self._waiting:
            if not self._waiting and not self._wait_for_work():
                self._shorten_log(wait_ms=0)
                self._unmoved = False
                continue
            self._commit()
            if self.commits % LOG_LOOK_COMMITS == 0 and self._log_is_long():
                self._shorten_log(wait_ms=LOG_WAIT_MS)

    def _wait_for_work(self) -> bool:
        """Return when there is something to do; False when it has been quiet for a while."""
        try:
            self._receive(self._queue.get(timeout=IDLE_S if self._unmoved else None))
        except queue.Empty:
            return False
        return True

    def _receive(self, handed: list[_Submitted] | None) -> None:
        if handed is None:
            self._open = False
        else:
            self._waiting.extend(handed)

    def _receive_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._receive(self._queue.get_nowait())

    def _commit(self) -> None:
        """Run what waits in one transaction, each work in its own savepoint; tell the callers."""
        batch: list[_Submitted] = []
        ends: list[_End] = []
        try:
            if not self._begin():
                return
            batch = self._take_batch()
            if not batch:
                self._roll_back()
                return
            began = time.perf_counter()
            transaction = SqliteTransaction(self._connection, self._clock.now_ms(), self._trouble)
            if len(batch) == 1:
                alone = self._run_alone(transaction, batch[0])
                if alone[2] is not None:
                    _deliver(batch, [alone])
                    return
                ends.append(alone)
            else:
                ends.extend((one.future, *self._run_one(transaction, one.work)) for one in batch)
            self._trouble.refuse_if_damaged()  # one of the works, or a reader, may have met it
            self._connection.execute("COMMIT")
            self._meter.committed(time.perf_counter() - began, len(batch))
            self.commits += 1
            self._unmoved = True
        except Exception as error:  # noqa: BLE001  (whatever it was, callers are told)
            # The whole batch is undone: none of it may be acknowledged.
            self._roll_back()
            batch = batch or self._take_batch()
            ends = [(one.future, None, self._refusal(error)) for one in batch]
        _deliver(batch, ends)

    def _begin(self) -> bool:
        """Take the write lock; False when everybody has lost patience meanwhile."""
        while True:
            self._receive_all()
            self._trouble.refuse_if_damaged()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                self._give_up_late_ones(error)
            else:
                return True
            if not self._waiting:
                return False
            time.sleep(LOCK_LOOK_S)

    def _give_up_late_ones(self, error: sqlite3.Error) -> None:
        now = time.monotonic()
        late = [one for one in self._waiting if one.until <= now]
        if late:
            self._waiting = deque(one for one in self._waiting if one.until > now)
            _deliver(late, [(one.future, None, self._refusal(error)) for one in late])

    def _take_batch(self) -> list[_Submitted]:
        """Take the next works, without those whose callers are gone."""
        count = min(self._batch_max, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        return [one for one in taken if not one.future.cancelled()]

    def _run_one(
        self, transaction: SqliteTransaction, work: Callable[[Transaction], Any]
    ) -> tuple[Any, BaseException | None]:
        connection = self._connection
        connection.execute("SAVEPOINT work")
        try:
            result = work(transaction)
        except Exception as error:  # handed to the caller that submitted the work
            if not connection.in_transaction:
                raise _Undone from error
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
            return None, error
        connection.execute("RELEASE work")
        return result, None

    def _run_alone(self, transaction: SqliteTransaction, one: _Submitted) -> _End:
        """Run a work that shares its transaction with nobody, and so needs no savepoint."""
        try:
            return one.future, one.work(transaction), None
        except Exception as error:  # handed to the caller that submitted the work
            if not self._connection.in_transaction:
                raise _Undone from error
            self._connection.execute("ROLLBACK")
            return one.future, None, error

    def _refusal(self, error: Exception) -> Exception:
        """Return what one caller is told; each gets an exception of its own."""
        if isinstance(error, _Undone):
            cause = error.__cause__
            error = cause if isinstance(cause, Exception) else error
        if isinstance(error, Unavailable):
            return error
        if isinstance(error, sqlite3.Error):
            return self._trouble.judged(error, writing=True)
        return error

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    # --- the write-ahead log ---------------------------------------------------------------------

    def _log_is_long(self) -> bool:
        try:
            return self._log.stat().st_size > LOG_MAX_BYTES
        except OSError:
            return False

    def _shorten_log(self, *, wait_ms: int) -> None:
        """Move the log into the database file and cut it, unless readers need it longer."""
        with contextlib.suppress(sqlite3.Error):  # it is tried again; a commit meets real trouble
            self._connection.execute(f"PRAGMA busy_timeout={wait_ms}")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._connection.execute("PRAGMA busy_timeout=0")


def _deliver(batch: list[_Submitted], ends: list[_End]) -> None:
    """Tell callers how their works ended, all of one event loop in one visit to it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_End]] = {}
    for one, end in zip(batch, ends, strict=True):
        by_loop.setdefault(one.loop, []).append(end)
    for loop, theirs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # closed: its callers are gone
            loop.call_soon_threadsafe(_set_all, theirs)


def _set_all(ends: list[_End]) -> None:
    for future, result, failure in ends:
        if future.cancelled():
            continue
        if isinstance(failure, StopIteration):  # no future takes it
            future.set_exception(RuntimeError("a work raised StopIteration"))
        elif failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)
