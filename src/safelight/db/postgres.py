"""Postgres: writers that each commit for one work, readers on their own snapshots.

Owns which works run again (conflicts, lost sessions, commits whose answer was lost) and how long
callers wait for a server that is away. Sessions, threads and marks are in the modules beside it.
Knows no table.

Each work is its own transaction on its own connection, so one customer's rows never wait for
another's commit; Postgres itself lets commits that come together share one flush.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import psycopg

from safelight.clock import Clock
from safelight.db import Meter, Transaction, Unmetered, commit_marks
from safelight.db.crew import Crew, Door, Task, Work
from safelight.db.postgres_errors import READ_ONLY, away, busy, is_conflict, refusal
from safelight.db.postgres_opening import prepare
from safelight.db.postgres_session import PostgresTransaction, Session
from safelight.errors import ShuttingDown, Unavailable

log = logging.getLogger("safelight.db")

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long a caller waits for a server that is away."""
QUEUE_MAX_S = 10.0
"""How long a work waits for its turn before the answer is that the database is busy."""
LOOK_S = 0.25
"""How often a caller that waits looks whether it does so in vain."""
RESOLVE_S = 30.0
TRIES = 10
"""Most runs of one work: conflicts and lost sessions together."""
CONFLICT_PAUSE_S = 0.002
SWEEP_S = 60.0
"""How often old commit marks are removed."""


class _Repeat(Exception):
    """The transaction has had no effect, and never will: run the work again."""


class PostgresDatabase:
    """A Postgres database (see `safelight.db.Database`).

    Args:
        url: `postgresql://user:password@host:port/dbname`; it is migrated.
        clock: gives each transaction its one time; None: the database's own clock.
        connections: most transactions that write at one time.
        readers: most that read at one time.
        sweep_s: how often old commit marks are removed.
        resolve_s: how long the outcome of a commit is asked for when its answer was lost.
        rng: where the pauses before repetitions come from.
        meter: is told of commits and of refused writes.

    Raises:
        psycopg.Error: the server cannot be reached, does not let us in, or cannot be migrated.
        SchemaTooNew: a newer safelight has migrated it.
    """

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        connections: int = 8,
        readers: int = 4,
        sweep_s: float = SWEEP_S,
        resolve_s: float = RESOLVE_S,
        rng: random.Random | None = None,
        meter: Meter | None = None,
    ) -> None:
        prepare(url, clock)
        self._rng = rng or random.SystemRandom()
        self._closed = False
        self._meter = meter or Unmetered()
        self._newest_ms = 0
        self._resolve_s = resolve_s
        self._sweep_s = sweep_s
        self._sweep_at = time.monotonic() + sweep_s
        self._sweep_lock = threading.Lock()
        self._door = Door(self._rng)
        self._writers = Crew(
            "safelight-write",
            connections,
            self._door,
            lambda: Session(url, clock),
            self._write,
            self._sweep,
        )
        self._readers = Crew(
            "safelight-read",
            readers,
            self._door,
            lambda: Session(url, clock, reader=True),
            self._read,
        )

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        company_s: float = 0.0,  # noqa: ARG002  (nobody shares a commit here)
    ) -> T:
        """Run `work` in one durable transaction of its own, at once."""
        if self._closed:
            raise ShuttingDown
        try:
            result: T = await self._submit(self._writers, work)
        except Unavailable:
            self._meter.refused()
            raise
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one snapshot; it must not write."""
        result: T = await self._submit(self._readers, work)
        return result

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        self._closed = True
        await asyncio.to_thread(self._writers.finish)
        await asyncio.to_thread(self._readers.finish)

    async def _submit(self, crew: Crew, work: Work) -> Any:
        if self._closed:
            raise ShuttingDown
        task = Task(work)
        crew.put(task)
        answer = asyncio.wrap_future(task.future)
        since = time.monotonic()
        try:
            while not (await asyncio.wait({answer}, timeout=LOOK_S))[0]:
                waited = time.monotonic() - since
                shut_for = self._door.shut_for_s()
                if shut_for and max(shut_for, waited) >= PATIENCE_S:
                    task.refuse(away())
                elif waited >= QUEUE_MAX_S:
                    task.refuse(busy())
        except asyncio.CancelledError:
            # Before its turn the work is withdrawn; afterwards it runs whole, unheard.
            if not answer.cancel() and not answer.cancelled():
                answer.exception()
            raise
        return answer.result()

    # What follows runs in the crews' threads.

    def _write(self, session: Session, work: Work) -> Any:
        for tries in range(TRIES):
            self._reach(session)
            try:
                return self._write_once(session, work)
            except _Repeat as repeat:
                log.debug("a transaction is repeated", extra={"fault": str(repeat.__cause__)})
                longest = min(CONFLICT_PAUSE_S * 2**tries, 0.25)
                time.sleep(self._rng.uniform(0, longest))
        raise busy()

    def _write_once(self, session: Session, work: Work) -> Any:
        began = time.perf_counter()
        transaction, result = _run(session, work)
        self._newest_ms = transaction.now_ms
        mark = commit_marks.new_mark()
        try:
            session.commit(commit_marks.leave(mark, transaction.now_ms))
        except psycopg.Error as error:
            if not session.gone(error):
                session.undo()
                _fail(session, error, error)
            if not self._committed(session, mark, transaction.now_ms):
                raise _Repeat from error
        self._meter.committed(time.perf_counter() - began, 1)
        return result

    def _committed(self, session: Session, mark: str, now_ms: int) -> bool:
        """Find out what became of a commit, however often the session is lost meanwhile."""
        log.warning("the answer to a commit was lost; looking for its mark")
        until = time.monotonic() + self._resolve_s
        tries = 0
        while time.monotonic() < until:
            if session.is_open or self._door.open(session):
                try:
                    return commit_marks.committed(session, mark, now_ms)
                except psycopg.Error as error:
                    session.gone(error)
            self._door.wait(tries)
            tries += 1
        log.critical("nobody could say whether a commit took effect", extra={"fault": mark})
        raise away("The gateway's database did not say whether this took effect; ask again.")

    def _read(self, session: Session, work: Work) -> Any:
        for _ in range(TRIES):
            self._reach(session)
            try:
                _, result = _run(session, work)
            except _Repeat:
                continue
            session.end_reading()
            return result
        raise busy()

    def _reach(self, session: Session) -> None:
        """Open the session again if it was lost.

        Raises:
            Unavailable: the server is away for longer than callers shall wait.
        """
        until = time.monotonic() + PATIENCE_S
        tries = 0
        while not session.is_open and not self._door.open(session):
            if time.monotonic() >= until:
                raise away()
            self._door.wait(tries)
            tries += 1

    def _sweep(self, session: Session) -> None:
        """Remove old marks, one thread at a time and not often."""
        with self._sweep_lock:
            if time.monotonic() < self._sweep_at or not session.is_open:
                return
            self._sweep_at = time.monotonic() + self._sweep_s
        try:
            commit_marks.remove_old(session, self._newest_ms)
        except psycopg.Error as error:
            log.info("old commit marks are still there", extra={"fault": str(error)})
            session.gone(error)


def _run(session: Session, work: Work) -> tuple[PostgresTransaction, Any]:
    """Run a work in a new transaction and leave that open.

    Raises:
        _Repeat: the transaction met another one, or its session is lost.
        Unavailable: the server cannot; nothing was written.
    """
    transaction: PostgresTransaction | None = None
    try:
        transaction = session.begin()
        return transaction, work(transaction)
    except BaseException as error:
        # What the driver said counts, not what the work has made of it.
        trouble = error if isinstance(error, psycopg.Error) else None
        if transaction is not None and transaction.trouble is not None:
            trouble = transaction.trouble
        lost = trouble is not None and session.gone(trouble)
        session.undo()
        if trouble is None:
            raise
        if lost:
            raise _Repeat from trouble
        _fail(session, trouble, error)


def _fail(session: Session, trouble: psycopg.Error, error: BaseException) -> NoReturn:
    """Say what a transaction that is undone has failed of."""
    if is_conflict(trouble):
        raise _Repeat from trouble
    refused = refusal(trouble, writing=not session.reader)
    if refused is None:
        raise error
    log.warning("the database refused", extra={"fault": str(trouble)})
    if refused.code == READ_ONLY:
        session.close()  # the next one may find the server that takes writes now
    raise refused from trouble
