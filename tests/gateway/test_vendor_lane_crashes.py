"""The lane through crashes and a vendor that breaks off: every line is bought there once.

Each test ends with both books side by side (`lane_house`): what the vendor has sold is what was
settled and what is reported as waste.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import pytest

from gateway.house import until
from gateway.lane_house import HOUR_S, LaneHouse, lane_config, lane_house
from gateway.test_batch_restarts import DyingDatabase, Killed, open_at
from safelight import vendor_batches
from safelight.bench.faults.batch_api import BatchPlan
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.gateway.restored import release_open_jobs
from safelight.gateway.vendor_lane.sending import CREATE_SETTLED_S
from safelight.vendor_batches import Superseded, VendorBatch

LINES = 3


async def through(shop: LaneHouse, clock: ManualClock, seconds: float = 0.0) -> None:
    """Visit until nothing is open, with time enough for what was lost."""
    for _ in range(12):
        if set(await shop.visit_all()) <= {"ended"}:
            return
        clock.advance(max(seconds, 61))
    raise AssertionError(await shop.vendor_batches())


@pytest.mark.parametrize(
    ("first", "step", "committed"),
    [
        (1, 2, True),
        pytest.param(1, 1, True, marks=pytest.mark.campaign),
        pytest.param(1, 1, False, marks=pytest.mark.campaign),
    ],
)
async def test_a_visit_killed_at_any_write_is_taken_up_again(
    tmp_path: Path, first: int, step: int, committed: bool
) -> None:
    """Wherever the process ends, the next one finishes: no line is bought there twice."""
    async with lane_house(tmp_path) as (shop, clock):
        killed = 0
        for number in range(first, 60, step):
            dying = DyingDatabase(shop.house.db, number, committed=committed)
            mortal = shop.lane_over(dataclasses.replace(shop.house.parts, db=dying))
            batch = await shop.order(LINES, prefix=f"{number}-")
            (made,) = [one for one in await shop.vendor_batches() if one.batch_id == batch.id]
            with contextlib.suppress(Killed):
                await mortal.visit(made.id)
            # The dead process's name lives on here: what it had leased is an orphan.
            for _ in range(4):
                clock.advance(10)
                await shop.house.reaper.look()
            await shop.settle()
            killed += dying.left <= 0
            await through(shop, clock, CREATE_SETTLED_S)
            done = await shop.finish(batch.id)
            assert (done.status, done.completed) == ("completed", LINES)
            if dying.left > 0:
                break
        assert killed >= 5
        remotes = shop.vendor.desk.batches.values()
        tags = [(one.metadata or {})["safelight"] for one in remotes]
        assert len(tags) == len(set(tags))
        assert len(shop.vendor.sales) == await shop.charged()
        assert shop.vendor.requests == []


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ("create", 500),
        ("cancel", "lost"),
        ("content", "cut"),
        *(
            pytest.param(route, fault, marks=pytest.mark.campaign)
            for route in ("upload", "create", "list", "look", "cancel", "content")
            for fault in ("reset", "lost", "cut", 500, 429)
        ),
    ],
)
async def test_a_vendor_that_breaks_off_anywhere_sells_nothing_twice(
    tmp_path: Path, route: str, fault: int | str
) -> None:
    """Each route fails once, before or after its work was done; the batch still ends well."""
    plan = BatchPlan(process_s=2 * 22 * HOUR_S if route == "cancel" else HOUR_S)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        if route == "list":  # asked only after a create that was not answered
            shop.vendor.desk.faults["create"].append("lost")
        shop.vendor.desk.faults[route].append(fault)
        batch = await shop.order(LINES)
        await shop.visit_all()
        if route == "cancel":
            (made,) = await shop.vendor_batches()
            clock.advance((made.cancel_at - clock.now_ms()) / 1000 + 1)
        await through(shop, clock, 400 if route == "cancel" else HOUR_S / 4)
        done = await shop.finish(batch.id)
        assert (done.status, done.completed) == ("completed", LINES)
        assert len(shop.vendor.desk.batches) == 1
        assert len(shop.vendor.sales) == await shop.charged() == LINES
        assert shop.vendor.desk.faults[route] == []


async def test_a_create_that_was_not_answered_is_found_by_its_tag(tmp_path: Path) -> None:
    async with lane_house(tmp_path, plan=BatchPlan(process_s=HOUR_S)) as (shop, _):
        shop.vendor.desk.faults["create"].append("lost")
        await shop.order(LINES)
        assert await shop.visit_all() == ["creating"]
        assert await shop.visit_all() == ["out"]
        assert shop.vendor.desk.seen.count("create") == 1


async def test_a_create_that_never_arrived_is_made_again_but_not_at_once(tmp_path: Path) -> None:
    """An earlier call might still be on its way: it has five minutes to show itself."""
    async with lane_house(tmp_path, plan=BatchPlan(process_s=HOUR_S)) as (shop, clock):
        shop.vendor.desk.faults["create"].append("reset")
        await shop.order(LINES)
        for _ in range(3):
            assert await shop.visit_all() == ["creating"]
            clock.advance(CREATE_SETTLED_S / 4)
        assert shop.vendor.desk.seen.count("create") == 1
        clock.advance(CREATE_SETTLED_S / 4 + 1)
        assert await shop.visit_all() == ["out"]
        assert len(shop.vendor.desk.batches) == 1


async def test_two_visits_at_once_settle_each_line_once(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, clock):
        batch = await shop.order(8)
        (made,) = await shop.vendor_batches()
        await asyncio.gather(*(shop.lane.visit(made.id) for _ in range(3)))
        await through(shop, clock, CREATE_SETTLED_S)
        done = await shop.finish(batch.id)
        assert done.completed == 8
        assert len(shop.vendor.sales) == await shop.charged() == 8


async def test_another_process_goes_on_with_what_a_killed_one_had_sent(tmp_path: Path) -> None:
    """While the vendor works nobody takes these jobs over: they are leased to no process."""
    clock = ManualClock()
    async with FaultUpstream(
        "ok", monotonic=clock.monotonic, batches=BatchPlan(process_s=HOUR_S)
    ) as vendor:
        first = await LaneHouse.build(tmp_path, vendor, clock)
        batch = await first.order(LINES)
        assert await first.visit_all() == ["out"]
        await first.kill()
        second = await LaneHouse.build(tmp_path, vendor, clock, owner="second", queues=first.queues)
        assert await second.house.look() == 0
        await second.house.reaper.look()
        assert await second.states() == {"out": LINES}
        clock.advance(HOUR_S + 1)
        assert await second.lane.sweep() == 1
        assert await second.visit_all() == ["ended"]
        assert (await second.finish(batch.id)).completed == LINES
        await second.audit_against_the_vendor()
        await second.close()


async def test_a_process_that_drains_finishes_what_it_took_and_leaves_the_rest(
    tmp_path: Path,
) -> None:
    """The engine ends its visit; the next process reads the files from the beginning."""
    clock = ManualClock()
    async with FaultUpstream("ok", monotonic=clock.monotonic) as vendor:
        first = await LaneHouse.build(tmp_path, vendor, clock)
        batch = await first.order(60)
        (made,) = await first.vendor_batches()
        visit = asyncio.create_task(first.lane.visit(made.id))
        await until(lambda: first.house.gateway.running > 0)
        first.house.gateway.accepting = False
        await first.house.gateway.drain(30)
        visit.cancel()
        await asyncio.gather(visit, return_exceptions=True)
        before = await first.states()
        assert set(before) == {"taken", "out"}
        assert await first.charged() == before["taken"]
        await first.close()
        second = await LaneHouse.build(tmp_path, vendor, clock, owner="second", queues=first.queues)
        assert await second.visit_all() == ["ended"]
        done = await second.finish(batch.id)
        assert (done.completed, await second.charged(), len(vendor.sales)) == (60, 60, 60)
        await second.audit_against_the_vendor()
        await second.close()


async def test_after_a_restore_the_vendor_s_pictures_are_waste(tmp_path: Path) -> None:
    """Jobs that were open in the backup have ended free; what was ordered there still comes."""
    async with lane_house(tmp_path, plan=BatchPlan(process_s=HOUR_S)) as (shop, clock):
        await shop.order(LINES)
        await shop.visit_all()
        until_ms = shop.house.clock.now_ms()
        assert await release_open_jobs(shop.house.parts, until_ms=until_ms) == LINES
        clock.advance(HOUR_S + 1)
        assert await shop.visit_all() == ["ended"]
        assert await shop.states() == {"wasted": LINES}
        assert (await shop.charged(), await shop.house.waste()) == (0, LINES)


async def test_the_rows_of_a_vendor_batch_on_both_databases(
    database_url: str, tmp_path: Path
) -> None:
    """The whole life, a late one and an older visit, on SQLite and on Postgres."""
    clock = ManualClock()
    plan = BatchPlan(process_s=2 * 22 * HOUR_S, cancel_s=60)
    async with FaultUpstream("ok", monotonic=clock.monotonic, batches=plan) as vendor:
        shop = await LaneHouse.build(
            tmp_path,
            vendor,
            clock,
            config=lane_config(tmp_path),
            db=open_at(tmp_path, database_url, clock),
        )
        batch = await shop.order(4)
        await shop.visit_all()
        (made,) = await shop.vendor_batches()

        def take(tx: Transaction, visit: str) -> VendorBatch | None:
            return vendor_batches.take(tx, made.id, visit)

        known = await shop.house.db.write(lambda tx: take(tx, "visit_1"))
        assert known is not None
        await shop.house.db.write(lambda tx: take(tx, "visit_2"))
        with pytest.raises(Superseded):
            await shop.house.db.write(lambda tx: vendor_batches.hold(tx, known, "visit_1"))
        clock.advance((made.cancel_at - clock.now_ms()) / 1000 + 1)
        await shop.lane.sweep()
        await shop.visit_all()
        clock.advance(61)
        assert await shop.visit_all() == ["ended"]
        assert (await shop.finish(batch.id)).completed == 4
        await shop.audit_against_the_vendor()
        await shop.close()
