"""Many orders at once: bounds hold, nobody overtakes, what cannot fit is refused at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.house import House, account
from safelight.errors import Unavailable
from safelight.gateway.orders import Order
from safelight.types import JobState


async def test_the_first_orders_may_come_at_once(house: House) -> None:
    house.gateway._acceptance._min_free_bytes = 1
    done = await asyncio.gather(*(house.buy(f"lamp {i}") for i in range(8)))
    assert len({job.id for (job,) in done}) == 8


async def test_the_bound_of_jobs_in_flight_holds_for_orders_that_come_together(
    house: House,
) -> None:
    house.upstream.gate.clear()
    house.gateway._room.limit = 10
    results = await asyncio.gather(
        *(house.submit(f"lamp {i}") for i in range(30)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert (house.gateway.running, len(refused)) == (10, 20)
    assert {error.code for error in refused} == {"too_many_in_flight"}
    assert (await house.balance()).held_micros == 10 * 30_000
    house.upstream.gate.set()
    for order in results:
        if isinstance(order, Order):
            await house.gateway.wait(order)
    await asyncio.sleep(0)
    assert (await house.buy("the next"))[0].state is JobState.COMPLETED


async def test_jobs_that_wait_for_an_account_are_served_in_the_order_of_their_coming(
    tmp_path: Path,
) -> None:
    house = await House(tmp_path, accounts=(account("a", max_in_flight=1),)).open()
    orders = [await house.submit(f"lamp {i}") for i in range(12)]
    for order in orders:
        await house.gateway.wait(order)
    prompts = [call.prompt for _, call in house.upstream.calls]
    assert prompts == [f"lamp {i}" for i in range(12)]
    await house.close()


async def test_a_backlog_that_cannot_fit_is_refused_at_once_not_at_its_deadline(
    tmp_path: Path,
) -> None:
    house = await House(tmp_path, accounts=(account("a", images_per_minute=5),)).open()
    orders = [await house.submit(f"lamp {i}") for i in range(40)]
    # A picture every 12 s within 300 s: about 25 fit, and the others hear so now.
    refused = [
        done
        for order in orders[30:]
        for done in await asyncio.wait_for(house.gateway.wait(order), 5)
    ]
    assert {job.failure.status for job in refused if job.failure} == {429}
    assert all(job.state is JobState.FAILED for job in refused)
    assert all(1 <= (job.failure.retry_after_s or 0) <= 120 for job in refused if job.failure)
    await house.close(0)
