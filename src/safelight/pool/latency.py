"""How long pictures take: quantiles over a day, by model and size.

Owns the histograms. Only attempts that delivered a picture are counted.
"""

from __future__ import annotations

import math
from collections import defaultdict

GROWTH = 1.02
"""Each bucket's upper bound is this much above the one before: quantiles err by at most 2 %."""
SMALLEST_S = 0.01
HALF_LIFE_S = 12 * 3600.0
"""Two halves of a day: the older one is dropped as a whole."""
KINDS_MAX = 1000
"""Callers may ask for tens of thousands of sizes; those of long ago are forgotten."""
FRESH_SHARE = 0.01
"""A quantile is reckoned anew when the samples have become so many more: each order asks for five,
and a hundredth of the samples moves none of them by more than the buckets are wide, as a rule."""
ENOUGH = 50
"""Samples below which a quantile of the tail says nothing."""


class Histogram:
    """Durations in logarithmic buckets, over the last twelve to twenty-four hours."""

    def __init__(self) -> None:
        self._halves: list[defaultdict[int, int]] = [defaultdict(int), defaultdict(int)]
        self._turned_at = 0.0
        self._known: dict[float, tuple[int, float]] = {}
        """Quantiles by share, and of how many samples each is."""
        self.count = 0

    def add(self, seconds: float, now: float) -> None:
        """Count one duration."""
        if now - self._turned_at > 2 * HALF_LIFE_S:
            self._halves[1].clear()
        if now - self._turned_at > HALF_LIFE_S:
            self._turned_at = now
            self._known.clear()
            self._halves = [self._halves[1], defaultdict(int)]
            self.count = sum(sum(half.values()) for half in self._halves)
        self._halves[1][_bucket(seconds)] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """Return the duration that `share` of the samples do not exceed; None without samples."""
        if not self.count:
            return None
        count, value = self._known.get(share, (0, 0.0))
        if self.count - count > FRESH_SHARE * count:
            value = self._reckon(share)
            self._known[share] = (self.count, value)
        return value

    def _reckon(self, share: float) -> float:
        wanted = share * self.count
        for bucket in sorted({*self._halves[0], *self._halves[1]}):
            wanted -= self._halves[0][bucket] + self._halves[1][bucket]
            if wanted <= 0:
                return SMALLEST_S * GROWTH**bucket
        raise AssertionError("a histogram counts what is in its buckets")


class Latencies:
    """Histograms by model and size, by size alone, and of everything together."""

    def __init__(self) -> None:
        self._all = Histogram()
        self._by_kind: dict[tuple[str, str], Histogram] = {}

    def add(self, model: str, size: str, seconds: float, now: float) -> None:
        """Count one delivered picture."""
        self._all.add(seconds, now)
        for kind in {(model, size), ("", size)}:
            histogram = self._by_kind.pop(kind, None) or Histogram()
            histogram.add(seconds, now)
            self._by_kind[kind] = histogram  # now the newest
        while len(self._by_kind) > KINDS_MAX:
            del self._by_kind[next(iter(self._by_kind))]

    def quantile(self, share: float, model: str = "", size: str = "") -> float | None:
        """Return a quantile for a model ("": any) and size, or of all while those are too few.

        None while even all together are too few.
        """
        kind = self._by_kind.get((model, size))
        for histogram in (kind, self._all):
            if histogram is not None and histogram.count >= ENOUGH:
                return histogram.quantile(share)
        return None

    def typical(self, model: str = "", size: str = "") -> float | None:
        """Return the median, from however few samples."""
        kind = self._by_kind.get((model, size))
        if kind is not None and kind.count:
            return kind.quantile(0.5)
        return self._all.quantile(0.5)


def _bucket(seconds: float) -> int:
    return max(0, math.ceil(math.log(max(seconds, SMALLEST_S) / SMALLEST_S) / math.log(GROWTH)))
