"""Lines that go to the vendor's own Batch API: bought there once, or back in the live lane."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from gateway.batch_house import EDITS, line
from gateway.house import VIP, ScriptedUpstream, account, picture, until
from gateway.lane_house import HOUR_S, LANE_PRICE, PRICE, lane_config, lane_house, names_of
from safelight import accounts
from safelight.bench.faults.batch_api import BatchPlan
from safelight.channels import Channels
from safelight.clock import ManualClock
from safelight.config_batches import BatchesConfig, VendorBatchesConfig
from safelight.errors import ConfigError
from safelight.gateway.vendor_lane import VendorLane
from safelight.types import ImageRequest, Operation
from safelight.upstreams.batches import checked_accounts
from safelight.upstreams.openai import OpenAIUpstream


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


async def test_what_a_line_costs_is_half_of_what_a_call_costs(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, _):
        await shop.order(1)
        await shop.visit_all()
        await shop.house.buy("a lamp at once")
        batch_cost, call_cost = await shop.costs()
        assert batch_cost is not None
        assert call_cost is not None
        assert call_cost > 0
        assert batch_cost == -(-call_cost // 2)


async def test_attempts_say_that_they_were_lines_and_leave_the_minute_to_calls(
    tmp_path: Path,
) -> None:
    async with lane_house(tmp_path) as (shop, _):
        await shop.order(2)
        await shop.visit_all()
        (made,) = await shop.vendor_batches()
        rows = await shop.house.db.read(lambda tx: tx.all("SELECT * FROM attempt"))
        assert {row["vendor_batch_id"] for row in rows} == {made.id}
        assert {row["limiter_group"] for row in rows} == {"org/batch"}
        book = await shop.house.db.read(lambda tx: accounts.read(tx, since_s=None))
        (tally,) = book.tallies.values()
        assert (tally.delivered, sum(tally.milliseconds.values())) == (2, 0)


@pytest.mark.parametrize(
    ("policy", "metadata", "window", "goes"),
    [
        pytest.param(
            *("always", {"safelight_vendor_batch": "false"}, "24h", False),
            marks=pytest.mark.campaign,
        ),
        pytest.param("asked", None, "24h", False, marks=pytest.mark.campaign),
        ("asked", {"safelight_vendor_batch": "true"}, "24h", True),
        ("always", None, "2h", False),
    ],
)
async def test_who_goes_there(
    tmp_path: Path, policy: str, metadata: dict[str, str] | None, window: str, goes: bool
) -> None:
    """The operator's policy, the customer's word, and time enough."""
    config = lane_config(tmp_path, policy=policy)
    bounds = BatchesConfig(completion_windows=("24h", "2h"))
    async with lane_house(tmp_path, config=config, bounds=bounds) as (shop, _):
        batch = await shop.order(1, metadata=metadata, completion_window=window)
        assert bool(await shop.vendor_batches()) is goes
        await shop.visit_all()
        done = await shop.finish(batch.id)
        assert done.completed == 1
        (settled,) = [one for one in await shop.house.statement() if one.kind == "settle"]
        assert settled.amount_micros == -(LANE_PRICE if goes else PRICE)


async def test_edits_stay_in_the_live_lane(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, _):
        source = await shop.upload(picture("1024x1024", "png", 1), purpose="vision")
        edit = line("e", EDITS, images=[{"file_id": source.id}])
        batch = await shop.submit([edit], EDITS)
        await shop.batching.feed(batch.id)
        assert await shop.vendor_batches() == []
        assert (await shop.finish(batch.id)).completed == 1


async def test_refused_lines_are_free_and_other_failures_are_bought_live(tmp_path: Path) -> None:
    """A refusal is final, a server's failure and an unusable picture are not; the latter is waste.

    The prompts are those of `line`: "a lamp i0" and so on.
    """
    act = {
        "prompts": {
            "lamp i1": {"kind": "moderation"},
            "lamp i2": {"queue": [500]},
            "lamp i3": {"queue": ["corrupt"]},
            "lamp i4": {"queue": ["wrong_size"]},
            "lamp i5": {"queue": ["bad_base64"]},
        }
    }
    async with lane_house(tmp_path, act) as (shop, _):
        batch = await shop.order(6)
        await shop.visit_all()
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("completed", 5, 1)
        (refused,) = await shop.content(done.error_file_id)
        assert refused["custom_id"] == "i1"
        assert refused["response"]["body"]["error"]["code"] == "moderation_blocked"
        assert await shop.charged() == 5
        assert await shop.house.waste() == 3
        assert len(shop.vendor.requests) == 4


async def test_lines_that_are_late_come_back_and_what_was_done_is_taken(tmp_path: Path) -> None:
    """Time runs short at a third: the vendor is stopped, its third counts, the rest is live."""
    plan = BatchPlan(process_s=3 * 22 * HOUR_S, cancel_s=300)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(9)
        assert await shop.visit_all() == ["out"]
        (made,) = await shop.vendor_batches()
        clock.advance((made.cancel_at - clock.now_ms()) / 1000 + 1)
        assert await shop.visit_all() == ["out"]
        assert (await shop.vendor_batches())[0].remote_status == "cancelling"
        assert shop.vendor.requests == []
        clock.advance(301)
        assert await shop.visit_all() == ["ended"]
        by_kind = Counter(sale.kind for sale in shop.vendor.sales)
        assert (by_kind["batch"], by_kind["ok"]) == (3, 6)
        done = await shop.finish(batch.id)
        assert (done.status, done.completed) == ("completed", 9)
        assert await shop.house.waste() == 0


async def test_a_vendor_that_does_not_let_go_is_not_waited_for(tmp_path: Path) -> None:
    """Everything is bought live at the hour set; what the vendor gives after that is waste."""
    plan = BatchPlan(process_s=2 * 22 * HOUR_S, cancel_s=5 * HOUR_S)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(4)
        await shop.visit_all()
        (made,) = await shop.vendor_batches()
        clock.advance((made.cancel_at - clock.now_ms()) / 1000 + 1)
        await shop.visit_all()
        clock.advance((made.return_at - clock.now_ms()) / 1000 + 1)
        assert await shop.visit_all() == ["out"]
        assert await shop.states() == {"late": 4}
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, await shop.charged()) == ("completed", 4, 4)
        assert await shop.house.unknown_waste() == 4
        clock.advance(5 * HOUR_S)
        assert await shop.visit_all() == ["ended"]
        assert await shop.states() == {"returned": 2, "wasted": 2}
        assert (await shop.house.waste(), await shop.house.unknown_waste()) == (2, 0)
        assert await shop.charged() == 4


@pytest.mark.campaign
async def test_a_late_line_that_nobody_has_begun_takes_the_vendor_s_picture(
    tmp_path: Path,
) -> None:
    plan = BatchPlan(process_s=21 * HOUR_S, cancel_s=5 * HOUR_S)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(2)
        await shop.visit_all()
        await shop.engine.pause()  # nobody runs queued jobs
        (made,) = await shop.vendor_batches()
        shop.vendor.desk.faults["look"] += [500] * 2
        clock.advance((made.return_at - clock.now_ms()) / 1000 + 1)
        await shop.lane.visit(made.id)
        assert await shop.states() == {"late": 2}
        clock.advance(60)
        await shop.lane.visit(made.id)
        await shop.lane.visit(made.id)
        assert await shop.states() == {"taken": 2}
        await until(lambda: not shop.house.gateway.running)
        await shop.batching.feed(batch.id)
        assert (await shop.look(batch.id)).completed == 2
        assert shop.vendor.requests == []
        assert await shop.house.waste() == 0


async def test_a_cancelled_batch_is_cancelled_at_the_vendor(tmp_path: Path) -> None:
    """What it has done by then is delivered and charged, the rest ends free."""
    plan = BatchPlan(process_s=10 * HOUR_S, cancel_s=60)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(5)
        await shop.visit_all()
        clock.advance(4 * HOUR_S + 60)
        await shop.batching.cancel("cus_1", batch.id)
        await shop.batching.feed(batch.id)
        assert (await shop.look(batch.id)).status == "cancelling"
        assert len(shop.queues.waiting("vendor_batches")) > 1
        await shop.visit_all()
        clock.advance(61)
        assert await shop.visit_all() == ["ended"]
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("cancelled", 2, 3)
        assert (await shop.charged(), shop.vendor.requests) == (2, [])
        assert (await shop.house.balance()).held_micros == 0


@pytest.mark.campaign
async def test_a_line_cancelled_before_it_was_sent_costs_nothing(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, _):
        batch = await shop.order(3)
        rows = await shop.house.db.read(lambda tx: tx.all("SELECT job_id FROM vendor_item"))
        job = await shop.house.gateway.cancel("cus_1", rows[0]["job_id"])
        assert job.state == "cancelled"
        await shop.visit_all()
        done = await shop.finish(batch.id)
        assert (done.completed, len(shop.vendor.sales)) == (2, 2)


async def test_a_batch_cancelled_while_it_is_collected_never_leaves(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, _):
        batch = await shop.order(3)
        await shop.batching.cancel("cus_1", batch.id)
        await shop.batching.feed(batch.id)
        assert await shop.visit_all() == ["ended"]
        done = await shop.finish(batch.id)
        assert (done.status, done.failed) == ("cancelled", 3)
        assert shop.vendor.desk.seen == []


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ("create", 400),
        *(
            pytest.param(*one, marks=pytest.mark.campaign)
            for one in (("create", 401), ("upload", 400), ("upload", 401))
        ),
    ],
)
async def test_a_vendor_that_refuses_the_batch_leaves_all_to_the_live_lane(
    tmp_path: Path, route: str, status: int
) -> None:
    async with lane_house(tmp_path) as (shop, _):
        shop.vendor.desk.faults[route] = [status]
        batch = await shop.order(3)
        assert await shop.visit_all() == ["ended"]
        done = await shop.finish(batch.id)
        assert (done.completed, len(shop.vendor.sales), await shop.house.waste()) == (3, 3, 0)


async def test_a_batch_that_fails_at_the_vendor_leaves_all_to_the_live_lane(tmp_path: Path) -> None:
    async with lane_house(tmp_path) as (shop, _):
        shop.vendor.desk.fail_next = "Enqueued token limit reached."
        batch = await shop.order(3)
        assert await shop.visit_all() == ["ended"]
        (made,) = await shop.vendor_batches()
        assert made.reason == "Enqueued token limit reached."
        assert (await shop.finish(batch.id)).completed == 3


@pytest.mark.campaign
async def test_what_expires_at_the_vendor_is_taken_in_part(tmp_path: Path) -> None:
    plan = BatchPlan(process_s=10 * HOUR_S, window_s=5 * HOUR_S)
    async with lane_house(tmp_path, plan=plan) as (shop, clock):
        batch = await shop.order(4)
        await shop.visit_all()
        clock.advance(6 * HOUR_S)
        assert await shop.visit_all() == ["ended"]
        assert (await shop.vendor_batches())[0].remote_status == "expired"
        assert (await shop.finish(batch.id)).completed == 4
        assert Counter(sale.kind for sale in shop.vendor.sales) == {"batch": 2, "ok": 2}


@pytest.mark.campaign
async def test_an_account_that_is_gone_gives_its_lines_back(tmp_path: Path) -> None:
    """The operator has taken the key out of the file, and starts anew."""
    async with lane_house(tmp_path, plan=BatchPlan(process_s=HOUR_S)) as (shop, clock):
        batch = await shop.order(2)
        await shop.visit_all()
        alone = VendorLane(
            shop.house.parts, shop.house.gateway, shop.engine, "test", (), VendorBatchesConfig()
        )
        clock.advance(120)
        assert await alone.sweep() == 1
        (made,) = await shop.vendor_batches()
        await alone.visit(made.id)
        await shop.settle()
        assert (await shop.vendor_batches())[0].status == "ended"
        assert (await shop.finish(batch.id)).completed == 2
        assert await shop.house.unknown_waste() == 2
        # The vendor's own books are behind: nobody has asked it for the batch since.
        clock.advance(HOUR_S)
        for remote in list(shop.vendor.desk.batches.values()):
            await shop.vendor.desk.work_on(remote)


@pytest.mark.campaign
async def test_large_batches_are_divided(tmp_path: Path) -> None:
    config = lane_config(tmp_path, max_lines=3)
    async with lane_house(tmp_path, config=config) as (shop, _):
        batch = await shop.order(8)
        await shop.visit_all()
        done = await shop.finish(batch.id)
        assert done.completed == 8
        assert sorted(one.lines for one in await shop.vendor_batches()) == [2, 3, 3]


@pytest.mark.campaign
async def test_a_vendor_batch_waits_for_lines_that_cannot_be_paid_yet(tmp_path: Path) -> None:
    """It leaves when all lines of its batch are in, or after `collect_s`; the rest follows."""
    async with lane_house(tmp_path, credit=2 * LANE_PRICE) as (shop, clock):
        batch = await shop.order(3)
        assert await shop.visit_all() == ["collecting"]
        clock.advance(61)
        assert await shop.visit_all() == ["ended"]
        await shop.house.topup(LANE_PRICE)
        await shop.batching.feed(batch.id)
        assert await shop.visit_all() == ["ended", "ended"]
        done = await shop.finish(batch.id)
        assert (done.completed, await shop.charged()) == (3, 3)


async def test_a_line_that_the_lane_has_forgotten_is_ended_free_after_its_deadline(
    tmp_path: Path,
) -> None:
    """Whatever went wrong: no hold outlives its job."""
    async with lane_house(tmp_path) as (shop, clock):
        await shop.order(2)
        await shop.house.db.write(
            lambda tx: tx.execute("UPDATE vendor_batch SET status = 'ended', ended_at = 1")
        )
        clock.advance(24 * HOUR_S + 61)
        await shop.lane.sweep()
        clock.advance(31)
        await shop.house.reaper.look()
        assert (await shop.house.balance()).held_micros == 0
        rows = await shop.house.db.read(lambda tx: tx.all("SELECT failure FROM job"))
        assert all("deadline_exceeded" in row["failure"] for row in rows)


async def test_a_quote_tells_what_a_line_there_costs(tmp_path: Path) -> None:
    request = ImageRequest(operation=Operation.GENERATION, channel=VIP, prompt="a lamp")
    for policy, price in (("off", None), ("asked", LANE_PRICE), ("always", LANE_PRICE)):
        channels = Channels(lane_config(tmp_path, policy=policy).channels)
        assert channels.vendor_batch_price(request) == price
        assert channels.quote(request, batch=True).price_micros == PRICE


def test_an_account_without_a_batch_api_is_refused_at_the_start() -> None:
    wrong = account("a", vendor_batches=True)
    with pytest.raises(ConfigError, match="has no Batch API"):
        checked_accounts([wrong], {"scripted": ScriptedUpstream(ManualClock())})
    local = msgspec.structs.replace(
        wrong, upstream="openai", base_url="http://127.0.0.1:9/v1", options={"profile": "localai"}
    )
    with pytest.raises(ConfigError, match="localai"):
        checked_accounts([local], {"openai": OpenAIUpstream(ManualClock())})


async def test_however_often_it_is_woken_there_is_one_line_of_visits(tmp_path: Path) -> None:
    async with lane_house(tmp_path, plan=BatchPlan(process_s=HOUR_S)) as (shop, clock):
        batch = await shop.order(2)
        (made,) = await shop.vendor_batches()
        await shop.lane.wake([made.id] * 5)
        reminders = [work.item for work in shop.queues.waiting("vendor_batches")]
        assert len(reminders) > 5
        for item in reminders:
            await shop.lane.visit(item)
        assert len(shop.queues.waiting("vendor_batches")) == len(reminders) + 1
        assert shop.vendor.desk.seen == ["upload", "create", "look"]
        clock.advance(HOUR_S)
        await shop.visit_all()
        assert (await shop.finish(batch.id)).completed == 2
