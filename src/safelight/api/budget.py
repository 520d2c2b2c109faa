"""How many bytes of JSON bodies this process holds at one time.

Owns the count and the waiting for room. A body's text and the strings in it live in memory until
its pictures are staged; without a bound, a few callers with large bodies fill the machine. Knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from safelight.errors import Unavailable

FREE_BYTES = 64 * 1024
"""What each body may have for nothing: ordinary orders never wait behind large uploads."""


class ByteBudget:
    """Bytes that may be held at one time, in one event loop.

    Args:
        limit: bytes.
        patience_s: how long a body waits for room before it is refused, seconds.
    """

    def __init__(self, limit: int, *, patience_s: float) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._held = 0
        self._freed = asyncio.Event()

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
        try:
            async with asyncio.timeout(self._patience_s):
                while self._held + count > self._limit:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise Unavailable(
                "The gateway is reading as many large requests as it may; send the request again, "
                "or send pictures as files of a form.",
                code="too_many_bytes_in_flight",
                retry_after_s=2,
                should_retry=True,
            ) from None
        self._held += count

    def give(self, count: int) -> None:
        """Give `count` bytes back."""
        self._held -= count
        self._freed.set()


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
