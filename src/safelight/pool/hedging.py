"""How often a suspected stall may be bought a second time: a share of the last hour's pictures.

Owns that budget only. A picture is paid twice when the first attempt was slow after all, not stuck;
those are counted, and every second attempt under way, which may turn out to be one.
"""

from __future__ import annotations

from collections import deque

HOUR_S = 3600.0
FIRST = 3
"""Pictures that may be bought twice before a share of an hour means anything."""


class HedgeBudget:
    """Counts pictures and those bought twice, over the last hour of monotonic seconds."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._pictures: deque[float] = deque()
        self._twice: deque[float] = deque()
        self._under_way = 0

    def begin(self) -> None:
        """Count a job that has a second attempt under way."""
        self._under_way += 1

    def end(self) -> None:
        """Say that such a job has ended."""
        self._under_way -= 1

    def note_picture(self, now: float, *, twice: bool) -> None:
        """Count a delivered picture; `twice` when a second attempt was needless."""
        self._pictures.append(now)
        if twice:
            self._twice.append(now)

    def allows(self, now: float) -> bool:
        """Return whether another second attempt may begin."""
        for times in (self._pictures, self._twice):
            while times and times[0] < now - HOUR_S:
                times.popleft()
        if not self._share:
            return False
        # Of those under way most are right: half of them is already a careful guess.
        needless = len(self._twice) + self._under_way / 2
        return needless < max(FIRST, self._share * len(self._pictures))
