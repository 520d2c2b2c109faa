"""The accounts of one kind of job in line: those worth a look now, and when each other one is.

An account that was found busy is not looked at again before it may be free, or before something was
booked on it (`wake`); but every `LOOK_S` it is, because limits are also learnt elsewhere. Knows no
account and no rule; all times are the caller's monotonic seconds.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, TypeVar

M = TypeVar("M", bound=Hashable)

LOOK_S = 1.0


class Lineup(Generic[M]):
    """Some accounts.

    Args:
        members: all of them.
    """

    def __init__(self, members: Sequence[M]) -> None:
        self._members = members
        self._places = {member: place for place, member in enumerate(members)}
        self._drawn = list(range(len(members)))
        """Places of the members worth a look, in no order."""
        self._at: list[int] = list(range(len(members)))
        """By member its index in `_drawn`, or -1."""
        self._stamps = [0] * len(members)
        """Raised when a member goes, or comes back: older notes about it are void."""
        self._looks: list[tuple[float, int, int]] = []
        self._frees: list[tuple[float, int, int]] = []

    def wake(self, member: M) -> None:
        """Have a member looked at again: something has happened to it. Others are no concern."""
        place = self._places.get(member)
        if place is not None:
            self._wake(place)

    def _wake(self, place: int) -> None:
        if self._at[place] < 0:
            self._stamps[place] += 1
            self._at[place] = len(self._drawn)
            self._drawn.append(place)

    def draw(
        self,
        now: float,
        rng: random.Random,
        look: Callable[[M], float],
        suits: Callable[[M], bool],
    ) -> Iterator[M]:
        """Yield members that are free now, by lot, each once.

        Args:
            now: the present.
            rng: draws.
            look: in how many seconds a member may be free: 0 is now; infinity, that no wait helps.
            suits: whether a free member is one for this job; the others stay in line.
        """
        while self._looks and self._looks[0][0] <= now:
            _, place, stamp = heapq.heappop(self._looks)
            if self._stamps[place] == stamp:
                self._wake(place)
        left = len(self._drawn)
        while left:
            # Those behind `left` have been drawn.
            at = rng.randrange(left)
            place = self._drawn[at]
            self._swap(at, left - 1)
            left -= 1
            member = self._members[place]
            wait = look(member)
            if wait > 0:
                self._put_off(place, now, wait)
            elif suits(member):
                yield member

    def soonest(self, now: float) -> float | None:
        """Return in how many seconds one of those that were put off may be free; None: in no time
        that is known.
        """
        while self._frees:
            at, place, stamp = self._frees[0]
            if self._stamps[place] == stamp:
                return max(0.0, at - now)
            heapq.heappop(self._frees)
        return None

    def _put_off(self, place: int, now: float, wait: float) -> None:
        at, last = self._at[place], len(self._drawn) - 1
        self._swap(at, last)
        self._drawn.pop()
        self._at[place] = -1
        self._stamps[place] += 1
        stamp = self._stamps[place]
        heapq.heappush(self._looks, (now + min(wait, LOOK_S), place, stamp))
        if wait < math.inf:
            heapq.heappush(self._frees, (now + wait, place, stamp))
            if len(self._frees) > 4 * len(self._members):
                self._frees = [one for one in self._frees if self._stamps[one[1]] == one[2]]
                heapq.heapify(self._frees)

    def _swap(self, one: int, other: int) -> None:
        drawn = self._drawn
        drawn[one], drawn[other] = drawn[other], drawn[one]
        self._at[drawn[one]] = one
        self._at[drawn[other]] = other
