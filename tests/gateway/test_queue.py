"""Queued jobs: durable and free until a process has room, run once, in whichever process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engines import Queues
from gateway.house import House, account, until
from safelight.clock import ManualClock
from safelight.config import LimitsConfig, QueueConfig
from safelight.errors import (
    FaultClass,
    InsufficientBalance,
    RateLimited,
    Unavailable,
    UpstreamError,
)
from safelight.gateway.orders import Queued
from safelight.gateway.queueing import SETTLING_MS
from safelight.gateway.reaping import GRACE_S
from safelight.types import JobClass, JobState

LATER = Queued()


async def test_a_queued_order_holds_its_price_and_waits_until_the_queue_runs(house: House) -> None:
    order = await house.submit(queued=LATER)
    waiting = await house.job(order)
    assert waiting.state is JobState.QUEUED
    assert waiting.job_class is JobClass.JOB
    assert (await house.balance()).held_micros == 30_000
    assert house.upstream.calls == []
    await house.engine.start()
    (done,) = await house.collect(order)
    assert done.state is JobState.COMPLETED
    assert (await house.balance()).posted_micros == 970_000


async def test_all_pictures_of_a_queued_order_are_made_once(house: House) -> None:
    await house.engine.start()
    order = await house.submit(channel="gpt-image-2-all", n=3, queued=LATER)
    assert [job.state for job in await house.collect(order)] == [JobState.COMPLETED] * 3
    assert house.upstream.sold == 3


async def test_a_restart_keeps_what_is_queued_and_takes_over_what_ran(tmp_path: Path) -> None:
    queues = Queues()
    first = await House(tmp_path, owner="first", queues=queues).open()
    first.upstream.gate.clear()
    running = await first.submit("runs", queued=LATER)
    await first.engine.start()
    await first.upstream.called.wait()
    await first.engine.pause()
    waiting = await first.submit("waits", queued=LATER)
    await first.kill()

    second = await House(tmp_path, owner="second", queues=queues).open()
    assert (await second.job(waiting)).state is JobState.QUEUED
    await second.engine.start()
    for order in (running, waiting):
        assert (await second.collect(order))[0].state is JobState.COMPLETED
    assert second.upstream.sold == 2
    assert await second.audit() == []
    await second.close()


async def test_a_lost_reminder_is_given_again(tmp_path: Path) -> None:
    """The process died between the commit and the queue; another one's sweep finds the row."""
    clock = ManualClock()
    first = await House(tmp_path, clock=clock, owner="first").open()
    order = await first.submit(queued=LATER)
    await first.kill()
    second = await House(tmp_path, clock=clock, owner="second").open()
    await second.engine.start()
    assert await second.queueing.sweep() == 1
    assert (await second.collect(order))[0].state is JobState.COMPLETED
    assert await second.queueing.sweep() == 0
    await second.close()


async def test_a_sweep_leaves_out_what_is_being_reminded_of_just_now(tmp_path: Path) -> None:
    clock = ManualClock()
    one = await House(tmp_path, clock=clock, owner="one").open()
    two = await House(tmp_path, clock=clock, owner="two").open()
    assert await two.queueing.sweep() == 0
    await one.submit(queued=LATER)
    assert await two.queueing.sweep() == 0
    clock.advance(SETTLING_MS / 1000 + 1)
    assert await two.queueing.sweep() == 1
    assert await two.queueing.sweep() == 0
    await two.close()
    await one.close()


async def test_a_job_that_waits_no_more_is_left_alone(house: House) -> None:
    """Reminders may come late and twice."""
    await house.engine.start()
    order = await house.submit(queued=LATER)
    await house.collect(order)
    await house.queueing.run(order.jobs[0].id)
    await house.queueing.run("job_of_nobody")
    assert house.upstream.sold == 1


async def test_two_processes_take_each_job_once(tmp_path: Path) -> None:
    queues = Queues()
    one = await House(tmp_path, owner="one", queues=queues).open()
    two = await House(tmp_path, owner="two", queues=Queues()).open()
    orders = [await one.submit(f"{n}", queued=LATER) for n in range(12)]
    ids = [order.jobs[0].id for order in orders]
    async with asyncio.TaskGroup() as group:
        for house in (one, two):
            for job_id in ids:
                group.create_task(house.queueing.run(job_id))
    assert one.upstream.sold + two.upstream.sold == 12
    for order in orders:
        assert (await one.job(order)).state is JobState.COMPLETED
    assert await one.audit() == []
    await two.close()
    await one.close()


async def test_only_so_many_queued_jobs_run_at_one_time(tmp_path: Path) -> None:
    house = await House(
        tmp_path,
        queue=QueueConfig(concurrency=2),
        accounts=(account("a", max_in_flight=50),),
    ).open()
    house.upstream.gate.clear()
    orders = [await house.submit(f"{n}", queued=LATER) for n in range(5)]
    await house.engine.start()
    await until(lambda: house.gateway.running == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert house.gateway.running == 2
    now = await house.submit("now")
    assert house.gateway.running == 3, "a waiting caller is not in their line"
    house.upstream.gate.set()
    for order in (*orders, now):
        assert (await house.collect(order))[0].state is JobState.COMPLETED
    await house.close()


async def test_a_key_runs_as_many_jobs_as_it_may_and_the_others_wait(tmp_path: Path) -> None:
    house = await House(tmp_path, limits=LimitsConfig(max_in_flight=1)).open()
    order = await house.submit(channel="gpt-image-2-all", n=1, queued=LATER)
    more = await house.submit("more", queued=LATER)
    house.upstream.gate.clear()
    await house.engine.start()
    await house.upstream.called.wait()
    with pytest.raises(RateLimited):
        await house.submit("now")
    states = {(await house.job(one)).state for one in (order, more)}
    assert JobState.QUEUED in states
    house.upstream.gate.set()
    for one in (order, more):
        assert (await house.collect(one))[0].state is JobState.COMPLETED
    await house.close()


async def test_the_queue_of_a_key_is_bounded(tmp_path: Path) -> None:
    house = await House(tmp_path, queue=QueueConfig(max_waiting_per_key=2)).open()
    for n in range(2):
        await house.submit(f"{n}", queued=LATER)
    with pytest.raises(RateLimited, match="in the queue") as refused:
        await house.submit("3", queued=LATER)
    assert refused.value.retry_after_s
    assert (await house.balance()).held_micros == 60_000
    await house.close()


async def test_a_full_queue_takes_no_more(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, queue=QueueConfig(max_waiting=1)).open()
    await house.submit(queued=LATER)
    clock.advance(10)
    with pytest.raises(Unavailable) as refused:
        await house.submit("2", queued=LATER)
    assert refused.value.code == "queue_full"
    assert (await house.balance()).held_micros == 30_000
    await house.close()


async def test_without_the_money_nothing_is_queued(tmp_path: Path) -> None:
    house = await House(tmp_path).open(credit=30_000)
    await house.submit(queued=LATER)
    with pytest.raises(InsufficientBalance):
        await house.submit("2", queued=LATER)
    await house.close()


async def test_a_job_past_its_deadline_is_released_from_the_queue(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    soon = clock.now_ms() + 60_000
    order = await house.submit(queued=LATER, deadline_at=soon)
    assert order.jobs[0].deadline_at == soon
    clock.advance(59)
    await house.reaper.look()
    assert (await house.job(order)).state is JobState.QUEUED
    clock.advance(1 + GRACE_S + 1)
    await house.reaper.look()
    ended = await house.job(order)
    assert ended.state is JobState.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "deadline_exceeded"
    assert (await house.balance()).held_micros == 0
    await house.engine.start()
    await house.queueing.run(ended.id)
    assert house.upstream.calls == []
    assert await house.audit() == []
    await house.close()


async def test_a_queued_job_has_the_deadline_of_the_queue(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, queue=QueueConfig(deadline_s=7200)).open()
    order = await house.submit(queued=LATER)
    assert order.jobs[0].deadline_at == clock.now_ms() + 7_200_000
    begins = clock.now_ms() + 3_600_000
    later = await house.submit("2", queued=Queued(not_before=begins))
    assert later.jobs[0].deadline_at == begins + 7_200_000
    await house.close()


async def test_a_job_does_not_begin_before_its_time(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    order = await house.submit(queued=Queued(not_before=clock.now_ms() + 1))
    taken = asyncio.ensure_future(house.queueing.run(order.jobs[0].id))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (await house.job(order)).state is JobState.QUEUED
    clock.advance(1)
    await taken
    assert (await house.job(order)).state is JobState.COMPLETED
    await house.close()


async def test_a_retry_of_a_queued_order_gets_the_same_jobs(house: House) -> None:
    order = await house.submit(key="k", queued=LATER)
    again = await house.submit(key="k", queued=LATER)
    assert again.joined
    assert again.jobs[0].id == order.jobs[0].id
    first = await house.submit("other", queued=LATER)
    async with house.gateway.attached(first):
        pass  # the connection broke before the 202 was written
    retry = await house.submit("other", queued=LATER, retry_count=1)
    assert retry.jobs[0].id == first.jobs[0].id
    assert (await house.balance()).held_micros == 60_000


async def test_an_answered_202_is_not_taken_by_the_retry_of_an_equal_order(house: House) -> None:
    first = await house.submit("twin", queued=LATER)
    async with house.gateway.attached(first) as attachment:
        attachment.delivered(final=True)
    for queued in (LATER, None):
        retry = await house.submit("twin", queued=queued, retry_count=1)
        assert retry.jobs[0].id != first.jobs[0].id


async def test_a_202_that_is_being_written_is_not_taken_by_the_retry_of_an_equal_order(
    house: House,
) -> None:
    first = await house.submit("twin", queued=LATER)
    async with house.gateway.attached(first) as attachment:
        retry = await house.submit("twin", queued=LATER, retry_count=1)
        attachment.delivered(final=True)
    assert retry.jobs[0].id != first.jobs[0].id


async def test_a_plain_retry_takes_its_own_order_and_no_job_whose_id_somebody_has(
    tmp_path: Path,
) -> None:
    """The process is killed when the 202 is out, and before it could note that."""
    queues = Queues()
    first = await House(tmp_path, owner="first", queues=queues).open()
    first.upstream.gate.clear()
    handed_out = await first.submit("twin", queued=LATER)
    waited_for = await first.submit("twin")
    await first.kill()

    second = await House(tmp_path, owner="second", queues=queues).open()
    await second.engine.start()
    retry = await second.submit("twin", retry_count=1)
    assert retry.request_id == waited_for.request_id
    for order in (handed_out, retry):
        assert (await second.collect(order))[0].state is JobState.COMPLETED
    assert (await second.balance()).posted_micros == 940_000, "two orders, two pictures"
    assert await second.audit() == []
    await second.close()


async def test_a_failure_behind_a_202_is_not_ordered_again_by_a_strangers_retry(
    tmp_path: Path,
) -> None:
    """The job ended, to be sent again, while the 202 was being written."""
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    order = await house.submit("twin", queued=LATER, deadline_at=clock.now_ms() + 60_000)
    async with house.gateway.attached(order) as attachment:
        clock.advance(61 + GRACE_S)
        await house.reaper.look()
        attachment.delivered(final=True)
    assert (await house.job(order)).failure.should_retry  # type: ignore[union-attr]
    anew = await house.submit("twin", queued=LATER, retry_count=1)
    row = await house.db.read(
        lambda tx: tx.one("SELECT retry_of FROM request WHERE id = :id", {"id": anew.request_id})
    )
    assert row is not None
    assert row["retry_of"] is None
    await house.close()


async def test_what_a_customer_writes_on_its_jobs_stays_whoever_joins(house: House) -> None:
    written = (("ticket", "17"), ("of", "Zoë"))
    order = await house.submit(key="k", queued=LATER, metadata=written)
    again = await house.submit(key="k", metadata=(("ticket", "18"),))
    assert again.jobs[0].id == order.jobs[0].id
    assert (await house.job(again)).metadata == written
    assert (await house.job(await house.submit("bare"))).metadata == ()


async def test_a_waiting_caller_may_join_a_queued_order(house: House) -> None:
    order = await house.submit(key="k", queued=LATER)
    joined = await house.submit(key="k")
    await house.engine.start()
    async with house.gateway.attached(joined) as attachment:
        (done,) = await house.gateway.wait(joined)
        attachment.delivered()
    assert done.id == order.jobs[0].id
    assert done.state is JobState.COMPLETED


async def test_a_drained_process_leaves_the_queue_to_another(tmp_path: Path) -> None:
    queues = Queues()
    first = await House(
        tmp_path, owner="first", queues=queues, queue=QueueConfig(concurrency=1)
    ).open()
    first.upstream.gate.clear()
    orders = [await first.submit(f"{n}", queued=LATER) for n in range(3)]
    await first.engine.start()
    await first.upstream.called.wait()
    first.gateway.accepting = False
    first.upstream.gate.set()
    await first.close()
    second = await House(tmp_path, owner="second", queues=queues).open()
    await second.engine.start()
    for order in orders:
        assert (await second.collect(order))[0].state is JobState.COMPLETED
    assert first.upstream.sold + second.upstream.sold == 3
    await second.close()


async def test_a_queued_job_of_a_direct_channel_waits_for_an_account(tmp_path: Path) -> None:
    """What is direct tells a waiting caller 429; of a queued job nobody is there to repeat it."""
    house = await House(tmp_path, accounts=(account("a", max_in_flight=1),)).open()
    house.upstream.gate.clear()
    orders = [await house.submit(f"{n}", channel="gpt-image-2", queued=LATER) for n in range(2)]
    await house.engine.start()
    await house.upstream.called.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    house.upstream.gate.set()
    for order in orders:
        assert (await house.collect(order))[0].state is JobState.COMPLETED
    await house.close()


async def test_a_failed_queued_job_costs_nothing(house: House) -> None:
    house.upstream.steps = [UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.")]
    await house.engine.start()
    order = await house.submit(queued=LATER)
    (ended,) = await house.collect(order)
    assert ended.state is JobState.FAILED
    assert (await house.balance()).posted_micros == 1_000_000
