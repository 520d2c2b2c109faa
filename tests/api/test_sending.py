"""The memory that answers may take together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from safelight.api.budget import ByteBudget
from safelight.api.sending import SMALL_BYTES, SendingRoom
from safelight.errors import Unavailable
from safelight.storage import CHUNK_BYTES

MB = 1024 * 1024


async def test_answers_are_written_in_large_pieces_while_there_is_room() -> None:
    """Beyond a third of the memory others go on in small ones, and nobody is held up."""
    room = SendingRoom(12 * MB, patience_s=0)
    async with AsyncExitStack() as answers:
        pieces = [await answers.enter_async_context(room.place(2 * MB)) for _ in range(4)]
        assert pieces == [CHUNK_BYTES] * 4
        slow = asyncio.create_task(answers.enter_async_context(room.place(2 * MB)))
        async with asyncio.timeout(10):
            assert await slow == SMALL_BYTES
    assert room.held == 0


async def test_short_answers_take_what_they_are_long() -> None:
    """Five thousand of 1 KB are written side by side."""
    room = SendingRoom(24 * MB, patience_s=0)
    async with AsyncExitStack() as answers:
        for _ in range(5000):
            await answers.enter_async_context(room.place(1024))
        assert room.held == 5000 * 1024
    assert room.held == 0


async def test_an_answer_without_room_is_refused_before_it_begins() -> None:
    """It may be asked for again; one that has begun waits until there is room."""
    room = SendingRoom(1, patience_s=0)  # room for one answer in small pieces
    async with AsyncExitStack() as first:
        await first.enter_async_context(room.place(100 * 1024))
        with pytest.raises(Unavailable) as refused:
            async with room.place(100 * 1024):
                pass
        begun = asyncio.create_task(_place(room))
        await asyncio.sleep(0)
        assert not begun.done()
    assert await begun == SMALL_BYTES
    assert room.held == 0
    assert (refused.value.status, refused.value.code) == (503, "too_many_bytes_in_flight")
    assert refused.value.should_retry
    assert refused.value.retry_after_s


async def _place(room: SendingRoom) -> int:
    async with room.place(100 * 1024, begun=True) as piece:
        return piece


async def test_room_is_given_in_the_order_of_asking() -> None:
    """A small wish does not overtake a large one, and who gives up leaves no gap."""
    budget = ByteBudget(100, patience_s=60)
    await budget.take(90)
    order: list[str] = []

    async def ask(name: str, count: int) -> None:
        await budget.take(count)
        order.append(name)

    large = asyncio.create_task(ask("large", 80))
    gone = asyncio.create_task(ask("gone", 20))
    small = asyncio.create_task(ask("small", 10))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert order == []
    budget.give(90)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]
    assert budget.held == 90
