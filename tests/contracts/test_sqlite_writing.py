"""SQLite under many waiters: shared commits, readers beside the writer, a log that stays short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from safelight.clock import SystemClock
from safelight.db import Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.db.sqlite_writer import BATCH_MAX, LOG_KEPT_BYTES, LOG_MAX_BYTES

LOG_BOUND = LOG_KEPT_BYTES * 3 // 2
"""What SQLite writes before it moves the log, and what it may meanwhile."""


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "t.db", SystemClock())
    yield database
    await database.close()


def insert(name: str) -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        return tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :id, :now)",
            {"id": name, "now": tx.now_ms},
        )

    return work


def count(tx: Transaction) -> int:
    row = tx.one("SELECT COUNT(*) AS n FROM customer")
    assert row is not None
    found: int = row["n"]
    return found


async def test_all_who_wait_share_one_commit(db: SqliteDatabase) -> None:
    before = db.commits
    await asyncio.gather(*(db.write(insert(f"a{i}")) for i in range(BATCH_MAX)))
    assert db.commits - before == 1
    await asyncio.gather(*(db.write(insert(f"b{i}")) for i in range(BATCH_MAX + 1)))
    assert db.commits - before == 3


async def test_whoever_a_commit_wakes_meets_the_others_in_the_next_one(db: SqliteDatabase) -> None:
    async def buyer(name: int) -> None:
        for turn in range(10):
            await db.write(insert(f"{name}-{turn}"))

    before = db.commits
    await asyncio.gather(*(buyer(name) for name in range(64)))
    assert db.commits - before == 10


async def test_commits_are_durable_in_both_ways_of_writing(tmp_path: Path) -> None:
    for batch_max in (1, BATCH_MAX):
        db = SqliteDatabase(tmp_path / f"{batch_max}.db", SystemClock(), batch_max=batch_max)
        row = await db.write(lambda tx: tx.one("PRAGMA synchronous"))
        mode = await db.write(lambda tx: tx.one("PRAGMA journal_mode"))
        assert row is not None
        assert mode is not None
        assert (row["synchronous"], mode["journal_mode"]) == (2, "wal")
        before = db.commits
        await asyncio.gather(*(db.write(insert(f"c{i}")) for i in range(5)))
        assert db.commits - before == (5 if batch_max == 1 else 1)
        await db.close()


async def test_a_caller_who_leaves_before_its_turn_withdraws_its_work(db: SqliteDatabase) -> None:
    leaver = asyncio.ensure_future(db.write(insert("gone")))
    stayer = asyncio.ensure_future(db.write(insert("here")))
    await asyncio.sleep(0)
    leaver.cancel()
    await stayer
    assert await db.read(count) == 1


async def test_a_long_read_and_two_hundred_writes_do_not_wait_for_each_other(
    db: SqliteDatabase,
) -> None:
    """The read sees one moment throughout; a thread each, and neither ends the other's wait."""
    begun, written = threading.Event(), threading.Event()

    def long_read(tx: Transaction) -> tuple[int, int]:
        before = count(tx)
        begun.set()
        assert written.wait(30)
        return before, count(tx)

    await db.write(insert("first"))
    reading = asyncio.ensure_future(db.read(long_read))
    await asyncio.to_thread(begun.wait, 30)
    for number in range(200):
        await db.write(insert(f"w{number}"))
    assert await db.read(count) == 201
    written.set()
    assert await reading == (1, 1)


async def test_the_log_stays_short_while_readers_come_and_go(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    log, longest, done = tmp_path / "t.db-wal", 0, False

    async def read() -> None:
        while not done:
            await db.read(count)

    readers = [asyncio.ensure_future(read()) for _ in range(4)]
    for start in range(0, 5000, 50):
        await asyncio.gather(*(db.write(insert(f"{start + i}")) for i in range(50)))
        longest = max(longest, log.stat().st_size)
    done = True
    await asyncio.gather(*readers)
    assert 0 < longest < LOG_BOUND
    await db.close()
    assert not log.exists()


async def test_a_reader_that_stays_does_not_let_the_log_grow_for_good(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    """A log that a long read made long is cut after it."""
    begun, go = threading.Event(), threading.Event()

    def long_read(tx: Transaction) -> int:
        before = count(tx)
        begun.set()
        assert go.wait(60)
        return before

    def heavy(number: int) -> Callable[[Transaction], int]:
        return lambda tx: tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, 0)",
            {"id": f"h{number}", "name": f"{number}" + "x" * 200_000},
        )

    log = tmp_path / "t.db-wal"
    reading = asyncio.ensure_future(db.read(long_read))
    await asyncio.to_thread(begun.wait, 30)
    for number in range(400):
        await db.write(heavy(number))
    assert log.stat().st_size > LOG_MAX_BYTES
    go.set()
    await reading
    for number in range(200):
        await db.write(insert(f"after{number}"))
    assert log.stat().st_size < LOG_BOUND


async def test_a_work_in_no_hurry_goes_along_with_the_next_commit(db: SqliteDatabase) -> None:
    before = db.commits
    patient = asyncio.create_task(db.write(insert("patient"), company_s=60))
    await asyncio.sleep(0)
    await db.write(insert("hurried"))
    await patient
    assert db.commits - before == 1


async def test_a_work_in_no_hurry_waits_no_longer_than_it_said(db: SqliteDatabase) -> None:
    await db.write(insert("alone"), company_s=0.01)
    assert await db.read(count) == 1


async def test_closing_takes_a_work_along_that_waits_for_company(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "t.db", SystemClock())
    patient = asyncio.create_task(database.write(insert("patient"), company_s=60))
    await asyncio.sleep(0)
    await database.close()
    assert await patient == 1


async def test_a_failing_work_leaves_nothing_alone_or_in_company(db: SqliteDatabase) -> None:
    def fail(tx: Transaction) -> None:
        insert("never")(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await db.write(fail)
    good, bad = await asyncio.gather(
        db.write(insert("kept")), db.write(fail), return_exceptions=True
    )
    assert (good, type(bad)) == (1, LookupError)
    assert await db.read(count) == 1
