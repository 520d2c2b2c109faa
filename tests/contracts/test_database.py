"""What every Database must do; SQLite is the only one so far."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safelight.clock import ManualClock
from safelight.db import Transaction, UniqueViolation
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import Unavailable


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "t.db", ManualClock())
    yield database
    await database.close()


def insert(name: str) -> object:
    def work(tx: Transaction) -> int:
        return tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, :now)",
            {"id": f"cus_{name}", "name": name, "now": tx.now_ms},
        )

    return work


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.all("SELECT name FROM customer ORDER BY name")]


async def test_a_write_is_seen_by_the_next_read(db: SqliteDatabase) -> None:
    assert await db.write(insert("a")) == 1  # type: ignore[arg-type]
    assert await db.read(names) == ["a"]


async def test_a_failing_work_undoes_only_itself(db: SqliteDatabase) -> None:
    def half(tx: Transaction) -> None:
        insert("half")(tx)  # type: ignore[operator]
        raise RuntimeError("after the insert")

    results = await asyncio.gather(
        db.write(insert("a")),  # type: ignore[arg-type]
        db.write(half),
        db.write(insert("b")),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    assert isinstance(results[1], RuntimeError)
    assert await db.read(names) == ["a", "b"]


async def test_a_second_row_with_the_same_key_is_a_unique_violation(db: SqliteDatabase) -> None:
    await db.write(insert("a"))  # type: ignore[arg-type]
    with pytest.raises(UniqueViolation):
        await db.write(insert("a"))  # type: ignore[arg-type]


async def test_works_that_wait_share_commits_and_all_arrive(db: SqliteDatabase) -> None:
    await asyncio.gather(*(db.write(insert(f"{i:03}")) for i in range(300)))  # type: ignore[arg-type]
    assert len(await db.read(names)) == 300


async def test_a_read_cannot_write(db: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await db.read(insert("a"))  # type: ignore[arg-type]


async def test_another_process_holding_the_write_lock_gives_unavailable_not_a_crash(
    tmp_path: Path,
) -> None:
    db = SqliteDatabase(tmp_path / "t.db", ManualClock(), busy_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as refused:
        await db.write(insert("a"))  # type: ignore[arg-type]
    assert refused.value.code == "database_busy"
    assert refused.value.should_retry
    other.execute("ROLLBACK")
    other.close()
    await db.write(insert("a"))  # type: ignore[arg-type]
    assert await db.read(names) == ["a"]
    await db.close()


async def test_what_was_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    first = SqliteDatabase(tmp_path / "t.db", ManualClock())
    await first.write(insert("a"))  # type: ignore[arg-type]
    await first.close()
    second = SqliteDatabase(tmp_path / "t.db", ManualClock())
    assert await second.read(names) == ["a"]
    await second.close()


def test_a_damaged_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    database = SqliteDatabase(path, ManualClock())
    asyncio.run(database.close())
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(sqlite3.DatabaseError):
        SqliteDatabase(path, ManualClock())
