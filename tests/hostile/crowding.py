"""A program that is a crowd of slow connections, apart from the honest caller whose waits count.

Owns what slow clients do and what they were told. It has a process of its own, which gives way to
others: in the caller's event loop, the crowd's work would be measured as the server's slowness.
Reads one JSON object from standard input (`Orders`) and writes one (`Ended`); imports nothing of
ours, so that it starts at once.
"""

from __future__ import annotations

import base64
import contextlib
import heapq
import json
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import TypedDict

NICE = 10
"""On a machine with two cores the crowd, which stands for others, must not take the caller's."""
LEAST_BUFFER = 4096


class Orders(TypedDict):
    """What a crowd shall do: connection i sends `starts[i % len(starts)]`, base64."""

    port: int
    starts: list[str]
    count: int
    come_s: float
    """Within how many seconds they all come."""
    byte_s: float
    """How often each sends one byte more; 0: never, and nothing is read for `stare_s`."""
    stare_s: float


class Ended(TypedDict):
    """When the crowd was there (monotonic clock of the machine), how long each was let."""

    began_s: float
    ended_s: float
    seconds: list[float]
    told: list[str]
    """The first bytes that each was told, base64."""
    received: list[int]


@dataclass
class Slow:
    """One slow connection."""

    wire: socket.socket
    began_s: float
    told: bytes = b""
    received: int = 0
    ended_s: float | None = None


def play(orders: Orders) -> Ended:
    """Connect, be slow until the server has ended every connection, and tell what happened."""
    starts = [base64.b64decode(start) for start in orders["starts"]]
    began_s = time.monotonic()
    crowd: list[Slow] = []
    for number in range(orders["count"]):
        _pause_until(began_s + number / orders["count"] * orders["come_s"])
        start = starts[number % len(starts)]
        crowd.append(_connected(orders["port"], start, small=not orders["byte_s"]))
    if orders["byte_s"]:
        _trickle(crowd, orders["byte_s"])
    else:
        time.sleep(orders["stare_s"])
        for one in crowd:
            _drain(one)
    return Ended(
        began_s=began_s,
        ended_s=max(one.ended_s or began_s for one in crowd),
        seconds=[(one.ended_s or time.monotonic()) - one.began_s for one in crowd],
        told=[base64.b64encode(one.told).decode() for one in crowd],
        received=[one.received for one in crowd],
    )


def _pause_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def _connected(port: int, start: bytes, *, small: bool) -> Slow:
    wire = socket.socket()
    if small:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
    wire.connect(("127.0.0.1", port))
    one = Slow(wire, time.monotonic())
    wire.sendall(start)
    return one


def _trickle(crowd: list[Slow], byte_s: float) -> None:
    """Send a byte on each connection at its own times, and read what is answered."""
    with selectors.EpollSelector() as ready:
        for one in crowd:
            one.wire.setblocking(False)
            ready.register(one.wire, selectors.EVENT_READ, one)
        turns = [(one.began_s + byte_s, number) for number, one in enumerate(crowd)]
        heapq.heapify(turns)
        while turns:
            wait_s = max(0.0, turns[0][0] - time.monotonic())
            for key, _ in ready.select(wait_s):
                one = key.data
                if not _heard(one):
                    ready.unregister(one.wire)
            while turns and turns[0][0] <= time.monotonic():
                at_s, number = heapq.heappop(turns)
                if _sent(crowd[number]):
                    heapq.heappush(turns, (at_s + byte_s, number))


def _heard(one: Slow) -> bool:
    """Read; False: the server has ended the connection."""
    try:
        part = one.wire.recv(4096)
    except OSError:
        part = b""
    one.told += part
    one.received += len(part)
    if not part:
        one.ended_s = time.monotonic()
        one.wire.close()
    return bool(part)


def _sent(one: Slow) -> bool:
    if one.ended_s is not None:
        return False
    with contextlib.suppress(OSError):  # the server has closed, which reading will tell
        one.wire.send(b"a")
    return True


def _drain(one: Slow) -> None:
    """Read what the server has still for a connection that it may have cut."""
    one.wire.settimeout(10)
    with one.wire, contextlib.suppress(OSError):
        while part := one.wire.recv(65_536):
            one.told = one.told or part[:64]
            one.received += len(part)
    one.ended_s = time.monotonic()


if __name__ == "__main__":
    os.nice(NICE)
    json.dump(play(json.load(sys.stdin)), sys.stdout)
