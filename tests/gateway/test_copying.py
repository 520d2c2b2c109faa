"""Books that move to another database are the same books."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.house import House
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.db.copying import COPIED, LEFT_BEHIND, NotEmpty, Table, copy_books
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import FaultClass, UpstreamError


async def furnished(folder: Path) -> House:
    """A house with every kind of row: delivered, refused, failed and retried orders."""
    folder.mkdir(exist_ok=True)
    house = await House(folder).open()
    await house.buy("one")
    await house.buy("two", channel="gpt-image-2-all", n=3)
    refusal = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.", final_status=400)
    house.upstream.steps.append(refusal)
    await house.buy("three")
    house.upstream.steps += [UpstreamError(FaultClass.CAPABILITY, "no", "No.")] * 2
    await house.buy("four", key="again")
    await house.buy("four", key="again")
    return house


async def rows_of(db: Database, table: Table) -> list[dict[str, object]]:
    sql = f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}"
    return [dict(row) for row in await db.read(lambda tx: tx.all(sql))]


async def test_every_table_is_copied_or_left_behind_on_purpose(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "t.db", ManualClock())
    rows = await db.read(lambda tx: tx.all("SELECT name FROM sqlite_master WHERE type = 'table'"))
    await db.close()
    tables = {row["name"] for row in rows if not row["name"].startswith("sqlite_")}
    assert tables == ({table.name for table in COPIED} | LEFT_BEHIND) - {"commit_mark"}


async def test_every_row_arrives_as_it_was(tmp_path: Path) -> None:
    house = await furnished(tmp_path)
    target = SqliteDatabase(tmp_path / "target.db", ManualClock())
    counts = await copy_books(house.db, target)
    assert counts["job"] == 7
    for table in COPIED:
        before = await rows_of(house.db, table)
        after = await rows_of(target, table)
        assert before == after
        assert len(after) == counts[table.name]
    retries = await target.read(
        lambda tx: tx.all("SELECT retry_of FROM request WHERE retry_of IS NOT NULL")
    )
    assert len(retries) == 1
    await target.close()
    await house.close()


async def test_books_are_never_mixed(tmp_path: Path) -> None:
    """A target that has a customer is refused, and stays as it is."""
    first = await furnished(tmp_path / "first")
    (tmp_path / "second").mkdir()
    second = await House(tmp_path / "second").open()
    with pytest.raises(NotEmpty):
        await copy_books(first.db, second.db)
    assert await second.audit() == []
    assert await second.db.read(lambda tx: len(tx.all("SELECT id FROM job"))) == 0
    await first.close()
    await second.close()
