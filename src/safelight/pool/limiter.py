"""A limiter group: what the accounts of one organisation or project may send together.

Owns the group's meters, its cooling after refusals and its exhaustion when no money is left
upstream. All times are the caller's monotonic seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from safelight.config import PoolConfig
from safelight.errors import UpstreamError
from safelight.notices import LimitNotice
from safelight.pool.decisions import Need
from safelight.pool.meter import MINUTE_S, Meter, Spent
from safelight.types import Account

BLIND_COOLING_S, BLIND_COOLING_MAX_S = 5.0, 120.0
"""Cooling after a refusal that names no wait: first step and cap; it doubles in between."""

IMAGES, INPUT_IMAGES, REQUESTS = "images", "input-images", "requests"


@dataclass(frozen=True)
class Learnt:
    """What is worth keeping of a group over a restart; times are seconds from now."""

    images_per_minute: float | None
    learnt: bool
    configured: float | None
    cooling_s: float
    exhausted_s: float
    others: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    """By unit: what was learnt of it, and what was configured."""


class Limiter:
    """The budget of one group.

    Args:
        account: any account of the group; all state the same limits.
        policy: bursts, guards and bounds.
        rng: spreads the ends of coolings.
    """

    def __init__(self, account: Account, policy: PoolConfig, rng: random.Random) -> None:
        self.configured = account.images_per_minute
        self.meters = {
            IMAGES: Meter(account.images_per_minute, policy),
            INPUT_IMAGES: Meter(account.input_images_per_minute, policy),
            REQUESTS: Meter(account.requests_per_minute, policy),
        }
        self.cooling_until = -math.inf
        self.exhausted_until = -math.inf
        self.changed = False
        """Whether something worth keeping has changed since `keep` was last called."""
        self._policy = policy
        self._rng = rng
        self._exhausted_at = -math.inf
        self._blind_coolings = 0
        self._blocked_until = -math.inf
        self._trial = False

    @property
    def images_per_minute(self) -> float | None:
        """What the group may send now; None: no limit is known."""
        return self.meters[IMAGES].per_minute

    def sent(self, now: float) -> int:
        """Return how many images this process has sent for in the last minute."""
        return self.meters[IMAGES].used(now)

    def own_per_minute(self, now: float) -> float | None:
        """Return what this process may expect to send of it; others may use the same group."""
        rate = self.images_per_minute
        if rate is None or now > self._blocked_until + MINUTE_S:
            return rate
        return max(1.0, min(rate, self.meters[IMAGES].used(now)))

    def others_per_minute(self, need: Need) -> float:
        """Return the images a minute that the limits of inputs and requests leave."""
        counts = [(self.meters[unit].per_minute, n) for unit, n in _units(need) if unit != IMAGES]
        return min((rate / n for rate, n in counts if rate is not None and n), default=math.inf)

    def burst(self, need: Need, now: float) -> float:
        """Return how many images of such jobs may leave now, one after the other."""
        if max(self.cooling_until, self._blocked_until) > now:
            return 0.0
        return min(self.meters[unit].burst(now) // n for unit, n in _units(need) if n)

    @property
    def window_s(self) -> float:
        """In how many seconds at most a minute's images leave."""
        return self.meters[IMAGES].window_s

    def exhausted(self, now: float) -> bool:
        """Whether the group has no money upstream, as far as is known."""
        return now < self.exhausted_until or (self._trial and self.exhausted_until > -math.inf)

    @property
    def on_trial(self) -> bool:
        """Whether one attempt is finding out if the group has money again."""
        return self._trial

    def free_in(self, need: Need, now: float) -> float:
        """Return seconds until an attempt fits; 0 when it fits now."""
        wait = max(self.cooling_until - now, self._blocked_until - now, 0.0)
        for unit, count in _units(need):
            meter = self.meters[unit]
            if meter.per_minute is not None and count:
                wait = max(wait, meter.free_in(now, count))
        return wait

    def spend(self, need: Need, now: float) -> dict[str, Spent]:
        """Count an attempt that is about to leave."""
        if self.exhausted_until > -math.inf:
            self._trial = True
        before = self._rates()
        spent = {unit: self.meters[unit].spend(now, count) for unit, count in _units(need)}
        self.changed |= before != self._rates()
        return spent

    def take_back(self, spent: dict[str, Spent]) -> None:
        """Forget an attempt that did not leave."""
        self._trial = False
        for unit, part in spent.items():
            self.meters[unit].take_back(part)

    def block(self, seconds: float, now: float) -> None:
        """Let nothing out for `seconds`: other processes have used the budget."""
        self._blocked_until = max(self._blocked_until, now + seconds)

    def grant(self, left_at: float) -> None:
        """Learn that the vendor has taken an attempt that left then."""
        self._blind_coolings = 0
        self._trial = False
        if self.exhausted_until > -math.inf and left_at >= self._exhausted_at:
            self.exhausted_until = -math.inf
            self.changed = True
        for meter in self.meters.values():
            meter.grant()

    def refuse(
        self, spent: dict[str, Spent], error: UpstreamError, now: float, granted: int | None
    ) -> None:
        """Learn from a 429: cool, and lower the limit that was reached."""
        self._trial = False
        unit = getattr(error, "unit", None) or IMAGES
        if unit in self.meters and unit in spent:
            self.meters[unit].refuse(spent[unit], now, granted if unit == IMAGES else None)
        for other, part in spent.items():
            if other != unit:
                part.granted = False
        self.changed = True
        if error.retry_after_s is None:
            step = min(BLIND_COOLING_S * 2**self._blind_coolings, BLIND_COOLING_MAX_S)
            self._blind_coolings += 1
            seconds = self._rng.uniform(step / 2, step)
        else:
            seconds = min(error.retry_after_s, self._policy.cooling_max_s)
            seconds *= self._rng.uniform(1.0, 1.1)
        self.cooling_until = max(self.cooling_until, now + seconds)

    def exhaust(self, now: float) -> None:
        """Learn that there is no money upstream."""
        self._trial = False
        self.exhausted_until = now + self._policy.exhausted_s
        self._exhausted_at = now
        self.changed = True

    def notice(self, told: tuple[LimitNotice, ...], now: float, *, age_s: float) -> None:
        """Learn from the headers of an answer to an attempt that left `age_s` ago."""
        before = self._rates()
        for notice in told:
            self.meters[notice.unit].notice(notice, now, age_s=age_s)
        self.changed |= before != self._rates()

    def _rates(self) -> list[float | None]:
        return [meter.per_minute for meter in self.meters.values()]

    def end_trial(self) -> None:
        """Say that the attempt on trial has told nothing."""
        self._trial = False

    def keep(self, now: float) -> Learnt:
        """Return what another process, or the next one, shall know."""
        self.changed = False
        return Learnt(
            self.images_per_minute,
            self.meters[IMAGES].learnt,
            self.configured,
            max(0.0, self.cooling_until - now),
            max(0.0, self.exhausted_until - now),
            {
                unit: (meter.per_minute, meter.configured)
                for unit, meter in self.meters.items()
                if unit != IMAGES and meter.learnt and meter.per_minute is not None
            },
        )

    def adopt(self, learnt: Learnt, now: float) -> None:
        """Take over what was learnt elsewhere, unless the operator has changed the limit since."""
        if learnt.configured == self.configured:
            self.meters[IMAGES].adopt(learnt.images_per_minute, learnt=learnt.learnt, now=now)
        for unit, (per_minute, configured) in learnt.others.items():
            if unit in self.meters and configured == self.meters[unit].configured:
                self.meters[unit].adopt(per_minute, learnt=True, now=now)
        # What lasts longer than any such time was written before the wall clock was set back.
        cooling_s = min(learnt.cooling_s, self._policy.cooling_max_s)
        exhausted_s = min(learnt.exhausted_s, self._policy.exhausted_s)
        if cooling_s > 0:
            self.cooling_until = max(self.cooling_until, now + cooling_s)
        if exhausted_s > 0:
            self.exhausted_until = max(self.exhausted_until, now + exhausted_s)
        else:
            self.exhausted_until = -math.inf  # another process has found money again


def _units(need: Need) -> tuple[tuple[str, int], ...]:
    return ((IMAGES, 1), (INPUT_IMAGES, need.inputs), (REQUESTS, 1))
