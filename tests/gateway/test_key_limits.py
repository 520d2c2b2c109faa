"""How fast a key may ask: requests a minute and jobs in flight, with a true time to come again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House
from gateway.shop import open_houses
from safelight import customers
from safelight.clock import ManualClock
from safelight.config import LimitsConfig
from safelight.errors import InvalidValue, RateLimited
from safelight.gateway.orders import Order
from safelight.types import JobState, LimitChange

ALL = "gpt-image-2-all"
NONE_MEASURED_S = 20.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def slow(tmp_path: Path, clock: ManualClock) -> AsyncIterator[House]:
    """A gateway whose keys may send three requests a minute."""
    house = await House(tmp_path, clock=clock, limits=LimitsConfig(requests_per_minute=3)).open()
    yield house
    await house.close()


@pytest.fixture
async def narrow(tmp_path: Path, clock: ManualClock) -> AsyncIterator[House]:
    """A gateway whose keys may have three jobs in flight, and whose upstream holds its answers."""
    house = await House(tmp_path, clock=clock, limits=LimitsConfig(max_in_flight=3)).open()
    house.upstream.gate.clear()
    yield house
    house.upstream.gate.set()
    await house.close()


async def limit(house: House, change: LimitChange) -> None:
    await house.db.write(lambda tx: customers.change_limits(tx, "key_1", change))


async def requests(house: House) -> int:
    rows = await house.db.read(lambda tx: tx.all("SELECT id FROM request"))
    return len(rows)


async def refusal(house: House, **order: object) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await house.submit("one more", **order)  # type: ignore[arg-type]
    return caught.value


async def test_the_time_to_come_again_is_when_the_oldest_request_leaves_the_minute(
    slow: House, clock: ManualClock
) -> None:
    await slow.submit("first")
    clock.advance(20)
    await slow.submit("second")
    await slow.submit("third")
    clock.advance(10)
    refused = await refusal(slow)
    assert (refused.status, refused.code, refused.type) == (429, "rate_limit_exceeded", "requests")
    assert (refused.should_retry, refused.retry_after_s) == (True, 30)
    clock.advance(29.999)
    await refusal(slow)
    clock.advance(0.001)
    await slow.submit("fourth")
    # Two of the last minute are younger by 20 s: they are what the next one waits for.
    assert (await refusal(slow)).retry_after_s == 20


async def test_a_refused_request_writes_nothing_and_is_not_counted(
    slow: House, clock: ManualClock
) -> None:
    for number in range(3):
        await slow.buy(f"lamp {number}")
    before = await slow.balance()
    for _ in range(5):
        await refusal(slow, key="again")
    assert (await requests(slow), await slow.balance()) == (3, before)
    clock.advance(60)
    assert (await slow.buy("lamp 4", key="again"))[0].state is JobState.COMPLETED


async def test_answers_tell_what_is_left_of_the_minute(slow: House, clock: ManualClock) -> None:
    told = []
    for number in range(3):
        (notice,) = (await slow.submit(f"lamp {number}")).limits
        told.append((notice.unit, notice.limit, notice.remaining, notice.reset_s))
        clock.advance(1)
    assert told == [("requests", 3, left, 60) for left in (2, 1, 0)]
    (notice,) = (await refusal(slow)).limits
    assert (notice.limit, notice.remaining, notice.reset_s) == (3, 0, 59)


async def test_a_retry_that_joins_is_neither_counted_nor_refused(slow: House) -> None:
    first = await slow.submit("a lamp", key="k")
    await slow.submit("a chair")
    await slow.submit("a table")
    again = await slow.submit("a lamp", key="k")
    assert (again.request_id, again.joined, again.limits) == (first.request_id, True, ())
    await refusal(slow, key="other")
    assert (await slow.submit("a lamp", key="k")).joined


async def test_an_sdk_retry_that_joins_is_not_refused(slow: House) -> None:
    order = await slow.submit("a lamp")
    async with slow.gateway.attached(order):
        pass
    await slow.submit("a chair")
    await slow.submit("a table")
    again = await slow.submit("a lamp", retry_count=1)
    assert (again.request_id, again.joined) == (order.request_id, True)


async def test_a_keys_own_limit_stands_above_the_configuration(slow: House) -> None:
    await limit(slow, LimitChange(requests_per_minute=1))
    await slow.submit("first")
    assert "1 request a minute" in (await refusal(slow)).message
    await limit(slow, LimitChange(requests_per_minute=0))
    for number in range(9):
        assert (await slow.submit(f"lamp {number}")).limits == ()
    await limit(slow, LimitChange(requests_per_minute=None))
    assert "3 requests a minute" in (await refusal(slow)).message


async def test_requests_of_a_clock_that_was_set_back_do_not_lock_a_key_out(
    slow: House, clock: ManualClock
) -> None:
    clock.advance(7200)
    for number in range(3):
        await slow.submit(f"lamp {number}")
    clock.advance(-7200)
    await slow.submit("a lamp in the past")


async def test_three_pictures_are_one_request_and_three_in_flight(narrow: House) -> None:
    await limit(narrow, LimitChange(requests_per_minute=2, max_in_flight=4))
    await narrow.submit("lamps", channel=ALL, n=3)
    refused = await refusal(narrow, channel=ALL, n=2)
    assert "as many pictures in flight as it may (4)" in refused.message
    order = await narrow.submit("a lamp")
    assert [notice.remaining for notice in order.limits] == [0]


async def test_more_pictures_than_may_ever_be_in_flight_are_the_callers_mistake(
    narrow: House,
) -> None:
    with pytest.raises(InvalidValue) as caught:
        await narrow.submit("lamps", channel=ALL, n=4)
    assert (caught.value.status, caught.value.param) == (400, "n")


async def test_a_full_key_hears_when_the_first_of_its_jobs_will_have_ended(
    narrow: House, clock: ManualClock
) -> None:
    orders = [await narrow.submit(f"lamp {number}") for number in range(2)]
    clock.advance(30)
    orders.append(await narrow.submit("lamp 3"))
    refused = await refusal(narrow)
    # Nothing has been measured: a young job takes a first guess, an old one its age once more.
    assert (refused.retry_after_s, refused.should_retry) == (NONE_MEASURED_S, True)
    refused = await refusal(narrow, channel=ALL, n=2)
    assert refused.retry_after_s == 30
    assert (await requests(narrow), (await narrow.balance()).held_micros) == (3, 90_000)
    narrow.upstream.gate.set()
    for order in orders:
        await narrow.gateway.wait(order)
    assert (await narrow.buy("now there is room"))[0].state is JobState.COMPLETED


async def test_a_job_at_its_deadline_is_not_waited_for_longer(
    narrow: House, clock: ManualClock
) -> None:
    for number in range(3):
        await narrow.submit(f"lamp {number}")
    clock.advance(295)
    assert (await refusal(narrow)).retry_after_s == 5
    clock.advance(4.9)
    assert (await refusal(narrow)).retry_after_s == 1


async def test_one_order_that_comes_twenty_times_at_once_is_joined_not_refused(
    database_url: str, tmp_path: Path
) -> None:
    """The limits and the money are for one; who is overtaken by his own twin must not hear 429."""
    limits = LimitsConfig(requests_per_minute=1, max_in_flight=1)
    async with open_houses(database_url, tmp_path, 2, credit=30_000, limits=limits) as houses:
        orders = await asyncio.gather(
            *(house.submit("a lamp", key="k") for _ in range(10) for house in houses)
        )
        assert len({order.request_id for order in orders}) == 1
        assert sum(not order.joined for order in orders) == 1


@pytest.mark.parametrize(
    "limits", [LimitsConfig(requests_per_minute=7), LimitsConfig(max_in_flight=7)]
)
async def test_limits_hold_over_processes_for_requests_that_come_together(
    limits: LimitsConfig, database_url: str, tmp_path: Path
) -> None:
    async with open_houses(database_url, tmp_path, 2, credit=3_000_000, limits=limits) as houses:
        for house in houses:
            house.upstream.gate.clear()
        results = await asyncio.gather(
            *(house.submit(f"lamp {number}") for number in range(20) for house in houses),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Order) for result in results) == 7
        assert sum(isinstance(result, RateLimited) for result in results) == 33
        assert (await houses[0].balance()).held_micros == 7 * 30_000
        for house in houses:
            house.upstream.gate.set()
