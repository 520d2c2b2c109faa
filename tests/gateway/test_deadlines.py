"""A caller's deadline bounds its jobs; its patience bounds only its wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.house import VIP, House, account
from safelight.clock import ManualClock
from safelight.errors import DeadlineExceeded
from safelight.gateway import Gateway
from safelight.gateway.orders import Caller, Order
from safelight.types import ImageRequest, JobState, Operation


async def submit(
    house: House,
    *,
    deadline_at: int | None = None,
    retry_count: int = 0,
    key: str | None = None,
    channel: str = VIP,
    n: int = 1,
) -> Order:
    request = ImageRequest(
        operation=Operation.GENERATION, prompt="a lamp", channel=channel, size="1024x1024", n=n
    )
    caller = Caller(
        customer_id="cus_1",
        key_id="key_1",
        route="/v1/images/generations",
        retry_count=retry_count,
        idempotency_key=key,
        patience_s=2.0,
        deadline_at=deadline_at,
    )
    return await house.gateway.submit(request, caller, given=frozenset({"prompt"}))


async def leave_in_time(gateway: Gateway, order: Order) -> DeadlineExceeded:
    """Wait as the HTTP skin does for a caller without any patience; return what it is told."""
    async with gateway.attached(order):
        with pytest.raises(DeadlineExceeded) as told:
            await gateway.wait(order, timeout_s=0)
    return told.value


async def test_a_deadline_bounds_the_job_within_the_channels_cap(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    now = clock.now_ms()
    for wished, expected in ((None, 300_000), (30_000, 30_000), (10**15, 300_000)):
        order = await submit(house, deadline_at=None if wished is None else now + wished)
        (job,) = await house.gateway.wait(order)
        assert job.deadline_at == now + expected
    await house.close()


async def test_a_job_ends_free_at_its_callers_deadline(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, accounts=(account("a", max_in_flight=1),)).open()
    house.upstream.gate.clear()
    other = await submit(house)
    await house.upstream.called.wait()
    order = await submit(house, deadline_at=clock.now_ms() + 30_000)
    clock.advance(31)
    house.upstream.gate.set()
    await house.gateway.wait(other)
    (job,) = await house.gateway.wait(order)
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (503, "deadline_exceeded")
    balance = await house.balance()
    assert (balance.posted_micros, balance.held_micros) == (970_000, 0)
    assert len(house.upstream.calls) == 1
    await house.close()


async def test_a_deadline_is_no_part_of_what_is_ordered(house: House) -> None:
    house.upstream.gate.clear()
    now = house.clock.now_ms()
    first = await submit(house, key="one", deadline_at=now + 60_000)
    again = await submit(house, key="one", deadline_at=now + 90_000)
    assert again.request_id == first.request_id
    assert again.jobs[0].deadline_at == now + 60_000
    house.upstream.gate.set()


async def test_the_retry_of_a_caller_who_was_answered_in_time_joins_its_order(
    house: House,
) -> None:
    house.upstream.gate.clear()
    first = await submit(house)
    told = await leave_in_time(house.gateway, first)
    assert told.should_retry
    assert first.jobs[0].id in told.message
    second = await submit(house, retry_count=1)
    assert second.request_id == first.request_id
    await leave_in_time(house.gateway, second)
    house.upstream.gate.set()
    third = await submit(house, retry_count=2)
    async with house.gateway.attached(third) as attachment:
        (job,) = await house.gateway.wait(third, timeout_s=30)
        attachment.delivered()
    assert job.image is not None
    assert len(house.upstream.calls) == 1
    assert (await house.balance()).posted_micros == 970_000
    assert (await submit(house, retry_count=3)).request_id != first.request_id


async def test_an_order_that_ended_before_its_retry_came_is_collected(house: House) -> None:
    house.upstream.gate.clear()
    first = await submit(house, channel="gpt-image-2-all", n=3)
    await leave_in_time(house.gateway, first)
    house.upstream.gate.set()
    await house.gateway.wait(first)
    second = await submit(house, channel="gpt-image-2-all", n=3, retry_count=1)
    assert (second.request_id, second.replayed) == (first.request_id, True)
    # No wait at all is needed for what has ended.
    assert len(await house.gateway.wait(second, timeout_s=0)) == 3
    assert house.upstream.sold == 3


async def test_the_retry_is_asked_for_when_the_picture_is_expected(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    house.upstream.gate.clear()
    order = await submit(house)
    again = await leave_in_time(house.gateway, order)
    assert again.retry_after_s == 20  # nothing has been measured yet
    clock.advance(22.5)
    assert (await leave_in_time(house.gateway, order)).retry_after_s == 22.5
    retry = await submit(house, retry_count=1)
    # The next retry may be the SDK's last: it shall rather come late than too early.
    assert (await leave_in_time(house.gateway, retry)).retry_after_s == 45
    clock.advance(100)
    assert (await leave_in_time(house.gateway, retry)).retry_after_s == 60
    clock.advance(165)
    # At the deadline the order ends, one way or the other.
    assert (await leave_in_time(house.gateway, retry)).retry_after_s == 12.5
    house.upstream.gate.set()
    await house.gateway.wait(retry)
    await house.close()
