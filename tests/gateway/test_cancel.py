"""Cancelling: free at once where nothing was bought; what is under way is delivered and charged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engines import Queues
from gateway.house import House, account, until
from gateway.replicas import Replica
from safelight.errors import FaultClass, NotFound, UpstreamError
from safelight.gateway.orders import Queued
from safelight.types import Job, JobState

LATER = Queued()
FAST = UpstreamError(FaultClass.FAST, "upstream_error", "No.")


async def reasons(house: House) -> list[str]:
    return [line.reason for line in await house.statement() if line.kind == "release"]


def assert_cancelled(job: Job) -> None:
    assert job.state is JobState.CANCELLED
    assert job.failure is not None
    assert job.failure.code == "job_cancelled"
    assert job.completed_at is not None


async def test_a_waiting_job_is_cancelled_at_once_and_free(house: House) -> None:
    order = await house.submit(queued=LATER)
    assert_cancelled(await house.gateway.cancel("cus_1", order.jobs[0].id))
    balance = await house.balance()
    assert (balance.posted_micros, balance.held_micros) == (1_000_000, 0)
    assert await reasons(house) == ["job_cancelled"]
    await house.engine.start()
    await house.queueing.run(order.jobs[0].id)
    assert house.upstream.calls == []


async def test_a_cancelled_jobs_watchers_are_told(house: House) -> None:
    order = await house.submit(queued=LATER)
    waiting = asyncio.ensure_future(house.collect(order))
    await asyncio.sleep(0)
    await house.gateway.cancel("cus_1", order.jobs[0].id)
    assert_cancelled((await waiting)[0])


async def test_another_customers_job_is_not_found(house: House) -> None:
    order = await house.submit(queued=LATER)
    for customer, job_id in (("cus_2", order.jobs[0].id), ("cus_1", "job_none")):
        with pytest.raises(NotFound):
            await house.gateway.cancel(customer, job_id)
    assert (await house.job(order)).state is JobState.QUEUED


async def test_cancelling_twice_releases_once(house: House) -> None:
    order = await house.submit(queued=LATER)
    first = await house.gateway.cancel("cus_1", order.jobs[0].id)
    second = await house.gateway.cancel("cus_1", order.jobs[0].id)
    assert first == second
    assert await reasons(house) == ["job_cancelled"]


async def test_a_call_that_is_out_is_delivered_and_charged(house: House) -> None:
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    job = await house.gateway.cancel("cus_1", order.jobs[0].id)
    assert job.state is JobState.IN_PROGRESS
    assert job.cancel_requested_at is not None
    house.upstream.gate.set()
    (done,) = await house.gateway.wait(order)
    assert done.state is JobState.COMPLETED
    assert (await house.balance()).posted_micros == 970_000


async def test_after_a_cancel_a_failed_call_is_not_repeated(house: House) -> None:
    house.upstream.gate.clear()
    house.upstream.steps = [FAST]
    order = await house.submit()
    await house.upstream.called.wait()
    await house.gateway.cancel("cus_1", order.jobs[0].id)
    house.upstream.gate.set()
    (ended,) = await house.gateway.wait(order)
    assert_cancelled(ended)
    assert len(house.upstream.calls) == 1
    assert await reasons(house) == ["job_cancelled"]


async def test_a_job_that_waits_for_an_account_is_cancelled_at_once(tmp_path: Path) -> None:
    house = await House(tmp_path, accounts=(account("a", max_in_flight=1),)).open()
    house.upstream.gate.clear()
    first = await house.submit("first")
    await house.upstream.called.wait()
    second = await house.submit("second")
    for _ in range(20):
        await asyncio.sleep(0)
    assert_cancelled(await house.gateway.cancel("cus_1", second.jobs[0].id))
    (ended,) = await house.gateway.wait(second)
    assert_cancelled(ended)
    house.upstream.gate.set()
    assert (await house.gateway.wait(first))[0].state is JobState.COMPLETED
    await until(lambda: not house.gateway.running)
    assert len(house.upstream.calls) == 1
    assert await house.audit() == []
    await house.close()


async def test_an_ended_job_stays_as_it_is(house: House) -> None:
    (done,) = await house.buy()
    assert await house.gateway.cancel("cus_1", done.id) == await house.gateway.job("cus_1", done.id)
    assert (await house.balance()).posted_micros == 970_000


async def test_cancels_that_race_with_the_start_and_the_end_leave_one_end(tmp_path: Path) -> None:
    """At every moment between a queued job's reminder and its settle."""
    house = await House(tmp_path).open()
    ends = set()
    for turns in range(0, 120, 3):
        order = await house.submit(f"{turns}", queued=LATER)
        running = asyncio.ensure_future(house.queueing.run(order.jobs[0].id))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = await house.gateway.cancel("cus_1", order.jobs[0].id)
        await running
        ended = await house.job(order)
        assert ended.state.terminal
        if cancelled.state.terminal:
            assert cancelled.state is ended.state
        ends.add(ended.state)
    assert JobState.CANCELLED in ends
    completed = house.upstream.sold - await house.waste() - await house.unknown_waste()
    assert (await house.balance()).posted_micros == 1_000_000 - 30_000 * completed
    assert await house.audit() == []
    await house.close()


async def test_another_process_is_told_before_its_next_attempt(
    tmp_path: Path, database_url: str
) -> None:
    one = Replica(tmp_path, "one", database_url)
    await one.open()
    two = Replica(tmp_path, "two", database_url)
    await two.open()
    one.upstream.steps = [FAST]
    order = await one.begun()
    job = await two.gateway.cancel("cus_1", order.jobs[0].id)
    assert job.state is JobState.IN_PROGRESS
    one.upstream.gate.set()
    (ended,) = await one.gateway.wait(order)
    assert_cancelled(ended)
    assert len(one.upstream.calls) == 1
    assert await two.audit() == []
    await two.close()
    await one.close()


async def test_a_job_of_another_process_that_waits_is_cancelled_at_once(
    tmp_path: Path, database_url: str
) -> None:
    """Nothing was bought for it; its process finds that out by a look at the latest."""
    one = Replica(tmp_path, "one", database_url)
    await one.open(credit=10_000_000)
    two = Replica(tmp_path, "two", database_url)
    await two.open()
    one.upstream.gate.clear()
    orders = [await one.submit(f"{n}") for n in range(101)]
    await until(lambda: len(one.upstream.calls) == 100)
    states = [(await one.job(order)).state for order in orders]
    waiting = orders[states.index(JobState.QUEUED)]
    assert_cancelled(await two.gateway.cancel("cus_1", waiting.jobs[0].id))
    for _ in range(2):
        await one.reaper.look()
    assert_cancelled((await one.gateway.wait(waiting))[0])
    one.upstream.gate.set()
    for order in orders:
        await one.gateway.wait(order)
    assert one.upstream.sold == 100
    assert await two.audit() == []
    await two.close()
    await one.close()


async def test_a_dead_process_job_that_was_cancelled_is_not_bought_again(tmp_path: Path) -> None:
    queues = Queues()
    first = await House(tmp_path, owner="first", queues=queues).open()
    first.upstream.gate.clear()
    order = await first.submit()
    await first.upstream.called.wait()
    await first.gateway.cancel("cus_1", order.jobs[0].id)
    await first.kill()
    second = await House(tmp_path, owner="second", queues=queues).open()
    (ended,) = await second.collect(order)
    assert_cancelled(ended)
    assert second.upstream.calls == []
    assert await second.audit() == []
    await second.close()
