"""Failures in a row, judged by when their attempts began.

Owns one subtlety of long calls: a picture takes a hundred times as long as a refusal. After a fault
begins, the answers of attempts that left before it keep coming for a minute; and after a start the
first answers are all failures, because the good ones are still being drawn. So an old success ends
no streak, and attempts that have long outlived the failures speak against it before they end.
"""

from __future__ import annotations

import math
from collections import deque

from safelight.pool.decisions import Lease

SURVIVAL = 4.0
SURVIVAL_LEAST_S = 2.0
"""An attempt that lives this many times longer than its fellows died in shows that things work."""
LIFETIMES = 8


class Streak:
    """The failures in a row of an account or an endpoint."""

    def __init__(self) -> None:
        self.weight = 0.0
        """Sum of the failures' weights; 0 without a streak."""
        self.in_flight: set[Lease] = set()
        self._since = math.inf
        """When the first attempt of the streak began."""
        self._lifetimes: deque[float] = deque(maxlen=LIFETIMES)

    def fail(self, lease: Lease, weight: float, now: float) -> None:
        """Count a failure."""
        self.weight += weight
        self._since = min(self._since, lease.at)
        self._lifetimes.append(now - lease.at)

    def succeed(self, lease: Lease) -> bool:
        """End the streak, if the attempt began in it; return whether there is none now."""
        if lease.at >= self._since:
            self.clear()
        return self.weight == 0

    def clear(self) -> None:
        """End the streak."""
        self.weight = 0.0
        self._since = math.inf

    @property
    def survival_s(self) -> float:
        """How long an attempt must live to count as a survivor, seconds."""
        if not self._lifetimes:
            return SURVIVAL_LEAST_S
        # The quicker ones: where both happen, refusals come at once and stalls only in the end.
        usual = sorted(self._lifetimes)[len(self._lifetimes) // 4]
        return max(SURVIVAL_LEAST_S, SURVIVAL * usual)

    def survivors(self, now: float) -> int:
        """Return how many attempts of the streak's time are alive long after others died.

        One that looks stalled itself is no proof of life.
        """
        born_by = now - self.survival_s
        return sum(
            1
            for lease in self.in_flight
            if self._since <= lease.at <= born_by and not lease.suspected
        )
