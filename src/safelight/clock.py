"""Time, injectable: the wall clock for what people read, the monotonic clock for timers.

Owns nothing else. Tests pass a `ManualClock` and never sleep.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What every part of safelight that needs the time is given."""

    def now_ms(self) -> int:
        """Return wall-clock time in milliseconds since 1970 (for `_at` columns and links)."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps (for deadlines and budgets)."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to; both faces move together unless it is set."""

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._ms = start_ms
        self._monotonic = 1000.0

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since 1970."""
        return self._ms

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        self._ms += round(seconds * 1000)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back; the monotonic clock never jumps."""
        self._ms += round(seconds * 1000)
