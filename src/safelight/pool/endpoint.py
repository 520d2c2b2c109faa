"""An endpoint: what fails as one, whatever account is used (a host: its DNS, its TLS, its outages).

Owns the breaker that keeps traffic away while everything fails, the canaries that find out when it
is back, and the quota of retries. All times are the caller's monotonic seconds.
"""

from __future__ import annotations

import math

from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.pool.decisions import Lease
from safelight.pool.streak import Streak

OPEN_AFTER = 20.0
"""Failures in a row, over all accounts, after which the endpoint counts as down: where four in ten
calls fail, that many in a row happen once in a hundred million."""
_WEIGHTS = {FaultClass.LOCAL: 4.0, FaultClass.SLOW: 2.0}
"""A refused connection says more than a 500, and a timeout has cost more time."""
SURVIVORS = 3
"""Attempts that outlive the failures by far keep the breaker closed."""
FAIL_WEIGHT = 0.05
FIRST_TRY_REWARD = 0.1
TOKENS_PER_CALL = 4.0
"""Size of the quota for each call in flight. Every job in flight may hold the tokens of its retries
until it ends; where four in ten calls fail that is one to two on average. A quota that runs dry
then would never fill again, because the jobs that fail for want of tokens return none."""
PEAK_DECAY = 0.999

RETRY_COSTS = {
    FaultClass.THROTTLED: 0.25,
    FaultClass.AUTH: 0.25,
    FaultClass.QUOTA: 0.25,
    FaultClass.CAPABILITY: 0.25,
    FaultClass.FAST: 1.0,
    FaultClass.LOCAL: 1.0,
    FaultClass.SLOW: 2.0,
    FaultClass.BAD_OUTPUT: 2.0,
}


class Endpoint:
    """Breaker and retry quota of one endpoint."""

    def __init__(self, policy: PoolConfig) -> None:
        self.fail_share = 0.0
        """Moving average of failures over all its accounts, 0 to 1."""
        self._policy = policy
        self._streak = Streak()
        self._opened_at: float | None = None
        self._canaries: set[Lease] = set()
        self._next_canary_at = -math.inf
        self._tokens = float(policy.retry_tokens)
        self._peak = 0.0
        """Most calls in flight of late."""

    # --- the breaker -----------------------------------------------------------------------

    @property
    def down(self) -> bool:
        """Whether everything failed of late; only canaries go out."""
        return self._opened_at is not None

    def canary_in(self, now: float) -> float:
        """Return seconds until a canary may go out; 0: now. Only asked while the endpoint is down.

        One goes out every `canary_s`. Each that has outlived its fellows by far lets two more out,
        so that traffic returns within seconds of the healing, not after a whole picture's time.
        """
        survives_s = self._streak.survival_s
        ages = [now - canary.at for canary in self._canaries]
        survivors = sum(1 for age in ages if age >= survives_s)
        if survivors and len(ages) < 1 + 2 * survivors:
            return 0.0
        next_survivor = min(
            (survives_s - age for age in ages if age < survives_s), default=math.inf
        )
        return max(0.0, min(self._next_canary_at - now, next_survivor))

    def leave(self, lease: Lease) -> None:
        """Note that an attempt leaves."""
        self._streak.in_flight.add(lease)
        before = self._size()
        self._peak = max(len(self._streak.in_flight), self._peak * PEAK_DECAY)
        self._tokens = max(0.0, self._tokens + self._size() - before)
        if self.down:
            self._canaries.add(lease)
            self._next_canary_at = lease.at + self._policy.canary_s

    def end(self, lease: Lease) -> None:
        """Note that an attempt has ended, however."""
        self._streak.in_flight.discard(lease)
        self._canaries.discard(lease)

    def succeed(self, lease: Lease) -> None:
        """Book an answer that shows the endpoint alive, at least when its attempt began."""
        self.fail_share -= FAIL_WEIGHT * self.fail_share
        if self._streak.succeed(lease):
            self._opened_at = None
            self._canaries.clear()

    def fail(self, lease: Lease, fault: FaultClass, now: float) -> None:
        """Book a failure that may be the endpoint's."""
        self.fail_share += FAIL_WEIGHT * (1 - self.fail_share)
        self._streak.fail(lease, _WEIGHTS.get(fault, 1.0), now)
        if self._opened_at is not None or self._streak.weight < OPEN_AFTER:
            return
        if self._streak.survivors(now) < SURVIVORS:
            self._opened_at = now
            self._next_canary_at = now + self._policy.canary_s

    # --- the quota of retries ----------------------------------------------------------------

    def pay(self, fault: FaultClass) -> float | None:
        """Take the tokens of one retry; return how many, or None when there are too few."""
        cost = RETRY_COSTS.get(fault, 1.0)
        if self._tokens < cost:
            return None
        self._tokens -= cost
        return cost

    def repay(self, tokens: float) -> None:
        """Return what a job has spent, now that it has succeeded; a first try adds a little."""
        self._tokens = min(self._size(), self._tokens + (tokens or FIRST_TRY_REWARD))

    def _size(self) -> float:
        return max(self._policy.retry_tokens, TOKENS_PER_CALL * self._peak)
