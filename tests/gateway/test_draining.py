"""A drain waits for jobs that are being leased to the process at that very moment."""

from __future__ import annotations

import asyncio
import threading

from gateway.house import House, until
from safelight.db import Transaction
from safelight.gateway.orders import Queued
from safelight.types import JobState


async def test_a_job_that_is_being_taken_when_the_drain_begins_is_brought_to_its_end(
    house: House,
) -> None:
    """Else it would be leased to a process that is gone, and another would buy it again."""
    order = await house.submit(queued=Queued())
    busy, go_on = threading.Event(), threading.Event()

    def hold(_tx: Transaction) -> None:
        busy.set()
        go_on.wait(10)

    writer = asyncio.create_task(house.db.write(hold))
    await asyncio.to_thread(busy.wait, 10)
    run = asyncio.create_task(house.queueing.run(order.jobs[0].id))
    await until(lambda: bool(house.gateway.draining._coming))
    drain = asyncio.create_task(house.gateway.drain(10))
    await asyncio.sleep(0)
    go_on.set()
    assert await drain == 0
    assert (await house.job(order)).state is JobState.COMPLETED
    assert house.upstream.sold == 1
    await asyncio.gather(writer, run)


async def test_a_draining_process_takes_no_queued_job(house: House) -> None:
    order = await house.submit(queued=Queued())
    run = asyncio.create_task(house.queueing.run(order.jobs[0].id))
    # It has looked at the row, perhaps, and not taken it.
    assert await house.gateway.drain(10) == 0
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert (await house.job(order)).state is JobState.QUEUED
    assert house.upstream.sold == 0


async def test_a_drain_waits_no_longer_than_it_may_for_what_is_coming(house: House) -> None:
    with house.gateway.draining.coming():
        assert await house.gateway.drain(0.01) == 0
