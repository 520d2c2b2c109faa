"""Which answers flow from upstreams at the same time: a few, in the order in which they came.

Owns the line. Many answers may arrive at one instant; if all were read side by side, each would
have its buffers full, and all would end late. So a few are read at full speed and the others wait
with their connections paused, their bytes in the kernel or still at the upstream. An answer that
stops flowing gives its place away, and nobody waits for long: a bound on memory in the usual case,
not a promise.
"""

from __future__ import annotations

import asyncio
import math

from safelight.upstreams.inflow import BUFFER_BYTES

SMALL_BYTES = 64 * 1024
"""Shorter answers never wait."""
PLACES = 16
PATIENCE_S = 10.0
"""After so long in the line an answer flows beside the others."""
STILL_S = 0.05
"""An answer of which nothing comes for so long gives its place away, seconds."""


class Lane:
    """At most `places` answers at a time, in one event loop."""

    def __init__(self, places: int = PLACES, *, patience_s: float = PATIENCE_S) -> None:
        self._places = asyncio.Semaphore(places)  # it wakes those who wait in their order
        self._patience_s = patience_s
        self._buffer: memoryview | None = None

    @property
    def buffer(self) -> memoryview:
        """What all answers of this lane are read to, one piece after another (`inflow`)."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        return self._buffer

    def flow(self, transport: asyncio.Transport | None, length: int | None) -> Flow:
        """Return the flow of one answer, which has no place yet.

        Args:
            transport: where it comes from; None: all of it is here already.
            length: of its body, if that is known.
        """
        return Flow(self, transport, free=length is not None and length <= SMALL_BYTES)

    async def enter(self, transport: asyncio.Transport) -> bool:
        """Take a place, with the connection paused meanwhile; False: there was none in time."""
        if not self._places.locked():
            return await self._places.acquire()
        transport.pause_reading()
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._places.acquire()
        except TimeoutError:
            return False
        finally:
            if not transport.is_closing():
                transport.resume_reading()

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()


class Flow:
    """One answer's part in a lane.

    `ahead` before each read but the first, `begin` and `end` around the wait for its bytes.
    """

    def __init__(self, lane: Lane, transport: asyncio.Transport | None, *, free: bool) -> None:
        self._lane = lane
        self._transport = transport
        self._free = free or transport is None
        self._placed = False
        self._still: asyncio.TimerHandle | None = None

    async def ahead(self) -> None:
        """Wait until more of this answer may be read."""
        if self._free or self._placed:
            return
        assert self._transport is not None
        self._placed = await self._lane.enter(self._transport)
        self._free = not self._placed

    @property
    def flows(self) -> bool:
        """Whether more of this answer may be read without waiting."""
        return self._free or self._placed

    def still_at(self, at: float) -> float:
        """Return when an answer of which something came then shall give its place away.

        Args:
            at: when bytes came last, by the event loop's time in seconds.
        """
        return at + STILL_S if self._placed else math.inf

    def begin(self) -> None:
        """Say that bytes are waited for."""
        if self._placed:
            self._still = asyncio.get_running_loop().call_later(STILL_S, self.leave)

    def end(self) -> None:
        """Say that bytes have come, or will not."""
        if self._still is not None:
            self._still.cancel()
            self._still = None

    def leave(self) -> None:
        """Give the place away."""
        self.end()
        if self._placed:
            self._placed = False
            self._lane.leave()
