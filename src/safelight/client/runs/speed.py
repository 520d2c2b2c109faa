"""How fast a run goes and when it will have ended: from what came lately."""

from __future__ import annotations

import time
from collections import deque

MINUTE_S = 60.0
ENOUGH = 5
"""Of fewer pictures a rate says nothing."""


class Speed:
    """Reckons the rate of pictures and the time left.

    Args:
        expected_s: how long the start should take, seconds; None: unknown.
        trusted: whether that rests on measured times. Then it counts for a minute: a pool gives
            its burst first, so the first rates are too high. Otherwise any rate is better.
    """

    def __init__(self, expected_s: float | None, *, trusted: bool) -> None:
        self._expected_s = expected_s
        self._trusted_s = MINUTE_S if trusted else 0.0
        self._began = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])

    def of(self, pictures: int, left: int) -> tuple[float, float | None]:
        """Return pictures a minute, and the seconds until `left` more have come.

        Args:
            pictures: that came in this start so far.
            left: that are still to come.
        """
        now = time.monotonic()
        if pictures > self._seen[-1][1]:
            self._seen.append((now, pictures))
        while len(self._seen) > 1 and now - self._seen[1][0] > MINUTE_S:
            self._seen.popleft()
        since, before = self._seen[0]
        per_minute = (pictures - before) * MINUTE_S / max(now - since, 1.0)
        if left <= 0:
            return per_minute, 0.0
        passed_s = now - self._began
        if pictures >= ENOUGH and passed_s >= self._trusted_s and per_minute > 0:
            return per_minute, left * MINUTE_S / per_minute
        if self._expected_s is None:
            return per_minute, None
        return per_minute, max(0.0, self._expected_s - passed_s)
