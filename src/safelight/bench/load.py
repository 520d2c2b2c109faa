"""Orders sent over many connections, and how long each took.

Owns the client: raw HTTP/1.1 connections driven by callbacks that read into one buffer, because a
client that costs as much as what it measures would take the machine away from it. A failure is
counted and named, never raised: that a contender fails is a result.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from safelight.bench.errors import BenchError
from safelight.bench.orders import Orders, Refused

ANSWER_S = 60.0
"""Seconds without any answer after which those that are missing count as unanswered."""
FAILURES_MOST = 50
"""A stretch of load with more failures than that is ended."""
UNANSWERED = "unanswered"

_BUFFER_BYTES = 512 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CHUNK = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `body` only if it was to be kept, or is an error; status 0: the wire broke."""

    status: int
    body: bytes


@dataclass(slots=True)
class Phase:
    """What one stretch of load came to; latencies in milliseconds, one for each success."""

    asked: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        """How many orders were delivered."""
        return len(self.latencies_ms)


class Connection(asyncio.BufferedProtocol):
    """One client connection; one request at a time."""

    # One for all: what was read is taken within the same turn of the loop.
    _buffer = bytearray(_BUFFER_BYTES)
    _view = memoryview(_buffer)

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: Callable[[Answer], None] | None = None
        self._keep = False
        self._head = b""
        self._body = bytearray()
        self._status = 0
        self._left = 0
        self._tail: bytes | None = None

    def send(
        self, request: Sequence[bytes], done: Callable[[Answer], None], *, keep: bool = False
    ) -> None:
        """Send a request; `done` is called with the answer once its last byte is there."""
        self._done = done
        self._keep = keep
        self._head, self._status = b"", 0
        self._body.clear()
        if self._transport is None or self._transport.is_closing():
            self._end(Answer(0, b"the connection was closed"))
        else:
            self._transport.writelines(request)

    async def ask(self, request: Sequence[bytes], *, keep: bool = False) -> Answer:
        """Send a request and return the answer.

        Raises:
            BenchError: the connection ended before, or nothing came for ANSWER_S.
        """
        answer = asyncio.get_running_loop().create_future()
        self.send(request, answer.set_result, keep=keep)
        try:
            async with asyncio.timeout(ANSWER_S):
                found = cast("Answer", await answer)
        except TimeoutError:
            self._done = None
            raise BenchError(f"an answer was not complete after {ANSWER_S:.0f} s") from None
        if not found.status:
            raise BenchError(f"a connection broke: {found.body.decode()}")
        return found

    def close(self) -> None:
        """Hang up; nobody is told."""
        self._done = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who still waits."""
        self._end(Answer(0, str(exc or "it was closed").encode()))

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to read to."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._status:
            self._take(self._view[:nbytes])
            return
        end = -1 if self._head else self._buffer.find(b"\r\n\r\n", 0, nbytes)
        if end >= 0:
            head, rest = bytes(self._view[: end + 2]), self._view[end + 4 : nbytes]
        else:  # the head comes in parts
            self._head += self._view[:nbytes]
            head, found, after = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            head, rest = head + b"\r\n", memoryview(after)
        if self._read_head(head):
            self._take(rest)
        elif self._transport is not None:
            self._transport.close()  # whoever waits is told by connection_lost

    def _read_head(self, head: bytes) -> bool:
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if status is None or (length is None and _CHUNKED.search(head) is None):
            return False
        self._status = int(status[1])
        self._tail = b"\r\n" if length is None else None
        self._left = 0 if length is None else int(length[1])
        self._keep = self._keep or self._status >= 300
        return True

    def _take(self, data: memoryview) -> None:
        if self._keep:
            self._body += data
        if self._tail is None:
            self._left -= len(data)
            over = not self._left
        else:
            self._tail = (self._tail + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
            over = self._tail == _LAST_CHUNK
        if over:
            body = bytes(self._body)
            status, self._status = self._status, 0
            self._end(Answer(status, body if self._tail is None else unchunked(body)))

    def _end(self, answer: Answer) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(answer)


def unchunked(body: bytes) -> bytes:
    """Return the content of a whole chunked body (RFC 9112, section 7.1); trailers are dropped."""
    content, at = bytearray(), 0
    while (match := _CHUNK.match(body, at)) and (size := int(match[1], 16)):
        content += body[match.end() : match.end() + size]
        at = match.end() + size + 2
    return bytes(content)


async def connect(port: int, count: int) -> list[Connection]:
    """Open connections to a port of loopback.

    Raises:
        BenchError: nobody listens there.
    """
    try:
        return [await _connection(port) for _ in range(count)]
    except OSError as error:
        raise BenchError(f"no connection to port {port}: {error}") from error


async def _connection(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


class _Stretch:
    """Orders under way: who asks next, what came, and when it is over."""

    def __init__(self, orders: Orders, count: int, limit_s: float) -> None:
        self.phase = Phase()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._orders = orders
        self._left = count
        self._active = 0
        self._began = time.perf_counter()
        self._until = self._began + limit_s
        self.last = self._began

    def begin(self, connection: Connection) -> None:
        """Send the next order over a connection, and when it is answered the one after it."""
        if self.over.done():  # all before it have failed at once
            self.over = asyncio.get_running_loop().create_future()
        self._left -= 1
        self._active += 1
        self.phase.asked += 1
        keep = self._orders.keep
        self._ask(connection, self._orders.next(), time.perf_counter(), keep=keep)

    def failed(self, word: str) -> None:
        """Count an order that could not even be sent."""
        self.phase.asked += 1
        self.phase.failures[word] += 1
        self._left -= 1

    def end(self) -> Phase:
        """Return what came; what is still missing is unanswered."""
        if self._active:
            self.phase.failures[UNANSWERED] += self._active
        self.phase.seconds = max(self.last - self._began, 1e-9)
        return self.phase

    def _ask(
        self, connection: Connection, request: Sequence[bytes], began: float, *, keep: bool
    ) -> None:
        def done(answer: Answer) -> None:
            self._answered(connection, answer, began)

        connection.send(request, done, keep=keep)

    def _answered(self, connection: Connection, answer: Answer, began: float) -> None:
        self.last = now = time.perf_counter()
        try:
            further = self._orders.follow(answer.status, answer.body)
        except Refused as refused:
            self.phase.failures[str(refused)] += 1
        else:
            if further is not None:
                self._ask(connection, further, began, keep=self._orders.keep_next)
                return
            self.phase.latencies_ms.append((now - began) * 1000)
        self._active -= 1
        failed = self.phase.failures.total()
        if self._left > 0 and now < self._until and answer.status and failed <= FAILURES_MOST:
            self.begin(connection)
        elif not self._active and not self.over.done():
            self.over.set_result(None)


async def drive(
    connections: Sequence[Connection], orders: Orders, count: int, limit_s: float
) -> Phase:
    """Send `count` orders, or as many as begin within `limit_s` seconds, over all connections."""
    stretch = _Stretch(orders, count, limit_s)
    for connection in connections[:count]:
        stretch.begin(connection)
    await _settled(stretch)
    return stretch.end()


async def crowd(port: int, orders: Orders, count: int, ramp_s: float, patience_s: float) -> Phase:
    """Send `count` orders within `ramp_s` seconds, evenly, each over a connection of its own.

    `patience_s` after the last arrival who has no answer is unanswered. Latencies begin when an
    order is sent, behind the opening of its connection.
    """
    stretch = _Stretch(orders, count, limit_s=0.0)
    connections: list[Connection] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + ramp_s + patience_s

    async def arrive(number: int) -> None:
        await asyncio.sleep(began + number * ramp_s / count - loop.time())
        try:
            # Where the queue of a listener is full, the kernel would knock for minutes.
            async with asyncio.timeout_at(until):
                connection = await _connection(port)
        except OSError as error:  # a TimeoutError is one, too
            stretch.failed(f"no connection ({type(error).__name__})")
            return
        connections.append(connection)
        stretch.begin(connection)

    await asyncio.gather(*(arrive(number) for number in range(count)))
    while stretch.phase.answered + stretch.phase.failures.total() < count:
        if loop.time() > until:
            break
        await asyncio.sleep(0.05)
    phase = stretch.end()
    for connection in connections:
        connection.close()
    return phase


async def _settled(stretch: _Stretch) -> None:
    """Wait for the end of a stretch, as long as answers come."""
    while not stretch.over.done():
        left = stretch.last + ANSWER_S - time.perf_counter()
        if left <= 0:
            return
        await asyncio.wait([stretch.over], timeout=left)
