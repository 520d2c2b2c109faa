"""uvicorn as this gateway runs it: its settings, and the deadlines and limits that it lacks.

Owns the receipt of request heads: uvicorn waits for them for ever, reads them however long they
are, and answers a malformed one in plain text. Also cuts callers that stop reading. WebSockets'
limits are `socket_server`'s, the serve loop is `app`'s. Thousands of callers wait for pictures, so
what uvicorn keeps for each is made smaller where it lets us (docs/performance.md, "Memory").
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from safelight.api.exchange import CONNECTION
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


_NAMES = {
    name: name
    for name in (
        b"accept",
        b"accept-encoding",
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"user-agent",
        b"x-stainless-arch",
        b"x-stainless-async",
        b"x-stainless-lang",
        b"x-stainless-os",
        b"x-stainless-package-version",
        b"x-stainless-read-timeout",
        b"x-stainless-retry-count",
        b"x-stainless-runtime",
        b"x-stainless-runtime-version",
    )
}
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class _Refused(Exception):
    """The request was answered while its head was parsed."""


class _Signal:
    """What uvicorn needs of an asyncio.Event: one waits at a time, so there is no queue of them.

    An empty deque takes 760 bytes, and each of three in a connection does.
    """

    __slots__ = ("_set", "_woken")

    def __init__(self, *, is_set: bool = False) -> None:
        self._set = is_set
        self._woken: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> bool:
        if not self._set:
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            finally:
                self._woken = None
        return True


class _Flow(FlowControl):
    """uvicorn's, with a lean event."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = _Signal(is_set=True)  # type: ignore[assignment]


class _Pipeline(list[Any]):
    """What uvicorn needs of a deque: requests that came before the one before was answered."""

    __slots__ = ()

    def appendleft(self, one: Any) -> None:
        self.insert(0, one)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for heads, a cap on them, and one for stalled writes.

    It also tells who waits for nothing else that the caller hung up (`exchange.Connection`).
    """

    # Not in the instance's dictionary: with more than 30 names in it, it is a hash table of 1.2 KB.
    __slots__ = ("_head_bytes", "_head_timer", "_in_head", "_lost", "_on_lost", "_stall_timer")

    header_timeout_s = 10.0
    write_stall_s = WRITE_STALL_S

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._lost = False
        self._on_lost: Callable[[], None] | None = None
        self.pipeline = _Pipeline()  # type: ignore[assignment]

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Have `on_lost` called when the caller hangs up; at once if it has."""
        if self._lost:
            on_lost()
            return
        if not (self._in_head or self._head_bytes or self.pipeline or self.cycle.more_body):
            # Between two requests it has nothing in it, and it takes 0.8 KB.
            self.parser = None  # type: ignore[assignment]
        self.flow.resume_reading()  # else a closed connection is not noticed
        self._on_lost = on_lost

    def unwatch(self) -> None:
        """Call nobody any more."""
        self._on_lost = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head; whatever comes between two requests begins the next."""
        parser: object = self.parser
        if parser is None:
            self.parser = _parser(self)
        if not self._answering() and self._head_timer is None:
            self._await_head()
        if self._in_head or not self._answering():
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(_too_long())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the names that everybody sends are not kept for each of thousands."""
        super().on_header(name, value)
        name, value = self.headers[-1]
        self.headers[-1] = (_NAMES.get(name, name), value)

    def on_message_begin(self) -> None:
        """Note that a head has begun; it may do so behind a request that is being answered."""
        self._in_head = True
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["asgi"] = _ASGI
        scope[CONNECTION] = self

    def on_headers_complete(self) -> None:
        """Stop the deadline and hand the request over, unless its head came too quickly to cap."""
        length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if length > HEAD_MAX_BYTES:
            self._refuse(_too_long())
            raise _Refused  # through the parser, which stops reading
        self._in_head = False
        self._head_bytes = 0
        self._cancel_head_timer()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            # Nobody has waited for it yet: what answers begins in a later turn of the loop.
            self.cycle.message_event = _Signal()  # type: ignore[assignment]

    def on_response_complete(self) -> None:
        """Go on with the next request; the rest of its head has its deadline from now."""
        super().on_response_complete()
        if self._in_head and self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all deadlines, and tell who waits."""
        self._cancel_head_timer()
        self._cancel_stall_timer()
        self._lost = True
        super().connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost()

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


def _parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """Return a parser as uvicorn makes it."""
    parser = httptools.HttpRequestParser(protocol)
    with contextlib.suppress(AttributeError):  # httptools before 0.6.3
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


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
        __slots__ = ()
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
