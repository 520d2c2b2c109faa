"""SQLite on media that fail: typed refusals, in time, and back to work when the trouble is over."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from media import PAGE_BYTES, damage, filled, no_file_longer_than, protected, small_disk
from safelight.clock import SystemClock
from safelight.db import Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.db.sqlite_opening import Damaged
from safelight.errors import Unavailable

PATIENCE_S = 0.4
LATE_S = PATIENCE_S + 1.0


def insert(name: str, *, weight: int = 1) -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        return tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, :now)",
            {"id": name, "name": name * weight, "now": tx.now_ms},
        )

    return work


def ids(tx: Transaction) -> list[str]:
    return [row["id"] for row in tx.all("SELECT id FROM customer ORDER BY id")]


def opened(folder: Path, **options: object) -> SqliteDatabase:
    return SqliteDatabase(
        folder / "t.db",
        SystemClock(),
        busy_timeout_s=PATIENCE_S,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = opened(tmp_path)
    yield database
    await database.close()


async def refused(db: SqliteDatabase, work: Callable[[Transaction], object]) -> Unavailable:
    """Write, and return the refusal, which must come in time."""
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await db.write(work)
    assert time.monotonic() - began < LATE_S
    return caught.value


async def test_each_work_waits_for_a_lock_as_long_as_it_has_patience(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    """A work that comes while another waits is not made to wait for both patiences."""
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first, second = await asyncio.gather(refused(db, insert("a")), refused(db, insert("b")))
    third = await refused(db, insert("c"))
    for refusal in (first, second, third):
        assert refusal.status == 503
        assert (refusal.code, refusal.should_retry) == ("database_busy", True)
        assert refusal.retry_after_s == 1
    assert await db.read(ids) == []
    waiting = asyncio.ensure_future(db.write(insert("d")))
    await asyncio.sleep(0)
    other.execute("ROLLBACK")
    other.close()
    assert await waiting == 1
    assert await db.read(ids) == ["d"]


async def test_a_full_disk_refuses_writes_and_not_reads_and_heals(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as folder:
        db = opened(folder)
        await db.write(insert("before"))
        with filled(folder):
            for number in range(200):  # what is left of the log's last page takes a few rows
                with contextlib.suppress(Unavailable):
                    await db.write(insert(f"x{number}", weight=2000))
            refusals = await asyncio.gather(
                *(refused(db, insert(f"y{i}", weight=2000)) for i in range(20))
            )
            seen = {(error.code, error.should_retry) for error in refusals}
            assert seen == {("storage_full", False)}
            rows = await db.read(ids)
            assert "before" in rows
            assert not any(name.startswith("y") for name in rows)
        await db.write(insert("after"))
        assert "after" in await db.read(ids)
        await db.close()


async def test_a_bound_on_the_length_of_files_is_a_full_disk(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    await db.write(insert("before"))
    size = (tmp_path / "t.db-wal").stat().st_size
    with no_file_longer_than(size):
        refusal = await refused(db, insert("x", weight=3 * PAGE_BYTES))
        assert (refusal.code, refusal.should_retry) == ("storage_full", False)
        assert await db.read(ids) == ["before"]
    await db.write(insert("after"))
    assert await db.read(ids) == ["after", "before"]


async def test_files_that_become_protected_refuse_writes_and_heal(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    await db.write(insert("before"))
    with protected(tmp_path / "t.db", tmp_path / "t.db-wal"):
        refusal = await refused(db, insert("x"))
        assert (refusal.code, refusal.should_retry) == ("database_read_only", False)
        assert await db.read(ids) == ["before"]
    await db.write(insert("after"))
    assert await db.read(ids) == ["after", "before"]


async def test_damage_met_by_a_reader_ends_all_writing_and_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    db = opened(tmp_path, on_damage=told.append)
    await db.write(insert("before"))
    damage(tmp_path / "t.db")
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await db.read(ids)
        assert (caught.value.code, caught.value.should_retry) == ("database_damaged", False)
    assert (await refused(db, insert("x"))).code == "database_damaged"
    assert len(told) == 1
    await db.close()


async def test_damage_met_by_the_writer_is_a_refusal_and_ends_all_writing(tmp_path: Path) -> None:
    told: list[str] = []
    db = opened(tmp_path, on_damage=told.append)
    await db.write(insert("before"))
    damage(tmp_path / "t.db")
    assert (await refused(db, insert("x"))).code == "database_damaged"
    assert (await refused(db, insert("y"))).code == "database_damaged"
    assert len(told) == 1
    await db.close()


async def test_a_file_that_was_damaged_is_not_trusted_again(tmp_path: Path) -> None:
    """Not even when the pages look good at the next look: a restart checks all of them."""
    path = tmp_path / "t.db"
    db = opened(tmp_path)
    await db.write(insert("before"))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    good = path.read_bytes()
    damage(path)
    with pytest.raises(Unavailable):
        await db.read(ids)
    path.write_bytes(good)
    connection.close()
    assert (await refused(db, insert("x"))).code == "database_damaged"
    await db.close()
    again = opened(tmp_path)
    assert await again.read(ids) == ["before"]
    await again.close()


@pytest.mark.parametrize("first_page", [1, 2])
async def test_a_damaged_file_is_not_opened(tmp_path: Path, first_page: int) -> None:
    db = opened(tmp_path)
    await db.write(insert("before"))
    damage(tmp_path / "t.db", first_page=first_page)
    await db.close()
    with pytest.raises(Damaged, match=r"t\.db is damaged"):
        opened(tmp_path)


async def test_a_mistake_in_our_own_sql_is_no_trouble_of_the_medium(db: SqliteDatabase) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await db.write(lambda tx: tx.execute("DELETE FROM nobody"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await db.read(lambda tx: tx.all("SELECT * FROM nobody"))
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(lambda tx: tx.execute("INSERT INTO customer (id, name) VALUES ('a', 'a')"))
    await db.write(insert("after"))
