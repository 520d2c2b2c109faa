"""HTTP towards an upstream: sending, and reading an answer's bytes under timers.

Owns the aiohttp session, the translation of its exceptions into `UpstreamError`, and the timers of
a call. Parses no body. Rules of the failure catalogue that live here: U1-U5 and U21 (connect, TLS,
no answer, stall, cut, too large); what they are called is `wire_faults`' business. Redirects are
never followed, proxies of the environment never used, TLS always verified.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import aiohttp

from safelight.clock import Clock
from safelight.types import Account
from safelight.upstreams.flow import Lane
from safelight.upstreams.inflow import SHORT_BYTES, Inflow, Take, possible
from safelight.upstreams.pace import RateFloor
from safelight.upstreams.scrub import request_id
from safelight.upstreams.wire_faults import (
    disconnected,
    not_json,
    silent,
    stalled,
    timed_out,
    tls_failed,
    too_large,
    truncated,
    unreachable,
)
from safelight.waiting import Alarms, TimeLimit

Body = bytes | aiohttp.FormData | AsyncIterable[bytes]
"""What can be sent."""

BODY_MAX: Final = 64 * 1024 * 1024
"""Bytes of one document, on the wire and unpacked: an answer, or one event of a stream."""
EVENTS_MAX: Final = 8
"""A stream may hold so many times as much: partial images come before the picture."""
_PIECE: Final = 64 * 1024
_DRAIN_S: Final = 0.2
# What one reply may hold in memory. aiohttp's 64 KB pauses and resumes the socket all the time.
_READ_BYTES: Final = 256 * 1024
_FIRST_BYTES: Final = 32 * 1024
"""The same before a reply has its place among those that flow: there may be thousands."""
# Shorter than the idle timeout of common servers, so that a connection is rarely reused just as its
# other end closes it: that race looks like a failed paid call. A handshake is short beside a call.
_KEEPALIVE_S: Final = 4.0


class Timers:
    """The limits of one call, on the clock's monotonic seconds."""

    __slots__ = ("_event_by", "answer_by", "clock", "connect_s", "deadline", "idle_s")

    def __init__(self, clock: Clock, account: Account, deadline: float) -> None:
        self.clock = clock
        self.connect_s = account.connect_timeout_s
        self.idle_s = account.idle_timeout_s
        self.deadline = deadline
        self._event_by: float | None = None
        self.answer_by = min(deadline, clock.monotonic() + account.first_byte_timeout_s)

    def expect_event(self, within_s: float | None) -> None:
        """Begin to wait for the next event of a stream; None: as long as for an answer."""
        self._event_by = None if within_s is None else self.clock.monotonic() + within_s

    @property
    def news_by(self) -> float:
        """When silence before an answer or between two events ends the call."""
        return self.answer_by if self._event_by is None else min(self.answer_by, self._event_by)

    def left(self, until: float) -> float:
        """Return the seconds until then, at least 0."""
        return max(0.0, until - self.clock.monotonic())


class _Unpacker(Protocol):
    """What zlib's decompression objects offer."""

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Answer:
    """An answer whose headers have arrived; its body is read piece by piece."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        timers: Timers,
        lane: Lane,
        *,
        body_max: int = BODY_MAX,
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.content_type.lower()
        self.request_id = request_id(response.headers)
        self.timers = timers
        self._response = response
        self._chunked = response.content_length is None
        connection = response.connection
        self._lane = lane
        self._flow = lane.flow(connection and connection.transport, response.content_length)
        self._inflow: Inflow | None = None
        self._rate = RateFloor()
        self._wire_bytes = 0
        self._body_bytes = 0
        self._events_bytes = 0
        self._packed = b""
        self._ended = False
        self._unpacker = self._make_unpacker()
        self._body_max = body_max
        if (response.content_length or 0) > body_max:
            raise too_large()

    async def read(self, *, flowing: bool) -> bytes:
        """Return the next bytes of the body, b"" at its end.

        Args:
            flowing: False while the upstream may still be working (nothing of the document or of
                the next event has arrived): silence is then allowed as long as for a first byte.
                True inside a document: the idle timeout and the rate floor hold.

        Raises:
            UpstreamError: silence, a trickle, a cut, too much, or an unknown compression.
        """
        if not flowing:
            self._rate.pause()
        while not self._ended:
            if self._packed:
                await asyncio.sleep(0)  # unpacking alone would keep everybody else waiting
            data = self._packed or await self._receive(flowing=flowing)
            self._ended = not data
            piece = self._unpack(data)
            if piece:
                self._body_bytes += len(piece)
                if self._body_bytes > self._body_max:
                    raise too_large()
                return piece
        return b""

    async def pour(self, take: Take) -> None:
        """Give `take` what comes of a document that has begun, until it refuses a piece.

        That piece, and whatever follows, is left to `read`. Nothing happens where the body is
        packed, cut into HTTP's own chunks, or nearly over: then `read` is the only way.

        Raises:
            UpstreamError: silence, a trickle, or a cut.
            Exception: whatever `take` raises.
        """
        left = (self._response.content_length or 0) - self._wire_bytes
        if self._unpacker is not None or self._inflow is not None or left <= SHORT_BYTES:
            return
        await self._flow.ahead()
        unread = self._response.content.total_bytes - self._wire_bytes
        if unread or not possible(self._response):
            return
        inflow = Inflow(self._response, left, self._lane.buffer, take, self._came)
        self._inflow = inflow
        try:
            await self._until_over(inflow)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise truncated() from error
        finally:
            self._wire_bytes += inflow.taken
            self._body_bytes += inflow.taken

    async def _until_over(self, inflow: Inflow) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timers.left(self.timers.deadline)
        while not inflow.over:
            if inflow.paused:
                await self._flow.ahead()
                inflow.go_on()
            silent_at = min(deadline, inflow.at + self.timers.idle_s)
            try:
                async with asyncio.timeout_at(min(silent_at, self._flow.still_at(inflow.at))):
                    await inflow.news()
            except TimeoutError:
                if loop.time() >= min(deadline, inflow.at + self.timers.idle_s):
                    raise stalled() from None
                if loop.time() >= self._flow.still_at(inflow.at):
                    self._flow.leave()

    def _came(self, count: int) -> bool:
        """Watch the pace of what comes; return whether more of it may."""
        if self._rate.too_slow(self.timers.clock.monotonic(), count):
            raise stalled()
        return self._flow.flows

    def next_event(self, within_s: float | None) -> None:
        """Say that an event has ended: the next one may be as large, and comes within `within_s`.

        Raises:
            UpstreamError: there were too many of them.
        """
        self.timers.expect_event(within_s)
        self._events_bytes += self._body_bytes
        self._wire_bytes = self._body_bytes = 0
        if self._events_bytes > EVENTS_MAX * BODY_MAX:
            raise too_large()

    async def drain(self) -> None:
        """Read what little follows a complete document, so that the connection can be reused."""
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_DRAIN_S):
                while await self._next_bytes():
                    pass

    def end(self, *, whole: bool) -> None:
        """Let other answers flow, and the connection be used again if this one was read whole."""
        self._flow.leave()
        if whole:
            self._response.release()
        else:
            self._response.close()

    async def _receive(self, *, flowing: bool) -> bytes:
        if self._wire_bytes:
            await self._flow.ahead()
            self._response.content.set_read_chunk_size(_READ_BYTES)
        timers = self.timers
        idle_until = timers.clock.monotonic() + timers.idle_s
        until = min(timers.deadline, idle_until) if flowing else timers.news_by
        self._flow.begin()
        try:
            async with asyncio.timeout(timers.left(until)):
                data = await self._next_bytes()
        except TimeoutError:
            if flowing:
                raise stalled() from None
            raise (silent() if timers.news_by < timers.answer_by else timed_out()) from None
        except (aiohttp.ClientError, OSError) as error:
            raise truncated() from error
        finally:
            self._flow.end()
        self._wire_bytes += len(data)
        if self._wire_bytes > self._body_max:
            raise too_large()
        if flowing and self._rate.too_slow(timers.clock.monotonic(), len(data)):
            raise stalled()
        return data

    async def _next_bytes(self) -> bytes:
        """Return the next bytes of the body, as they came from the socket where that is known.

        aiohttp joins what has come, which copies a picture once more, but for a read by chunks. In
        HTTP's own chunks ("transfer-encoding") that would be many small ones.
        """
        if self._inflow is not None:
            return await self._inflow.read()
        if self._chunked:
            return await self._response.content.readany()
        data, _ = await self._response.content.readchunk()
        return data

    def _make_unpacker(self) -> _Unpacker | None:
        """Identity was asked for; gzip is borne from proxies that do not listen."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("identity", ""):
            return None
        if encoding in ("gzip", "x-gzip", "deflate"):
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        raise not_json(self.status)

    def _unpack(self, data: bytes) -> bytes:
        if self._unpacker is None:
            return data
        try:
            piece = self._unpacker.decompress(data, _PIECE) if data else self._unpacker.flush()
        except zlib.error as error:
            raise not_json(self.status) from error
        self._packed = self._unpacker.unconsumed_tail
        return piece


class _Sending:
    """What aiohttp's tracing says: `sent`, the request has begun to leave."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


class Exchange:
    """A request and its answer, as a context: the request leaves when it is entered.

    Leaving it early closes the connection.

    Args:
        transport: of whose connections one is used.
        request: method and address.
        timers: of the call.
        headers: of the request.
        data: its body.
        body_max: bytes; a longer answer is refused.
    """

    __slots__ = ("_answer", "_body_max", "_data", "_headers", "_request", "_timers", "_transport")

    def __init__(
        self,
        transport: Transport,
        request: tuple[str, str],
        timers: Timers,
        *,
        headers: Mapping[str, str],
        data: Body | None,
        body_max: int,
    ) -> None:
        self._transport = transport
        self._request = request
        self._timers = timers
        self._headers: Mapping[str, str] | None = headers
        self._data = data
        self._body_max = body_max
        self._answer: Answer | None = None

    async def __aenter__(self) -> Answer:
        """Send the request; return its answer.

        Raises:
            UpstreamError: the request never left (LOCAL), or no answer came.
        """
        timers, sending = self._timers, _Sending()
        connect = min(timers.connect_s, timers.left(timers.news_by))
        try:
            with TimeLimit(self._transport.alarms, timers.left(timers.news_by)):
                # Nothing of the request is kept here: this lasts as long as a picture takes.
                asking = self._transport.opened().request(
                    *self._request,
                    headers=self._headers,
                    data=self._data,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(connect=connect, sock_connect=connect),
                    trace_request_ctx=sending,
                )
                self._headers = self._data = None
                response = await asking
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise tls_failed() from error
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.InvalidURL,
            aiohttp.NonHttpUrlClientError,
        ) as error:
            raise unreachable() from error
        except aiohttp.ClientResponseError as error:
            raise not_json(None) from error
        except (aiohttp.ClientError, OSError) as error:
            if not sending.sent:
                raise unreachable() from error
            raise timed_out() if type(error) is TimeoutError else disconnected() from error
        try:
            self._answer = Answer(response, timers, self._transport.lane, body_max=self._body_max)
        except BaseException:
            response.close()
            raise
        return self._answer

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: object
    ) -> None:
        """Give the connection back, or close it: it may carry the rest of an unwanted answer."""
        assert self._answer is not None
        self._answer.end(whole=error is None)


class Transport:
    """One aiohttp session, made when first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self.lane = Lane()
        """Which answers flow."""
        self.alarms = Alarms()
        """The ends of waits."""

    def opened(self) -> aiohttp.ClientSession:
        """Return the session; it carries no credential, no cookie and no environment."""
        if self._session is None:
            # What is noted of a request is our own, not a namespace around it.
            as_it_is: Any = lambda trace_request_ctx: trace_request_ctx  # noqa: E731
            trace = aiohttp.TraceConfig(as_it_is)
            trace.on_request_headers_sent.append(_note_sent)  # type: ignore[arg-type]
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                read_bufsize=_FIRST_BYTES,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                trace_configs=[trace],
            )
        return self._session

    def exchange(
        self,
        method: str,
        url: str,
        timers: Timers,
        *,
        headers: Mapping[str, str],
        data: Body | None = None,
        body_max: int = BODY_MAX,
    ) -> Exchange:
        """Return the context that sends a request and gives its answer.

        Entering it raises an UpstreamError where no answer came. An answer of more than `body_max`
        bytes is refused.
        """
        return Exchange(self, (method, url), timers, headers=headers, data=data, body_max=body_max)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _note_sent(session: aiohttp.ClientSession, context: _Sending, params: object) -> None:
    """Remember that the request has begun to leave: from here on it may have been worked on."""
    del session, params
    context.sent = True
