"""How fast a pool can make pictures: what its groups may send, and what is free at once.

Owns the arithmetic over accounts; which of them are usable, and how long pictures take, the pool
knows. Promises nothing: other callers use the same accounts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from safelight.pool.decisions import Need
from safelight.pool.limiter import Limiter
from safelight.pool.meter import MINUTE_S
from safelight.pool.standing import State


@dataclass(frozen=True)
class Pace:
    """What a pool may send.

    Args:
        per_minute: images a minute that its limits allow; infinite where none is known.
        burst: images that may leave now; those after them are spaced.
        window_s: the time in which at most a minute's images leave, seconds.
        at_once: images that may be in flight; infinite where that is not bounded.
    """

    per_minute: float
    burst: float
    window_s: float
    at_once: float


def pace_of(usable: Sequence[State], need: Need, now: float) -> Pace:
    """Return what these accounts may send of one kind of job."""
    groups = {state.account.group: state.limiter for state in usable}
    bounds = [_cap(state) for state in usable]
    return Pace(
        per_minute=math.fsum(_per_minute(one, need, now) for one in groups.values()),
        burst=math.fsum(one.burst(need, now) for one in groups.values()),
        window_s=max((one.window_s for one in groups.values()), default=MINUTE_S),
        at_once=sum(bounds),
    )


def interval_s(usable: Sequence[State], typical_s: float, now: float) -> float:
    """Return the seconds between two images at what accounts may and can; 0: no limit.

    Args:
        usable: the accounts.
        typical_s: how long a picture takes; 0: not known, then what is in flight bounds nothing.
        now: monotonic seconds.
    """
    granted: dict[str, float] = {}
    made: dict[str, float] = {}
    for state in usable:
        group, at_once = state.account.group, state.account.max_in_flight
        granted[group] = state.limiter.own_per_minute(now) or math.inf
        bounded = at_once is not None and typical_s > 0
        each = MINUTE_S * (at_once or 0) / typical_s if bounded else math.inf
        made[group] = made.get(group, 0.0) + each
    per_minute = math.fsum(min(granted[group], made[group]) for group in granted)
    return MINUTE_S / per_minute if 0 < per_minute < math.inf else 0.0


def _cap(state: State) -> float:
    at_once = state.account.max_in_flight
    return math.inf if at_once is None else at_once


def _per_minute(limiter: Limiter, need: Need, now: float) -> float:
    """Return the images a minute of a group, inputs counted where they have a limit too."""
    images = limiter.own_per_minute(now) or math.inf
    return min(images, limiter.others_per_minute(need))
