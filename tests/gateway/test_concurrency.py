"""The first orders of a process arrive together."""

from __future__ import annotations

import asyncio

from gateway.house import House


async def test_the_first_orders_may_come_at_once(house: House) -> None:
    house.gateway._min_free_bytes = 1
    done = await asyncio.gather(*(house.buy(f"lamp {i}") for i in range(8)))
    assert len({job.id for (job,) in done}) == 8
