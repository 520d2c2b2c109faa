"""The rest of a plain body, taken straight from its connection.

Owns the connection's reading side from the moment aiohttp has nothing of the body left until its
last byte has come; then the connection is aiohttp's again, and can be used for the next request.
Knows no HTTP but that a body of stated length is that many bytes (RFC 9112, section 6.2), and
nothing of what they mean.

Through aiohttp each byte is copied twice before anybody has looked at it, and each piece wakes a
task that sets two timers. Here the kernel writes into one buffer, whoever takes the bytes looks at
them where they lie, and nobody is woken before the end. Figures: docs/performance.md.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import aiohttp

BUFFER_BYTES: Final = 512 * 1024
"""What is read at once, in one buffer for all answers of an event loop: whoever takes a piece is
done with it before the next one is read."""
SHORT_BYTES: Final = 64 * 1024
"""Of so little it is not worth it."""

Take = Callable[[memoryview], bool]
"""Takes the next bytes, which are overwritten afterwards; False: they were not taken."""


class Inflow(asyncio.BufferedProtocol):
    """Reads what is left of one body.

    Args:
        response: whose headers have come, and of whose body nothing is unread.
        left: bytes of the body that are still to come.
        buffer: where they are read to.
        take: given each piece, until it refuses one; what it has not taken is kept for `read`.
        came: told of each piece's length; may raise what ends the answer. False: no more for now.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        left: int,
        buffer: memoryview,
        take: Take,
        came: Callable[[int], bool],
    ) -> None:
        connection = response.connection
        assert connection is not None
        assert connection.protocol is not None
        assert connection.transport is not None
        self.left = left
        self.taken = 0
        """Bytes that were taken."""
        self._content = response.content
        self._owner = connection.protocol
        self._transport = connection.transport
        self._buffer = buffer
        self._take: Take | None = take
        self._came = came
        self._kept = b""
        self._paused = False
        self._failure: BaseException | None = None
        self._news: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.at = self._loop.time()
        """When bytes came last, by the event loop's time in seconds."""
        self._hand_over(self)

    @property
    def over(self) -> bool:
        """Whether nothing more will be taken."""
        return self._take is None or not self.left or self._failure is not None

    @property
    def paused(self) -> bool:
        """Whether `came` has asked to wait; `go_on` ends that."""
        return self._paused and not self.over

    def go_on(self) -> None:
        """Read on."""
        self._paused = False
        if self.left and not self._transport.is_closing():
            self._transport.resume_reading()

    async def news(self) -> None:
        """Return when it is over or paused.

        Raises:
            Exception: what `take` or `came` raised, or why the connection broke.
        """
        if not self.over and not self.paused:
            self._news = self._loop.create_future()
            try:
                await self._news
            finally:
                self._news = None
        if self._failure is not None:
            raise self._failure

    async def read(self) -> bytes:
        """Return bytes that nobody has taken; b"" at the end of the body.

        Raises:
            Exception: as `news`.
        """
        self._take = None
        while not self._kept and self.left:
            if self._failure is not None:
                raise self._failure
            self.go_on()
            self._news = self._loop.create_future()
            try:
                await self._news
            finally:
                self._news = None
        kept, self._kept = self._kept, b""
        return kept

    # --- told by the connection ------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Say where the next bytes go: no more than this body has left."""
        return self._buffer[: self.left] if self.left < len(self._buffer) else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take a piece."""
        self.left -= nbytes
        self.at = self._loop.time()
        piece = self._buffer[:nbytes]
        try:
            more = self._came(nbytes)
            if self._take is not None and self._take(piece):
                self.taken += nbytes
            else:
                self._take = None
                self._kept += piece
                more = False
        except Exception as error:  # noqa: BLE001  (raised anew where the answer is awaited)
            self._failure = error
            self._transport.abort()
            self._wake()
            return
        if not self.left:
            self._give_back()
        elif not more:
            self._paused = True
            self._transport.pause_reading()
        if not self.left or not more:
            self._wake()

    def eof_received(self) -> None:
        """Let the connection close: `connection_lost` says what that means."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more comes, and tell the connection's owner."""
        if self._failure is None:
            self._failure = exc or aiohttp.ClientPayloadError("the body was cut short")
        self._wake()
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on: the request's body may still be on its way."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        self._owner.resume_writing()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _give_back(self) -> None:
        self._take = None  # uvloop holds on to us until the next large reply of this connection
        self._hand_over(self._owner)
        self._content.feed_eof()  # it is whole: aiohttp may use the connection again

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        # How a connection reads is settled when it begins to, so it has to begin anew.
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        if not self._transport.is_closing():
            self._transport.resume_reading()


def possible(response: aiohttp.ClientResponse) -> bool:
    """Return whether the rest of a body can be taken by an `Inflow`.

    Nothing of it may be unread in aiohttp. Where reads are under way while nobody looks (Windows),
    one buffer cannot serve many.
    """
    connection = response.connection
    return (
        sys.platform != "win32"
        and connection is not None
        and connection.protocol is not None
        and connection.transport is not None
        and not connection.transport.is_closing()
        # Set while its parser may hold bytes that came before the connection was paused.
        and not getattr(connection.protocol, "_reading_paused", True)
    )
