"""One limit of a limiter group: how much may be sent when, and what the limit really is.

Owns the count of one unit (images, input images or requests) and its learning. Knows no account,
no cooling and no I/O; all times are the caller's monotonic seconds.

Two rules bound what is sent. A GCRA (generic cell rate algorithm, ITU-T I.371) spaces it, with a
small burst, because a limit per minute may be enforced per second. A log of the last minute makes
sure that no minute, wherever it begins, holds more than the limit: a GCRA alone would let the burst
come on top of it.

Learning: the vendor's refusal tells the limit, for when it comes the vendor has just granted
exactly that much within a minute. Without a refusal the limit is raised in growing steps, where
that is allowed, and only while the meter is used up; after a refusal it rests for long enough that
refusals stay below one in a hundred.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass

from safelight.config import PoolConfig
from safelight.notices import LimitNotice

MINUTE_S = 60.0
STEP_SHARE = 0.05
"""First raise of a limit that was not refused, as a share of it; at least one unit."""
STEPS_DOUBLED = 6
"""How often a raise is doubled while no refusal comes."""
REST_S = 300.0
"""Least time after a refusal before the limit is raised again ..."""
REST_UNITS = 100
"""... and least units that have to go out in it: so that refusals stay below one in a hundred."""
SATURATED = 0.9
"""Share of the limit that must have been used before raising it says anything."""
LEAST_PER_MINUTE = 0.1
FRESH_S = 5.0
"""Age beyond which an answer's `remaining` is not looked at."""
GRANTED_ENOUGH = 5
"""Units in a minute below which the first refusal of a meter without a limit tells nothing."""


@dataclass(eq=False, slots=True)
class Spent:
    """Units that were sent at `at`; `granted` is False once the vendor has refused them."""

    at: float
    units: int
    granted: bool = True


class Meter:
    """Counts one unit of one group.

    Args:
        configured: units per minute as the operator says; None: no limit is known yet.
        policy: bursts, guard and whether to learn above what is configured.
    """

    def __init__(self, configured: float | None, policy: PoolConfig) -> None:
        self.per_minute = configured
        self.learnt = False
        self.configured = configured
        self._policy = policy
        self._log: deque[Spent] = deque()
        self._used = 0
        """Units in the log."""
        self._full_at = -math.inf
        self._changed_at = -math.inf
        self._refused_at = -math.inf
        self._raises = 0
        self._blind = False
        self._granted_since_refusal = True

    @property
    def ceiling(self) -> float:
        """The limit that learning may not pass, units per minute."""
        if self.configured is None or self._policy.learn_above_configured:
            return math.inf
        return self.configured

    @property
    def window_s(self) -> float:
        """Length of the window in which at most `capacity` units are sent, seconds."""
        rate = self.per_minute or math.inf
        return max(MINUTE_S, MINUTE_S / rate) + self._policy.window_guard_s

    @property
    def capacity(self) -> int:
        """Units that fit into one window."""
        rate = self.per_minute
        assert rate is not None
        return max(1, math.floor(rate + 1e-9))

    def used(self, now: float) -> int:
        """Return the units of the last minute."""
        self._forget(now)
        return self._used

    def free_in(self, now: float, units: int = 1) -> float:
        """Return seconds until `units` more fit; 0 when they fit now.

        More units than the capacity fit when nothing else is in the window.
        """
        if self.per_minute is None or units == 0:
            return 0.0
        self._forget(now)
        spaced = self._full_at - self._burst_s() - now
        return max(0.0, spaced, self._window_free_in(now, units))

    def burst(self, now: float) -> float:
        """Return how many units may be sent now, one after the other without a pause."""
        if self.per_minute is None:
            return math.inf
        ahead_s = self._burst_s() - max(0.0, self._full_at - now)
        # Sums of intervals are a hair off: what is a hair late fits.
        spaced = math.floor(ahead_s / self._interval_s() + 1e-9) + 1
        return max(0, min(spaced, self.capacity - self.used(now)))

    def spend(self, now: float, units: int = 1) -> Spent:
        """Count units that are about to be sent."""
        if self.per_minute is not None:
            self._maybe_raise(now, units)
            self._full_at = max(self._full_at, now) + units * self._interval_s()
        spent = Spent(now, units)
        if units:
            self._forget(now)
            self._log.append(spent)
            self._used += units
        return spent

    def take_back(self, spent: Spent) -> None:
        """Forget units that were not sent after all."""
        if spent in self._log:
            self._log.remove(spent)
            self._used -= spent.units
            if self.per_minute is not None:
                self._full_at -= spent.units * self._interval_s()

    def grant(self) -> None:
        """Learn that the vendor has taken something."""
        self._granted_since_refusal = True

    def refuse(self, spent: Spent, now: float, granted: int | None = None) -> None:
        """Learn from a refusal.

        Args:
            spent: what was refused.
            now: the present.
            granted: units that the vendor granted to all processes in the minute before; None: as
                this meter has counted.
        """
        spent.granted = False
        self._refused_at = now
        if spent.at < self._changed_at:
            return  # it left before the newest lesson
        if granted is None:
            granted = self._granted_before(spent)
        rate = self.per_minute
        if rate is None:
            self._set(max(1.0, granted), now)
            self._blind = granted < GRANTED_ENOUGH
        elif not self._granted_since_refusal or granted < rate / 2:
            # Refused again and again, or long before the limit was used up: what was granted says
            # little, it may be somebody else's traffic or a bad moment. Halve, and soon try more.
            self._set(rate / 2, now)
            self._blind = True
        elif granted < rate:
            self._set(granted, now)
        else:
            self._set(min(rate * 0.9, max(rate - 1, rate / 2)), now)
        self._granted_since_refusal = False

    def notice(self, told: LimitNotice, now: float, *, age_s: float = 0.0) -> None:
        """Learn from the vendor's headers: its limit, and what others have used of it.

        A limit that was just learnt from a refusal is not raised because a header says so, and
        `remaining` can only lower what is free here.

        Args:
            told: by one answer.
            now: the present.
            age_s: how long ago the attempt left: what remained then says little about now.
        """
        if told.limit is not None and told.limit > 0:
            limit = min(told.limit, self.ceiling)
            lower = self.per_minute is not None and limit < self.per_minute
            if lower or (limit != self.per_minute and now - self._refused_at > REST_S):
                self._set(limit, now)
        if told.remaining is None or self.per_minute is None or age_s > FRESH_S:
            return
        self._forget(now)
        own = self.capacity - self._used
        foreign = math.ceil(own - told.remaining)
        if foreign > 0:
            lasts = min(told.reset_s if told.reset_s is not None else MINUTE_S, MINUTE_S)
            others = Spent(now - self.window_s + lasts, foreign)
            place = bisect.bisect(self._log, others.at, key=lambda spent: spent.at)
            self._log.insert(place, others)
            self._used += foreign

    def adopt(self, per_minute: float | None, *, learnt: bool, now: float) -> None:
        """Take over what another process, or this one before a restart, has learnt."""
        if per_minute != self.per_minute:
            self.per_minute = None if per_minute is None else min(per_minute, self.ceiling)
            self._changed_at = now
            self._raises = 0
            if self.per_minute is not None and self.per_minute != self.configured:
                self._refused_at = now  # it was learnt from a refusal: rest before trying more
        self.learnt = learnt

    def _set(self, per_minute: float, now: float) -> None:
        self.per_minute = min(max(LEAST_PER_MINUTE, per_minute), self.ceiling)
        self.learnt = True
        self._changed_at = now
        self._raises = 0
        self._blind = False

    def _maybe_raise(self, now: float, units: int) -> None:
        """Raise a limit that is used up and has not been refused for long enough."""
        rate = self.per_minute
        assert rate is not None
        if rate >= self.ceiling or now - self._changed_at < self._rest_s(rate):
            return
        used = units + sum(spent.units for spent in self._log if spent.granted)
        if used < self.capacity * SATURATED:
            return
        step = max(1.0, STEP_SHARE * rate) * 2**self._raises
        self.per_minute = min(rate + step, rate * 2 + 1, self.ceiling)
        self.learnt = True
        self._changed_at = now
        self._raises = min(self._raises + 1, STEPS_DOUBLED)

    def _rest_s(self, rate: float) -> float:
        if self._raises or self._blind or self._refused_at == -math.inf:
            return self.window_s
        return max(REST_S, REST_UNITS * MINUTE_S / rate)

    def _granted_before(self, spent: Spent) -> int:
        since = spent.at - MINUTE_S
        return sum(
            other.units
            for other in self._log
            if other is not spent and other.granted and since < other.at <= spent.at
        )

    def _interval_s(self) -> float:
        assert self.per_minute is not None
        return MINUTE_S / self.per_minute

    def _burst_s(self) -> float:
        """How far ahead of its even spacing the meter may be: at least one unit."""
        assert self.per_minute is not None
        burst = max(1.0, self.per_minute * self._policy.burst_share)
        return (burst - 1) * self._interval_s()

    def _window_free_in(self, now: float, units: int) -> float:
        over = self._used + units - max(self.capacity, units)
        if over <= 0:
            return 0.0
        for spent in self._log:
            over -= spent.units
            if over <= 0:
                return max(0.0, spent.at + self.window_s - now)
        return 0.0

    def _forget(self, now: float) -> None:
        # Longer than the window, which a raise may lengthen again.
        since = now - self.window_s
        while self._log and self._log[0].at <= since:
            self._used -= self._log.popleft().units
