"""Orders sent over many connections, and how long each took.

Owns the client: a raw HTTP/1.1 connection that reads into one buffer, because a client that costs
as much as what it measures would take the machine away from it. Knows answers with a
Content-Length only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from safelight.bench.errors import BenchError
from safelight.bench.picture import Weight

ANSWER_S = 60.0
"""Seconds for one answer; more is a fault of what is measured."""
CHANNEL = "gpt-image-2-vip"

_BUFFER_BYTES = 512 * 1024
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `body` only if it was to be kept, or is an error."""

    status: int
    length: int
    body: bytes


@dataclass(slots=True)
class Phase:
    """What one stretch of load came to; latencies in milliseconds, one for each answer."""

    answered: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)


class Orders:
    """Makes orders, each with a prompt of its own, so that none joins another."""

    def __init__(self, wanted: Weight, key: str) -> None:
        self._size = wanted.size
        self._key = key
        self._numbers = itertools.count(1)

    def next(self) -> bytes:
        """Return the next order as an HTTP request."""
        body = json.dumps(
            {
                "model": CHANNEL,
                "prompt": f"A lamp on a table, order {next(self._numbers)} of the bench",
                "size": self._size,
                "n": 1,
            }
        )
        return (
            "POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()


class Connection(asyncio.BufferedProtocol):
    """One client connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_BUFFER_BYTES)
        self._answer: asyncio.Future[Answer] | None = None
        self._keep = False
        self._head = bytearray()
        self._body = bytearray()
        self._status = 0
        self._length = 0
        self._left = 0

    async def ask(self, request: bytes, *, keep: bool = False) -> Answer:
        """Send a request and return the answer once its last byte is there.

        Raises:
            BenchError: the connection ended before, or nothing came for ANSWER_S.
        """
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._keep = keep
        self._head.clear()
        self._body.clear()
        self._status = 0
        self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._answer
        except TimeoutError:
            raise BenchError(f"an answer was not complete after {ANSWER_S:.0f} s") from None

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who still waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError(f"a connection broke: {exc or 'it was closed'}"))

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to read to."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._status:
            self._take(memoryview(self._buffer)[:nbytes])
            return
        self._head += memoryview(self._buffer)[:nbytes]
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            rest = bytes(self._head[end + 4 :])
            if self._read_head(bytes(self._head[: end + 2])):
                self._take(memoryview(rest))
            else:
                self.close()  # whoever waits is told by connection_lost

    def _read_head(self, head: bytes) -> bool:
        status, length = _STATUS.match(head), _LENGTH.search(head)
        if status is None or length is None:
            return False
        self._status = int(status[1])
        self._left = self._length = int(length[1])
        self._keep = self._keep or self._status != 200
        return True

    def _take(self, data: memoryview) -> None:
        if self._keep:
            self._body += data
        self._left -= len(data)
        if not self._left and self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._status, self._length, bytes(self._body)))


async def connect(port: int, count: int) -> list[Connection]:
    """Open connections to a port of loopback.

    Raises:
        BenchError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    try:
        pairs = [await loop.create_connection(Connection, "127.0.0.1", port) for _ in range(count)]
    except OSError as error:
        raise BenchError(f"no connection to port {port}: {error}") from error
    return [connection for _, connection in pairs]


async def drive(
    connections: Sequence[Connection], orders: Orders, count: int, limit_s: float
) -> Phase:
    """Send `count` orders, or as many as begin within `limit_s` seconds, over all connections.

    Raises:
        BenchError: an answer is no success.
    """
    phase = Phase()
    began = time.perf_counter()
    numbers = iter(range(count))

    async def work(connection: Connection) -> None:
        for _ in numbers:
            sent = time.perf_counter()
            await picture(connection, orders)
            done = time.perf_counter()
            phase.latencies_ms.append((done - sent) * 1000)
            if done - began > limit_s:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(work(connection))
    except ExceptionGroup as failures:
        failed = failures.subgroup(BenchError)
        raise (failures if failed is None else failed.exceptions[0]) from None
    phase.seconds = time.perf_counter() - began
    phase.answered = len(phase.latencies_ms)
    return phase


async def picture(connection: Connection, orders: Orders, *, keep: bool = False) -> Answer:
    """Order one picture.

    Raises:
        BenchError: the answer is no success.
    """
    answer = await connection.ask(orders.next(), keep=keep)
    if answer.status != 200:
        raise BenchError(f"an order was answered {answer.status}: {answer.body[:300]!r}")
    return answer
