"""Lines that go to the vendor's own Batch API: bought there once, or back in the live lane."""

from __future__ import annotations

from pathlib import Path

from gateway.lane_house import HOUR_S, LANE_PRICE, lane_config, lane_house, names_of
from safelight.bench.faults.batch_api import BatchPlan


async def test_a_batch_goes_to_the_vendor_and_its_pictures_are_settled_at_half_the_cost(
    tmp_path: Path,
) -> None:
    plan = BatchPlan(process_s=HOUR_S)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(7)
        assert await shop.states() == {"waiting": 7}
        assert await shop.visit_all() == ["out"]
        assert await shop.states() == {"out": 7}
        assert (await shop.look(batch.id)).completed == 0
        clock.advance(HOUR_S + 1)
        assert await shop.visit_all() == ["ended"]
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("completed", 7, 0)
        assert len(names_of(await shop.content(done.output_file_id))) == 7
        lines = [one for one in await shop.house.statement() if one.kind == "settle"]
        assert [one.amount_micros for one in lines] == [-LANE_PRICE] * 7
        assert shop.vendor.requests == []
        assert {one.kind for one in shop.vendor.sales} == {"batch"}
        assert shop.vendor.desk.files == {}


async def test_nothing_goes_there_unless_the_operator_says_so(tmp_path: Path) -> None:
    config = lane_config(tmp_path, policy="off")
    async with lane_house(tmp_path, config=config) as (shop, _):
        batch = await shop.order(3, metadata={"safelight_vendor_batch": "true"})
        await shop.settle()
        done = await shop.finish(batch.id)
        assert (done.completed, shop.vendor.desk.seen) == (3, [])
        assert await shop.vendor_batches() == []
