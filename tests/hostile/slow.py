"""Clients that are slow on purpose, and honest ones beside them, whose waits are measured.

Owns the pacing: what plays a slow client may wait. All of it runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

BYTE_S = 0.25
"""How often a slow sender sends a byte."""


@dataclass
class Crowd:
    """Slow connections: how long each was let, and what it was told."""

    seconds: list[float] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    @property
    def longest_s(self) -> float:
        return max(self.seconds)


async def trickle(port: int, start: bytes, crowd: Crowd) -> None:
    """Send `start` and then a byte at a time, until the server has had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began, told = time.monotonic(), bytearray()

    async def listen() -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(4096):
                told.extend(part)

    listening = asyncio.ensure_future(listen())
    try:
        writer.write(start)
        while not listening.done():
            writer.write(b"a")
            await asyncio.wait({listening}, timeout=BYTE_S)
    finally:
        listening.cancel()
        writer.transport.abort()
        crowd.seconds.append(time.monotonic() - began)
        crowd.data.append(bytes(told))


async def stare(port: int, start: bytes, crowd: Crowd, until: asyncio.Event) -> None:
    """Ask for much, read nothing; then see whether the connection is still there."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(wire, ("127.0.0.1", port))
    await loop.sock_sendall(wire, start)
    await until.wait()
    told = bytearray()
    with wire, contextlib.suppress(OSError):
        while part := await loop.sock_recv(wire, 65_536):
            told += part
    crowd.data.append(bytes(told))


@contextlib.asynccontextmanager
async def beside(
    one: Callable[[Crowd], Coroutine[None, None, None]], count: int
) -> AsyncIterator[Crowd]:
    """Run `count` slow clients while inside, and wait for the end of all of them."""
    crowd = Crowd()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one(crowd))
        await asyncio.sleep(0.5)  # all of them are connected
        yield crowd


async def waits(port: int, request: bytes, count: int) -> list[float]:
    """Return how long each of `count` honest requests waited, seconds, sorted."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        found.append(time.perf_counter() - began)
        writer.close()
    return sorted(found)


def p95(sorted_s: list[float]) -> float:
    """Return the wait that 95 of a hundred do not exceed."""
    return sorted_s[int(len(sorted_s) * 0.95)]


async def pause(seconds: float) -> None:
    """Let a deadline of the real server pass: it has no clock that could be moved."""
    await asyncio.sleep(seconds)


def pause_until(at_s: float) -> None:
    """Wait for a moment of the monotonic clock: what plays a client sends at its own pace."""
    time.sleep(max(0.0, at_s - time.monotonic()))
