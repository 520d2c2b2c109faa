"""How many bytes this process holds at one time for requests that it reads.

Owns the count and the line of those who wait for room. A JSON body's text and the strings in it
live in memory until its pictures are staged; without a bound, a few callers with large bodies fill
the machine. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from safelight.errors import Unavailable

FREE_BYTES = 64 * 1024
"""What each body may have for nothing: ordinary orders never wait behind large uploads."""


class ByteBudget:
    """Bytes that may be held at one time, in one event loop; who comes first has room first.

    Args:
        limit: bytes.
        patience_s: how long a body waits for room before it is refused, seconds.
    """

    def __init__(self, limit: int, *, patience_s: float) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._held = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def hold(self) -> Holding:
        """Return what one body holds: nothing yet. Leaving it as a context gives all back."""
        return Holding(self)

    async def take(self, count: int) -> None:
        """Take `count` bytes, waiting for others to give some back.

        Raises:
            Unavailable: `too_many_bytes_in_flight`: there was no room in time.
        """
        if not await self.taken(count, within_s=self._patience_s):
            raise Unavailable(
                "The gateway is reading as many large requests as it may; send the request again, "
                "or send pictures as files of a form.",
                code="too_many_bytes_in_flight",
                retry_after_s=2,
                should_retry=True,
            )

    async def taken(self, count: int, *, within_s: float | None) -> bool:
        """Take `count` bytes, or return False when there was no room for them in time.

        Args:
            count: bytes.
            within_s: seconds to wait for room; None: for as long as it takes.
        """
        if not self._line and self._held + count <= self._limit:
            self._held += count
            return True
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((count, place))
        try:
            async with asyncio.timeout(within_s):
                await place
        except TimeoutError:
            return not self._left(place)
        except asyncio.CancelledError:
            if not self._left(place):
                self.give(count)
            raise
        return True

    def _left(self, place: asyncio.Future[None]) -> bool:
        """Return whether a place was left before there was room; it may come in the same turn."""
        if place.cancelled():
            self._call_up()  # whoever stood behind may have room
        return place.cancelled()

    def give(self, count: int) -> None:
        """Give `count` bytes back."""
        self._held -= count
        self._call_up()

    def _call_up(self) -> None:
        """Give room to those in front, who have left the line if their future is done."""
        while self._line:
            count, place = self._line[0]
            if not place.done():
                if self._held + count > self._limit:
                    return
                self._held += count
                place.set_result(None)
            self._line.popleft()


class Holding:
    """The bytes that one body holds."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._taken = 0

    async def cover(self, size: int) -> None:
        """Hold enough for a body of `size` bytes.

        Raises:
            Unavailable: `ByteBudget.take`'s reason.
        """
        more = size - FREE_BYTES - self._taken
        if more > 0:
            await self._budget.take(more)
            self._taken += more

    def __enter__(self) -> Holding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.give(self._taken)
        self._taken = 0
