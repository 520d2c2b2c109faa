"""uvicorn as this gateway runs it: its settings, and the deadlines and limits that it lacks.

Owns the receipt of request heads: uvicorn waits for them for ever, reads them however long they
are, and answers a malformed one in plain text. Also cuts callers that stop reading. WebSockets'
limits are `socket_server`'s, the serve loop is `app`'s.
"""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from safelight.api.problems import whole_answer
from safelight.api.socket_server import MESSAGE_MAX_BYTES, PING_S, GuardedSocket
from safelight.api.sockets import SOCKET_PATH
from safelight.config import Config
from safelight.errors import HeadTooLarge, InvalidRequest, RequestTimeout, SafelightError

KEEP_ALIVE_S = 75
BACKLOG = 4096
HEAD_MAX_BYTES = 64 * 1024
WRITE_STALL_S = 60.0
"""A caller that takes this long to empty one write buffer has stopped reading."""


class _Refused(Exception):
    """The request was answered while its head was parsed."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for heads, a cap on them, and one for stalled writes."""

    header_timeout_s = 10.0
    write_stall_s = WRITE_STALL_S

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; whatever comes between two requests begins the next."""
        if not self._answering() and self._head_timer is None:
            self._await_head()
        if self._in_head or not self._answering():
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(_too_long())

    def on_message_begin(self) -> None:
        """Note that a head has begun; it may do so behind a request that is being answered."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the deadline and hand the request over, unless its head came too quickly to cap."""
        length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if length > HEAD_MAX_BYTES:
            self._refuse(_too_long())
            raise _Refused  # through the parser, which stops reading
        self._in_head = False
        self._head_bytes = 0
        self._cancel_head_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request; the rest of its head has its deadline from now."""
        super().on_response_complete()
        if self._in_head and self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all deadlines."""
        self._cancel_head_timer()
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the caller a while to read what was written."""
        super().pause_writing()
        self._cancel_stall_timer()
        self._stall_timer = self.loop.call_later(self.write_stall_s, self._cut)

    def resume_writing(self) -> None:
        """The caller reads."""
        self._cancel_stall_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the form of every error (uvicorn: plain text)."""
        del msg
        self._refuse(InvalidRequest("This is no valid HTTP request.", code="invalid_http"))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: another upgrade is not heeded, and the request answered (RFC 9110, 7.8)."""

    def _should_upgrade(self) -> bool:
        """Return whether this is a WebSocket's handshake at a path where there is one.

        Anything else that asks for one is answered like any other request.
        """
        path = self.url.partition(b"?")[0].decode("latin-1")
        names = {name for name, _ in self.headers}
        return (
            self.parser.get_method() == b"GET"
            and SOCKET_PATH.fullmatch(path) is not None
            and b"sec-websocket-key" in names
            and super()._should_upgrade()
        )

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.header_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        if not (self._in_head or self._head_bytes):
            # An idle new connection: nothing was asked, so nothing is answered.
            self.transport.close()
            return
        self._refuse(RequestTimeout("The request's headers arrived too slowly."))

    def _refuse(self, error: SafelightError) -> None:
        self._cancel_head_timer()
        if self.transport.is_closing():
            return
        if not (self._answering() and self.cycle.response_started):
            self.transport.write(whole_answer(error))
        self.transport.close()

    def _cut(self) -> None:
        self.transport.abort()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _too_long() -> HeadTooLarge:
    return HeadTooLarge(f"The request's head is over {HEAD_MAX_BYTES} bytes.")


def uvicorn_config(
    app: ASGIApp, config: Config, *, stall_s: float = WRITE_STALL_S
) -> uvicorn.Config:
    """Return uvicorn's settings for `app`.

    Logging stays as the process has set it up, and forwarding headers are not believed: links take
    their origin from `server.public_url`.

    Args:
        app: what to serve.
        config: where to listen, and the deadlines.
        stall_s: how long a caller may leave a full write buffer unread, seconds.
    """

    class Protocol(GuardedProtocol):
        header_timeout_s = config.server.header_timeout_s
        write_stall_s = stall_s

    class Socket(GuardedSocket):
        write_stall_s = stall_s

    return uvicorn.Config(
        app,
        host=config.server.host,
        port=config.server.port,
        loop="uvloop",
        http=Protocol,
        ws=Socket,
        ws_max_size=MESSAGE_MAX_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        # What is told is short; inflating what clients send would be theirs to choose.
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(config.server.drain_s)),
    )
