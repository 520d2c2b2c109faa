"""A large SQLite file is looked at for damage beside the service; its start does not wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from media import damage
from safelight.clock import SystemClock
from safelight.db import Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.db.sqlite_opening import Damaged


def fill(tx: Transaction) -> None:
    for number in range(3000):
        tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :id, 1)",
            {"id": f"cus_{number:0200d}"},
        )


async def test_damage_in_a_large_file_is_found_while_it_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    db = SqliteDatabase(path, SystemClock())
    await db.write(fill)
    await db.close()
    damage(path, first_page=path.stat().st_size // 4096 - 5)
    with pytest.raises(Damaged):
        SqliteDatabase(path, SystemClock())
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    words: list[str] = []

    def on_damage(what: str) -> None:
        words.append(what)
        loop.call_soon_threadsafe(told.set)

    db = SqliteDatabase(path, SystemClock(), at_once_bytes=0, on_damage=on_damage)
    await asyncio.wait_for(told.wait(), 10)
    await db.close()
    assert len(words) == 1


async def test_closing_ends_a_look_that_is_under_way(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    db = SqliteDatabase(path, SystemClock())
    await db.write(fill)
    await db.close()
    found: list[str] = []
    db = SqliteDatabase(path, SystemClock(), at_once_bytes=0, on_damage=found.append)
    await asyncio.wait_for(db.close(), 10)
    assert found == []
