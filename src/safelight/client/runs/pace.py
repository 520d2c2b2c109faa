"""How long a run will take: its orders played through the pool's limits in virtual time.

Owns the arithmetic. The limits are those that a quote tells: so many a minute, some of them at
once, no more than a minute's in one window (docs/pool.md); so many in the making. Promises nothing:
other customers use the same pool.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

GUESS_S = 20.0
"""How long a picture takes while nobody has measured one."""
MINUTE_S = 60.0
HEADROOM = 1.25
"""More are under way than the limits and the median need: some pictures take longer."""
FEWEST, MOST, UNBOUNDED = 4, 64, 8
"""Bounds of the default concurrency, and the default where the pool tells no limit."""


@dataclass(frozen=True)
class Pace:
    """How fast one channel makes pictures; None: not bounded, or not known. See `Quote`."""

    images_per_minute: float | None = None
    burst: int | None = None
    window_s: float = MINUTE_S
    at_once: int | None = None
    waiting: int = 0


@dataclass(frozen=True)
class Piece:
    """One order to be played: its channel, how long its picture takes, and which it waits for.

    `after` is the place in the sequence of the piece whose picture it needs, None for none.
    """

    channel: str
    generation_s: float
    after: int | None = None


def concurrency_for(paces: Iterable[Pace], generation_s: float) -> int:
    """Return how many orders should be under way so that the pool's limits are used up."""
    wanted = 0.0
    for pace in paces:
        if pace.images_per_minute is None:
            wanted += pace.at_once if pace.at_once is not None else UNBOUNDED
        else:
            in_the_making = pace.images_per_minute / MINUTE_S * generation_s
            wanted += HEADROOM * in_the_making + (pace.burst or 1)
    return max(FEWEST, min(MOST, math.ceil(wanted)))


def play(pieces: Sequence[Piece], paces: dict[str, Pace], *, concurrency: int) -> float:
    """Return after how many seconds the last picture is there."""
    gates = {channel: _Gate(pace) for channel, pace in paces.items()}
    followers: dict[int, list[int]] = {}
    ready: list[tuple[float, int]] = []
    for at, piece in enumerate(pieces):
        if piece.after is None:
            ready.append((0.0, at))
        else:
            followers.setdefault(piece.after, []).append(at)
    slots = [0.0] * max(1, concurrency)
    heapq.heapify(ready)
    last = 0.0
    while ready:
        begins, at = heapq.heappop(ready)
        piece = pieces[at]
        asked = max(begins, heapq.heappop(slots))
        ends = gates[piece.channel].pass_at(asked, piece.generation_s)
        heapq.heappush(slots, ends)
        last = max(last, ends)
        for follower in followers.get(at, ()):
            heapq.heappush(ready, (ends, follower))
    return last


def limit_of(pieces: Sequence[Piece], paces: dict[str, Pace], *, concurrency: int) -> str:
    """Return what a run waits for most: `pool`, `at_once`, `concurrency` or `picture`.

    Each bound is lifted in turn; the one whose absence saves most is it.
    """
    taken_s = play(pieces, paces, concurrency=concurrency)
    free = {name: replace(pace, images_per_minute=None, waiting=0) for name, pace in paces.items()}
    wide = {name: replace(pace, at_once=None) for name, pace in paces.items()}
    savings = {
        "pool": taken_s - play(pieces, free, concurrency=concurrency),
        "at_once": taken_s - play(pieces, wide, concurrency=concurrency),
        "concurrency": taken_s - play(pieces, paces, concurrency=max(1, len(pieces))),
    }
    best = max(savings, key=lambda name: savings[name])
    return best if savings[best] > 0.02 * taken_s else "picture"


class _Gate:
    """The limits of one channel: a spacing with a burst, a window, and places in the making."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        rate = pace.images_per_minute
        self._interval_s = MINUTE_S / rate if rate else 0.0
        self._capacity = max(1, math.floor(rate + 1e-9)) if rate else 0
        burst = 1 if pace.burst is None else pace.burst
        self._ahead_s = max(0, burst - 1) * self._interval_s
        # Without a burst not even one may leave now: the spacing is used up.
        self._full_at = self._interval_s if burst == 0 else 0.0
        self._left: deque[float] = deque(maxlen=self._capacity or 1)
        self._making = [0.0] * pace.at_once if pace.at_once else None
        for _ in range(pace.waiting if rate else 0):
            self._leave(0.0)

    def pass_at(self, asked: float, generation_s: float) -> float:
        """Return when a picture that was asked for then is there."""
        if self._making is not None:
            asked = max(asked, heapq.heappop(self._making))
        ends = self._leave(asked) + generation_s
        if self._making is not None:
            heapq.heappush(self._making, ends)
        return ends

    def _leave(self, asked: float) -> float:
        if not self._interval_s:
            return asked
        leaves = max(asked, self._full_at - self._ahead_s)
        if len(self._left) == self._capacity:
            leaves = max(leaves, self._left[0] + self._pace.window_s)
        self._full_at = max(self._full_at, leaves) + self._interval_s
        self._left.append(leaves)
        return leaves
