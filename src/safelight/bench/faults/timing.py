"""Vendor time: how fast it passes, how long answers take, and what is scheduled when.

Owns the scaled clock and its waits, the latency distribution and scheduled conditions. Knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import msgspec

from safelight.bench.faults.chance import uniform

_SWEEP_REAL_S = 0.05
_P99 = NormalDist().inv_cdf(0.99)


class VendorTime:
    """Seconds since the start, `speed` of them to a real second, and waits measured in them.

    Args:
        speed: vendor seconds that pass in one real second.
        monotonic: the real clock, in seconds; waits always take the event loop's.
    """

    def __init__(
        self, speed: float = 1.0, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.speed = speed
        self._monotonic = monotonic
        self._started = monotonic()
        self._waiting: set[asyncio.Future[None]] = set()
        self._watched: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    def now_s(self) -> float:
        """Return the vendor seconds since the start."""
        return (self._monotonic() - self._started) * self.speed

    async def wait(self, seconds: float | None, gone: Callable[[], bool] | None = None) -> None:
        """Wait so many vendor seconds (None: for ever), until `close`, or until `gone()`."""
        if self._closed or (seconds is not None and seconds <= 0) or (gone is not None and gone()):
            return
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds / self.speed, _finish, over)
        self._waiting.add(over)
        if gone is not None:
            self._watch(over, gone)
        try:
            await over
        finally:
            self._waiting.discard(over)
            self._watched.pop(over, None)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """End every wait, now and from now on."""
        self._closed = True
        for over in list(self._waiting):
            _finish(over)

    def _watch(self, over: asyncio.Future[None], gone: Callable[[], bool]) -> None:
        # One task looks after all stalled clients: a timer each would cost more than the answers.
        self._watched[over] = gone
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while self._watched and not self._closed:
            await asyncio.sleep(_SWEEP_REAL_S)
            for over, gone in list(self._watched.items()):
                if gone():
                    _finish(over)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long pictures take: log-normal, given by its median and 99th percentile in seconds."""

    p50_s: float
    p99_s: float

    def __post_init__(self) -> None:
        if not 0 < self.p50_s <= self.p99_s:
            raise ValueError("latency needs 0 < p50_s <= p99_s")

    def draw_s(self, seed: int, number: int) -> float:
        """Return the latency of request `number`."""
        sigma = math.log(self.p99_s / self.p50_s) / _P99
        drawn = NormalDist().inv_cdf(uniform(seed, "latency", number))
        return self.p50_s * math.exp(sigma * drawn)


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scheduled condition: from `from_s` until before `to_s` (None: for ever), `act` rules.

    `act` is anything that `script.script` takes. Without `keys` it holds for every key. What does
    not sell (an outage, a revoked key) comes before the vendor's checks and limits, and costs no
    allowance; what sells comes after them, in place of the script.
    """

    act: Any
    from_s: float = 0.0
    to_s: float | None = None
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError("a window ends after it begins")

    def covers(self, now_s: float, key: str) -> bool:
        """Return whether the condition holds for `key` at `now_s`."""
        begun = self.from_s <= now_s and (self.to_s is None or now_s < self.to_s)
        return begun and (not self.keys or key in self.keys)
