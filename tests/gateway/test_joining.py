"""Retries join the order they repeat; equal orders that are no retries stay apart."""

from __future__ import annotations

import asyncio

import pytest

from gateway.house import House
from safelight.errors import FaultClass, IdempotencyKeyReused, UpstreamError
from safelight.gateway.orders import Order


async def leave(house: House, order: Order) -> None:
    """The caller of an order disconnects."""
    async with house.gateway.attached(order):
        pass


async def test_an_sdk_retry_joins_the_running_order_whose_caller_left(house: House) -> None:
    house.upstream.gate.clear()
    first = await house.submit()
    await leave(house, first)
    second = await house.submit(retry_count=1)
    assert (second.joined, second.request_id) == (True, first.request_id)
    house.upstream.gate.set()
    await house.gateway.wait(second)
    assert len(house.upstream.calls) == 1
    assert (await house.balance()).posted_micros == 970_000


async def test_an_sdk_retry_collects_what_was_finished_meanwhile(house: House) -> None:
    first = await house.submit()
    await leave(house, first)
    done = await house.gateway.wait(first)
    second = await house.submit(retry_count=1)
    assert second.replayed
    assert second.jobs == done


async def test_the_same_body_twice_without_a_retry_count_is_two_orders(house: House) -> None:
    first = await house.submit()
    await leave(house, first)
    second = await house.submit()
    assert second.request_id != first.request_id
    await house.gateway.wait(first)
    await house.gateway.wait(second)
    assert (await house.balance()).posted_micros == 940_000


async def test_a_delivered_order_is_not_given_to_a_later_retry(house: House) -> None:
    (done,) = await house.buy()
    again = await house.submit(retry_count=1)
    assert not again.joined
    assert again.request_id != done.request_id


async def test_another_body_is_never_joined(house: House) -> None:
    first = await house.submit("a lamp")
    await leave(house, first)
    assert not (await house.submit("a lamb", retry_count=1)).joined


async def test_of_many_equal_orders_each_retry_claims_its_own(house: House) -> None:
    house.upstream.gate.clear()
    orders = [await house.submit() for _ in range(10)]
    for order in orders:
        await leave(house, order)
    retries = await asyncio.gather(*(house.submit(retry_count=1) for _ in range(10)))
    assert {order.request_id for order in retries} == {order.request_id for order in orders}
    extra = await house.submit(retry_count=1)
    assert not extra.joined
    house.upstream.gate.set()


async def test_a_second_retry_joins_again_after_the_first_left(house: House) -> None:
    house.upstream.gate.clear()
    first = await house.submit()
    await leave(house, first)
    second = await house.submit(retry_count=1)
    await leave(house, second)
    third = await house.submit(retry_count=2)
    assert third.request_id == first.request_id
    house.upstream.gate.set()


async def test_a_late_disconnect_of_the_old_caller_does_not_detach_the_retry(
    house: House,
) -> None:
    house.upstream.gate.clear()
    first = await house.submit(patience_s=0)
    # The proxy in front kept the old connection, so the gateway has not seen it closing.
    second = await house.submit(retry_count=1)
    assert second.request_id == first.request_id
    await leave(house, first)
    row = await house.db.read(lambda tx: tx.one("SELECT attached_by FROM request"))
    assert row is not None
    assert row["attached_by"] == "test"
    house.upstream.gate.set()


async def test_a_disconnect_seen_during_the_grace_is_joined_at_once(house: House) -> None:
    house.upstream.gate.clear()
    first = await house.submit()
    retry = asyncio.create_task(house.submit(retry_count=1))
    await asyncio.sleep(0)
    # Writes are served in order: after this one the retry has looked, and waits.
    await house.db.write(lambda tx: tx.now_ms)
    assert not retry.done()
    await leave(house, first)
    assert (await retry).request_id == first.request_id
    house.upstream.gate.set()


async def test_an_order_that_failed_retryably_is_ordered_anew(house: House) -> None:
    house.upstream.steps = [UpstreamError(FaultClass.BAD_OUTPUT, "x", "x") for _ in range(4)]
    first = await house.submit()
    await leave(house, first)
    await house.gateway.wait(first)
    second = await house.submit(retry_count=1)
    assert not second.joined
    row = await house.db.read(
        lambda tx: tx.one("SELECT retry_of FROM request WHERE id = :id", {"id": second.request_id})
    )
    assert row is not None
    assert row["retry_of"] == first.request_id


async def test_a_refusal_is_replayed_not_bought_again(house: House) -> None:
    house.upstream.steps = [
        UpstreamError(FaultClass.CLIENT, "moderation_blocked", "no", final_status=400)
    ]
    first = await house.submit()
    await leave(house, first)
    await house.gateway.wait(first)
    second = await house.submit(retry_count=1)
    assert second.replayed
    assert len(house.upstream.calls) == 1


async def test_an_idempotency_key_joins_and_replays(house: House) -> None:
    house.upstream.gate.clear()
    first = await house.submit(key="k-1")
    running = await house.submit(key="k-1")
    assert (running.joined, running.replayed) == (True, False)
    house.upstream.gate.set()
    await house.gateway.wait(running)
    finished = await house.submit(key="k-1")
    assert finished.replayed
    assert first.request_id == running.request_id == finished.request_id
    assert len(house.upstream.calls) == 1


async def test_ten_equal_keys_at_once_are_one_order(house: House) -> None:
    orders = await asyncio.gather(*(house.submit(key="k-1") for _ in range(10)))
    assert len({order.request_id for order in orders}) == 1
    assert sum(not order.joined for order in orders) == 1


async def test_an_idempotency_key_with_another_body_is_refused(house: House) -> None:
    await house.submit("a lamp", key="k-1")
    with pytest.raises(IdempotencyKeyReused):
        await house.submit("a lamb", key="k-1")


async def test_a_retryable_failure_frees_its_idempotency_key(house: House) -> None:
    house.upstream.steps = [UpstreamError(FaultClass.BAD_OUTPUT, "x", "x") for _ in range(4)]
    first = await house.submit(key="k-1")
    await house.gateway.wait(first)
    second = await house.submit(key="k-1")
    assert not second.joined
    (job,) = await house.gateway.wait(second)
    assert job.image is not None


async def test_a_caller_who_may_still_wait_never_loses_its_order_to_a_strangers_retry(
    house: House,
) -> None:
    house.upstream.gate.clear()
    waiting = await house.submit(patience_s=600)
    # An equal order whose first try left no trace here (the connection was refused, say).
    stranger = await house.submit(retry_count=1)
    assert not stranger.joined
    assert stranger.request_id != waiting.request_id
    house.upstream.gate.set()


async def test_an_answered_failure_is_reordered_by_its_own_retry_not_by_taking_a_twin(
    house: House,
) -> None:
    house.upstream.steps = [UpstreamError(FaultClass.THROTTLED, "x", "x", retry_after_s=1)]
    failed = await house.submit(channel="gpt-image-2", quality="low")
    async with house.gateway.attached(failed) as attachment:
        await house.gateway.wait(failed)
        attachment.delivered()
    house.upstream.gate.clear()
    twin = await house.submit(channel="gpt-image-2", quality="low")
    again = await house.submit(channel="gpt-image-2", quality="low", retry_count=1)
    assert again.request_id not in (failed.request_id, twin.request_id)
    row = await house.db.read(
        lambda tx: tx.one("SELECT retry_of FROM request WHERE id = :id", {"id": again.request_id})
    )
    assert row is not None
    assert row["retry_of"] == failed.request_id
    # It is consumed: the next retry of equal body does not start from it again.
    third = await house.submit(channel="gpt-image-2", quality="low", retry_count=1)
    row = await house.db.read(
        lambda tx: tx.one("SELECT retry_of FROM request WHERE id = :id", {"id": third.request_id})
    )
    assert row is not None
    assert row["retry_of"] is None
    house.upstream.gate.set()


async def test_of_two_equal_orders_a_second_retry_takes_the_one_it_repeats(house: House) -> None:
    house.upstream.gate.clear()
    older = await house.submit()
    younger = await house.submit()
    await leave(house, older)
    await leave(house, younger)
    first = await house.submit(retry_count=1)
    await leave(house, first)
    # Its retry count is the next one: not the other order, whose caller has repeated nothing yet.
    second = await house.submit(retry_count=2)
    assert second.request_id == first.request_id
    other = await house.submit(retry_count=1)
    assert {other.request_id, second.request_id} == {older.request_id, younger.request_id}
    assert len(await house.db.read(lambda tx: tx.all("SELECT 1 FROM request"))) == 2
    house.upstream.gate.set()


async def test_a_failed_twin_does_not_switch_the_grace_off(house: House) -> None:
    house.upstream.steps = [UpstreamError(FaultClass.BAD_OUTPUT, "x", "x") for _ in range(4)]
    failed = await house.submit()
    await leave(house, failed)
    await house.gateway.wait(failed)
    house.upstream.gate.clear()
    own = await house.submit()
    retry = asyncio.create_task(house.submit(retry_count=1))
    await asyncio.sleep(0)
    await house.db.write(lambda tx: tx.now_ms)
    assert not retry.done()
    await leave(house, own)
    assert (await retry).request_id == own.request_id
    house.upstream.gate.set()


async def test_a_retry_joins_an_order_whose_caller_gave_up_though_retries_between_were_lost(
    house: House,
) -> None:
    house.upstream.gate.clear()
    first = await house.submit(patience_s=0.1)  # its connection still stands, as to a paused VM
    third = await house.submit(retry_count=3)
    house.upstream.gate.set()
    await house.gateway.wait(third)
    assert (third.joined, third.request_id) == (True, first.request_id)
    assert (await house.balance()).posted_micros == 970_000


async def test_a_join_needs_no_room(house: House) -> None:
    house.upstream.gate.clear()
    first = await house.submit()
    await leave(house, first)
    house.gateway._room.limit = 0
    house.gateway._acceptance._min_free_bytes = 2**62
    assert (await house.submit(retry_count=1)).request_id == first.request_id
    house.upstream.gate.set()
