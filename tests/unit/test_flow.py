"""Which answers of upstreams flow at the same time."""

from __future__ import annotations

import asyncio
from typing import cast

from safelight.upstreams.flow import Flow, Lane


class Connection:
    """A connection that notes whether it is read."""

    def __init__(self) -> None:
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False


def answer(lane: Lane, length: int | None = None) -> tuple[Flow, Connection]:
    connection = Connection()
    return lane.flow(cast("asyncio.Transport", connection), length), connection


async def test_who_comes_later_waits_with_the_connection_paused() -> None:
    """The place of an answer that ends goes to the first in line."""
    lane = Lane(1, patience_s=60)
    first, _ = answer(lane)
    await first.ahead()
    second, paused = answer(lane)
    waiting = asyncio.create_task(second.ahead())
    await asyncio.sleep(0)
    assert (waiting.done(), paused.reading) == (False, False)
    await first.ahead()  # it has its place
    first.leave()
    await waiting
    assert paused.reading


async def test_an_answer_that_stands_still_gives_its_place_away() -> None:
    """A slow upstream does not hold the others up."""
    lane = Lane(1, patience_s=60)
    still, _ = answer(lane)
    await still.ahead()
    still.begin()
    other, _ = answer(lane)
    async with asyncio.timeout(10):
        await other.ahead()
    still.end()
    still.leave()
    other.leave()


async def test_nobody_waits_longer_than_the_patience() -> None:
    """Then an answer flows beside the others, for good."""
    lane = Lane(1, patience_s=0.001)
    first, _ = answer(lane)
    await first.ahead()
    second, connection = answer(lane)
    async with asyncio.timeout(10):
        await second.ahead()
    assert connection.reading
    second.leave()  # gives back nothing that it has not
    third, _ = answer(Lane(1, patience_s=60))
    await third.ahead()


async def test_small_answers_never_wait() -> None:
    """Errors and thumbnails pass by."""
    lane = Lane(1, patience_s=60)
    first, _ = answer(lane)
    await first.ahead()
    small, connection = answer(lane, 1000)
    async with asyncio.timeout(1):
        await small.ahead()
    assert connection.reading


async def test_who_is_cancelled_in_line_takes_no_place() -> None:
    """The place is there for the next one."""
    lane = Lane(1, patience_s=60)
    first, _ = answer(lane)
    await first.ahead()
    second, connection = answer(lane)
    waiting = asyncio.create_task(second.ahead())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert connection.reading
    first.leave()
    third, _ = answer(lane)
    async with asyncio.timeout(1):
        await third.ahead()
