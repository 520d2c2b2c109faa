"""uvicorn's WebSockets as this gateway runs them: the limits that they lack.

Owns what a client may cost that does not read: answers to its pings are written whether or not it
takes them in, and a stalled connection stands for ever. What is told over a socket is `sockets`'.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from safelight.api.problems import whole_answer
from safelight.errors import InvalidRequest

MESSAGE_MAX_BYTES = 4096
"""Largest message of a client, which is thrown away anyhow; a larger one closes with 1009."""
PING_S = 20.0
"""How often a silent client is asked whether it lives, and how long it may take to answer."""
UNREAD_MAX_PINGS = 1000
"""A client that pings so often while it leaves what was written unread means harm."""


class GuardedSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol with a deadline for stalled writes and a cap on answers to pings."""

    write_stall_s = 60.0
    _stall_timer: asyncio.TimerHandle | None = None
    _unread = 0  # pings that came while nothing could be written

    def pause_writing(self) -> None:
        """Give the client a while to read what was written."""
        super().pause_writing()
        self._cancel_stall_timer()
        self._stall_timer = self.loop.call_later(self.write_stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        self._cancel_stall_timer()
        super().resume_writing()

    def handle_connect(self, event: Request) -> None:
        """Begin, or refuse a handshake that breaks the rules in the form of every error."""
        if self.conn.accept(event).status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            super().handle_connect(event)
            return
        self.handshake_complete = self.close_sent = True
        refusal = InvalidRequest("This is no valid WebSocket handshake.", code="invalid_http")
        self.transport.write(whole_answer(refusal))
        self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a handshake that was refused to its end is over (uvicorn logs it as our error)."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def handle_ping(self) -> None:
        """Answer, unless the client leaves the answers unread while a message waits."""
        super().handle_ping()
        if not self.writable.is_set():
            self._unread += 1
            if self._unread > UNREAD_MAX_PINGS:
                self.transport.abort()
        else:
            self._unread = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
