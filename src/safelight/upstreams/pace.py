"""Whether a body comes fast enough to be worth waiting for (failure catalogue, U4).

Owns the measure alone: who asks has the clock, and says what follows.
"""

from __future__ import annotations

from typing import Final

RATE_FLOOR_BYTES_PER_S: Final = 16_000
RATE_WINDOW_S: Final = 30.0


class RateFloor:
    """Notices a body that trickles: fewer than 16 kB/s over 30 s (failure catalogue, U4)."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._bytes = 0

    def pause(self) -> None:
        """Forget what was measured: the upstream is working, not sending."""
        self._since = None

    def too_slow(self, now: float, received: int) -> bool:
        """Count `received` bytes at `now` (seconds); return whether a full window was too slow."""
        if self._since is None:
            self._since, self._bytes = now, 0
        self._bytes += received
        elapsed = now - self._since
        if elapsed < RATE_WINDOW_S:
            return False
        slow = self._bytes < RATE_FLOOR_BYTES_PER_S * elapsed
        self._since, self._bytes = now, 0
        return slow
