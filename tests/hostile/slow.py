"""Crowds of slow clients, and honest callers beside them, whose waits are measured.

Owns the measure. Honest callers come at fixed times, however long those before them wait, and their
waits count from then: a server that stands still for a second keeps a second's callers waiting, not
one. They come by turns to the server that has the crowd and to an equal one that has none, on the
same machine at the same moments: what both are slower by is the machine's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from hostile.crowding import Ended, Orders

EVERY_S = 0.01
"""How often an honest caller comes to each server."""
BEFORE_S = 0.5
"""How long honest callers come before the crowd does: both servers are warm."""
COME_S = 1.0
"""Within how many seconds a crowd comes: slow connections are no flood, which is another attack."""
BYTE_S = 0.25
"""How often a slow sender sends a byte."""
NOISE_S = 0.001
"""What the scheduler of a machine with two cores adds now and then to one of two equal waits."""
TRIES = 3
"""What our server lacks shows in every attack; what the machine does beside it, hardly in three."""
_PROGRAM = str(Path(__file__).with_name("crowding.py"))


class Attack(Protocol):
    """Something that went on for a while, by the monotonic clock."""

    @property
    def began_s(self) -> float: ...
    @property
    def ended_s(self) -> float: ...


T = TypeVar("T", bound=Attack)


@dataclass
class Crowd:
    """Slow connections: how long each was let, what it was told, how many bytes it read."""

    began_s: float
    ended_s: float
    seconds: list[float]
    told: list[bytes]
    received: list[int]


@dataclass(frozen=True)
class Door:
    """A server, and what an honest caller sends it."""

    port: int
    request: bytes


@dataclass
class Waits:
    """How long honest callers waited, seconds: with the crowd, and without one."""

    crowded: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"p95 of {len(self.crowded)} waits {p95(self.crowded) * 1e3:.2f} ms"
            f" (longest {max(self.crowded) * 1e3:.0f}),"
            f" without the crowd {p95(self.alone) * 1e3:.2f} ms"
            f" (longest {max(self.alone) * 1e3:.0f})"
        )

    @property
    def bearable(self) -> bool:
        """Whether the crowd at most doubles what honest callers wait (p95)."""
        return p95(self.crowded) <= 2 * max(p95(self.alone), NOISE_S)


def p95(seconds: list[float]) -> float:
    """Return the wait that 95 of a hundred do not exceed."""
    return sorted(seconds)[int(len(seconds) * 0.95)]


async def crowd(port: int, starts: list[bytes], count: int, *, stare_s: float = 0.0) -> Crowd:
    """Play a crowd in a process of its own, to its end.

    Args:
        port: of the server on loopback.
        starts: what the connections begin with, by turns; a byte at a time follows.
        count: connections.
        stare_s: instead of sending on, read nothing for so many seconds.
    """
    orders = Orders(
        port=port,
        starts=[base64.b64encode(start).decode() for start in starts],
        count=count,
        come_s=COME_S,
        byte_s=0.0 if stare_s else BYTE_S,
        stare_s=stare_s,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, _PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await process.communicate(json.dumps(orders).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ended: Ended = json.loads(out)
    return Crowd(
        began_s=ended["began_s"],
        ended_s=ended["ended_s"],
        seconds=ended["seconds"],
        told=[base64.b64decode(one) for one in ended["told"]],
        received=ended["received"],
    )


async def beside(
    attack: Coroutine[None, None, T],
    crowded: Door,
    alone: Door,
    *,
    every_s: float = EVERY_S,
) -> tuple[T, Waits]:
    """Return what came of an attack, and how long honest callers waited while it went on.

    Args:
        attack: it is awaited.
        crowded: the server that is attacked.
        alone: the other one.
        every_s: how often an honest caller comes to each, seconds.
    """
    came: list[tuple[float, bool, asyncio.Task[float]]] = []
    coming = asyncio.create_task(_come((crowded, alone), every_s, came))
    try:
        await asyncio.sleep(BEFORE_S)
        found = await attack
    finally:
        coming.cancel()
        await asyncio.wait({coming})
    waits = Waits()
    for at_s, with_crowd, task in came:
        waited_s = await task
        if found.began_s <= at_s <= found.ended_s:
            (waits.crowded if with_crowd else waits.alone).append(waited_s)
    return found, waits


async def _come(
    servers: tuple[Door, Door],
    every_s: float,
    came: list[tuple[float, bool, asyncio.Task[float]]],
) -> None:
    """Let an honest caller come to each server by turns, until cancelled."""
    at_s, turn = time.monotonic(), 0
    while True:
        came.append((at_s, turn == 0, asyncio.create_task(_wait(servers[turn], at_s))))
        at_s, turn = at_s + every_s / 2, 1 - turn
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))


async def _wait(door: Door, at_s: float) -> float:
    """Return how long an honest caller who comes at `at_s` waits for the answer's head, seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(door.request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    waited_s = time.monotonic() - at_s
    writer.close()
    return waited_s


def pause_until(at_s: float) -> None:
    """Wait for a moment of the monotonic clock: what plays a client sends at its own pace."""
    time.sleep(max(0.0, at_s - time.monotonic()))
