"""A job ends once, and only who owns it may end it without a picture."""

from __future__ import annotations

import msgspec

from gateway.house import House
from safelight import jobs
from safelight.gateway import ending
from safelight.gateway.failures import out_of_time
from safelight.types import Job, JobState


async def release(house: House, job: Job, name: str) -> bool:
    return await house.db.write(lambda tx: ending.release(tx, job, out_of_time(), transfer_id=name))


async def test_the_failure_of_a_process_that_lost_the_job_gives_nothing_back(house: House) -> None:
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    mine = await house.gateway.job("cus_1", order.jobs[0].id)
    assert await house.db.write(lambda tx: jobs.take_over(tx, mine, dead="test", owner="two"))
    assert not await release(house, mine, "tr_late")
    assert (await house.balance()).held_micros == 30_000
    house.upstream.gate.set()
    (done,) = await house.gateway.wait(order)
    assert done.state is JobState.COMPLETED
    assert await house.audit() == []


async def test_a_job_that_has_ended_is_not_released(house: House) -> None:
    order = await house.submit()
    (done,) = await house.gateway.wait(order)
    assert not await release(house, done, "tr_late")
    assert not await release(house, msgspec.structs.replace(done, epoch=done.epoch + 1), "tr_next")
    balance = await house.balance()
    assert (balance.posted_micros, balance.held_micros) == (970_000, 0)
    assert await house.audit() == []


async def test_a_job_is_released_once(house: House) -> None:
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    mine = await house.gateway.job("cus_1", order.jobs[0].id)
    assert await release(house, mine, "tr_end_1")
    assert not await release(house, mine, "tr_end_2")
    balance = await house.balance()
    assert (balance.posted_micros, balance.held_micros) == (1_000_000, 0)
    house.upstream.gate.set()
    (done,) = await house.gateway.wait(order)
    assert done.state is JobState.FAILED
    assert await house.audit() == []
