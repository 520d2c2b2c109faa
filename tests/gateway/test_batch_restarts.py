"""Batches through crashes and doubled reminders: every line is bought once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from fresh_books import sqlite_books
from gateway.batch_house import BatchHouse, batch_house, line
from gateway.house import House
from safelight import batches, files
from safelight.batches import BatchRow
from safelight.clock import ManualClock
from safelight.config_batches import BatchesConfig
from safelight.db import Database, Transaction
from safelight.db.postgres import PostgresDatabase
from safelight.errors import StorageError
from safelight.gateway.restored import release_open_jobs
from safelight.storage import BlobStore

T = TypeVar("T")

FEW = BatchesConfig(lines_under_way=2)


class Killed(BaseException):
    """The process ends here."""


class DyingDatabase:
    """A database whose process is killed before or after its n-th write."""

    def __init__(self, inner: Database, writes: int, *, committed: bool) -> None:
        self.inner = inner
        self.left = writes
        self.committed = committed

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        self.left -= 1
        if self.left == 0 and not self.committed:
            raise Killed
        found = await self.inner.write(work, company_s=company_s)
        if self.left == 0:
            raise Killed
        return found

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self.inner.read(work)

    async def close(self) -> None:
        await self.inner.close()


def open_at(folder: Path, url: str, clock: ManualClock) -> Database:
    if url:
        return PostgresDatabase(url, clock)
    return sqlite_books(folder / "t.db", clock)


@pytest.mark.parametrize(
    "committed", [pytest.param(False, marks=pytest.mark.campaign), True], ids=["before", "after"]
)
async def test_a_visit_killed_at_any_write_is_taken_up_again(
    tmp_path: Path, committed: bool
) -> None:
    """Wherever the process that visits the batch ends, the next one finishes it, each line once."""
    clock = ManualClock()
    async with batch_house(tmp_path, config=FEW, clock=clock) as shop:
        parts, killed = shop.house.parts, 0
        for number in range(1, 40):
            dying = DyingDatabase(parts.db, number, committed=committed)
            mortal = shop.batching_over(dataclasses.replace(parts, db=dying))
            batch = await shop.submit([line(f"{number}-{n}") for n in range(3)])
            with contextlib.suppress(Killed):
                for _ in range(4):
                    await mortal.feed(batch.id)
                    await shop.settle()
            killed += dying.left <= 0
            # Reminders that the killed process had not given yet.
            clock.advance(6)
            await shop.queueing.sweep()
            done = await shop.finish(batch.id)
            assert (done.status, done.completed, done.failed) == ("completed", 3, 0)
            output = await shop.content(done.output_file_id)
            assert len({one["custom_id"] for one in output}) == len(output) == 3
            if dying.left > 0:
                break
        assert killed > 10
        assert await shop.charged() == shop.house.upstream.sold == 3 * number


async def test_two_visits_at_once_buy_each_line_once(tmp_path: Path) -> None:
    async with batch_house(tmp_path, config=FEW) as shop:
        batch = await shop.submit([line(f"i{n}") for n in range(12)])
        for _ in range(30):
            await asyncio.gather(*(shop.batching.feed(batch.id) for _ in range(3)))
            if (await shop.look(batch.id)).status.ended:
                break
            await shop.settle()
        done = await shop.finish(batch.id)
        assert (done.completed, shop.house.upstream.sold) == (12, 12)
        assert len(await shop.content(done.output_file_id)) == 12


async def test_a_killed_process_leaves_a_batch_that_another_finishes(tmp_path: Path) -> None:
    """Jobs that ran are taken over by the recovery, lines go on where they were."""
    house = await House(tmp_path).open(10_000_000)
    first = BatchHouse(house, tmp_path, config=FEW)
    await first.engine.start()
    batch = await first.submit([line(f"i{n}") for n in range(7)])
    await first.batching.feed(batch.id)
    await first.settle()
    house.upstream.gate.clear()
    house.upstream.called.clear()
    await first.batching.feed(batch.id)
    await house.upstream.called.wait()
    sold = house.upstream.sold
    await first.engine.stop()
    await house.kill()
    shutil.rmtree(first.folder)

    house = await House(tmp_path, owner="second").open()
    second = BatchHouse(house, tmp_path, queues=first.queues, config=FEW)
    await second.engine.start()
    await second.queueing.sweep()
    done = await second.finish(batch.id)
    assert (done.status, done.completed, sold + house.upstream.sold) == ("completed", 7, 7)
    assert await second.charged() == 7
    await second.engine.stop()
    await house.close()


async def test_a_batch_that_no_visit_touches_is_reminded_of(tmp_path: Path) -> None:
    """A lost reminder costs a minute; a batch that has ended is left alone."""
    clock = ManualClock()
    async with batch_house(tmp_path, clock=clock) as shop:
        batch = await shop.submit([line("one")])
        assert await shop.batching.sweep() == 0
        clock.advance(61)
        before = len(shop.queues.waiting("batches"))
        assert await shop.batching.sweep() == 1
        assert len(shop.queues.waiting("batches")) == before + 1
        await shop.finish(batch.id)
        clock.advance(3600)
        assert await shop.batching.sweep() == 0


async def test_after_a_restore_open_batches_buy_no_more(tmp_path: Path) -> None:
    """What they bought after the backup is not known: open jobs are free, the rest is cancelled."""
    async with batch_house(tmp_path, config=FEW) as shop:
        shop.house.upstream.gate.clear()
        batch = await shop.submit([line(f"i{n}") for n in range(4)])
        await shop.engine.stop()
        await shop.batching.feed(batch.id)
        until_ms = shop.house.clock.now_ms()
        assert await release_open_jobs(shop.house.parts, until_ms=until_ms) == 2
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("cancelled", 0, 4)
        assert (await shop.house.balance()).held_micros == 0


class FullStore:
    """A store that reads and keeps nothing."""

    def __init__(self, inner: BlobStore) -> None:
        self.read = inner.read
        self.exists = inner.exists

    async def put(self, *_: object) -> None:
        raise StorageError("no space", code="storage_full")


async def test_a_store_that_is_full_puts_a_batch_off(tmp_path: Path) -> None:
    """The visit fails, nothing is lost: the next one writes the files from the beginning."""
    async with batch_house(tmp_path) as shop:
        batch = await shop.submit([line("one", response_format="b64_json")])
        await shop.batching.feed(batch.id)
        await shop.settle()
        full = cast("BlobStore", FullStore(shop.house.store))
        poor = shop.batching_over(dataclasses.replace(shop.house.parts, storage=full))
        with pytest.raises(StorageError):
            await poor.feed(batch.id)
        assert (await shop.look(batch.id)).status == "finalizing"
        assert [path.name for path in shop.folder.iterdir() if "visit" in path.name] == []
        done = await shop.finish(batch.id)
        assert (done.status, done.completed) == ("completed", 1)


# --- on both databases ------------------------------------------------------------------------


async def test_rows_change_once_and_in_the_order_of_a_batch(
    database_url: str, tmp_path: Path
) -> None:
    """The whole life of a batch in rows, on both databases."""
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, db=open_at(tmp_path, database_url, clock)).open()
    shop = BatchHouse(house, tmp_path, config=BatchesConfig(lines_under_way=2))
    await shop.engine.start()
    batch = await shop.submit([line(f"i{n}", quality=None) for n in range(4)], metadata={"a": "b"})
    other = await shop.submit([line("x"), line("x")])
    assert (await shop.finish(other.id)).status == "failed"
    done = await shop.finish(batch.id)
    assert (done.status, done.completed, done.metadata) == ("completed", 4, {"a": "b"})
    pages = []
    after = None
    while True:
        page, more = await shop.batching.page("cus_1", after=after, limit=1)
        pages += [found.id for found, _ in page]
        if not more:
            break
        after = pages[-1]
    assert sorted(pages) == sorted([batch.id, other.id])
    cancelled = await shop.submit([line(f"c{n}") for n in range(3)])
    await shop.batching.feed(cancelled.id)
    await shop.batching.cancel("cus_1", cancelled.id)
    await shop.settle()
    assert (await shop.finish(cancelled.id)).status == "cancelled"
    late = await shop.submit([line(f"l{n}") for n in range(3)])
    await shop.batching.feed(late.id)
    await shop.settle()
    clock.advance(24 * 3600)
    assert (await shop.finish(late.id)).status == "expired"
    assert await house.audit() == []
    await shop.engine.stop()
    await house.close()


async def test_files_are_listed_page_by_page_both_ways(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, db=open_at(tmp_path, database_url, clock)).open()
    shop = BatchHouse(house, tmp_path)
    made = []
    for n in range(5):
        purpose = "batch" if n % 2 else "user_data"
        made.append(await shop.upload(f"file {n}".encode(), purpose=purpose))
        clock.advance(1)

    async def names(**query: object) -> list[str]:
        found: list[str] = []
        while True:
            page, more = await shop.filing.page(
                "cus_1",
                purpose=query.get("purpose"),  # type: ignore[arg-type]
                after=found[-1] if found else None,
                limit=2,
                newest_first=bool(query.get("newest_first")),
            )
            found += [row.id for row in page]
            if not more:
                return found

    ids = [row.id for row in made]
    assert await names() == ids
    assert await names(newest_first=True) == ids[::-1]
    assert await names(purpose="batch") == ids[1::2]
    assert await house.db.read(lambda tx: files.blobs_in_use(tx, [made[0].digest, "0" * 64])) == {
        made[0].digest
    }
    await shop.filing.delete("cus_1", ids[0])
    assert await house.db.read(lambda tx: files.blobs_in_use(tx, [made[0].digest])) == set()
    clock.advance(30 * 86_400)
    assert await shop.filing.sweep() == 2
    assert await names() == [ids[2], ids[4]]
    await house.close()


async def test_an_older_visit_writes_no_more(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, db=open_at(tmp_path, database_url, clock)).open()
    shop = BatchHouse(house, tmp_path)
    batch = await shop.submit([line("one")])

    def first(tx: Transaction) -> BatchRow | None:
        return batches.take(tx, batch.id, "visit_1")

    known = await house.db.write(first)
    assert known is not None
    await house.db.write(lambda tx: batches.take(tx, batch.id, "visit_2"))
    with pytest.raises(batches.Superseded):
        await house.db.write(lambda tx: batches.hold(tx, known, "visit_1"))
    await house.db.write(lambda tx: batches.hold(tx, known, "visit_2"))
    await house.close()
