"""The health of one account: taken out after failures in a row, let back carefully.

Owns ejection with half-open return and slow start, the refused credential, and what the account
lacks. All times are the caller's monotonic seconds.
"""

from __future__ import annotations

import math
import random
from collections import deque

from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.pool.decisions import Lease, Need
from safelight.pool.streak import Streak

OUTCOMES_S = 600.0
"""Outcomes are looked at for ten minutes: far longer than any call."""
OUTCOMES_ENOUGH = 10
FAILED_SHARE, FAILED_MORE_THAN_OTHERS = 0.5, 0.3
"""Out when at least half of the outcomes failed, and so much more than at the endpoint at large."""
FAIL_WEIGHT = 0.2
"""Weight of the newest outcome in the moving average of failures."""
SLOW_START_LEAST = 0.1
LACK_S, LACK_MAX_S = 600.0, 6 * 3600.0
"""What an account lacks is asked for again after this long; it doubles."""
_SLOW = (FaultClass.SLOW, FaultClass.BAD_OUTPUT)


class Health:
    """How one account does."""

    def __init__(self, policy: PoolConfig, rng: random.Random) -> None:
        self.refused = False
        """Its credential was refused; only a probe brings it back."""
        self.refusals = 0
        """Refusals in a row, for the pace of the probes."""
        self.ejected_until = -math.inf
        self.streak = Streak()
        self.fail_share = 0.0
        """Moving average of failures, 0 to 1."""
        self.reason = ""
        self._policy = policy
        self._rng = rng
        self._ejections = 0
        self._trial_at = -math.inf
        """When the attempt began that finds out if the account is back; -inf: none does."""
        self._newest_trial_at = -math.inf
        self._ejected_at = -math.inf
        self._returned_at = -math.inf
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._lacks: dict[tuple[str, ...], tuple[float, int]] = {}

    def ejected(self, now: float) -> bool:
        """Whether the account is out, or one attempt is finding out if it is back.

        A trial that takes very long does not keep the next one waiting.
        """
        return now < self.ejected_until or now - self._trial_at < self._policy.ejection_max_s

    @property
    def half_open(self) -> bool:
        """Whether the next attempt is a trial: the account was out and has not succeeded since."""
        return self.ejected_until > -math.inf

    def share(self, now: float) -> float:
        """Return the share of its load that a returning account shall take, 0.1 to 1."""
        grown = (now - self._returned_at) / self._policy.slow_start_s
        return min(1.0, max(SLOW_START_LEAST, grown))

    def lacks(self, need: Need, now: float) -> bool:
        """Whether the account is known not to serve this."""
        if not self._lacks:
            return False
        return any(self._lacks.get(key, (-math.inf, 0))[0] > now for key in _lack_keys(need))

    def leave(self, lease: Lease) -> None:
        """Note that an attempt leaves; it is a trial if the account was out."""
        self.streak.in_flight.add(lease)
        lease.trial = self.half_open
        if lease.trial:
            self._trial_at = self._newest_trial_at = lease.at

    def end(self, lease: Lease) -> None:
        """Note that an attempt has ended, however."""
        self.streak.in_flight.discard(lease)
        if lease.trial and lease.at == self._trial_at:
            self._trial_at = -math.inf

    def succeed(self, lease: Lease, now: float) -> None:
        """Book a delivered picture."""
        self._book(now, failed=False)
        self.refusals = 0
        for key in _lack_keys(lease.need):
            self._lacks.pop(key, None)
        if not self.streak.succeed(lease):
            return
        if self.half_open:
            self.ejected_until = -math.inf
            self._returned_at = now
            self.fail_share = min(self.fail_share, FAILED_SHARE)
        elif now - self._returned_at > self._policy.slow_start_s:
            self._ejections = 0

    def fail(self, lease: Lease, fault: FaultClass, now: float, *, others_fail: float) -> bool:
        """Book a failure; return whether the account should be taken out.

        Args:
            lease: of the failed attempt.
            fault: FAST, SLOW or BAD_OUTPUT.
            now: the present.
            others_fail: share of failures at the account's endpoint, 0 to 1.
        """
        self._book(now, failed=True)
        slow = fault in _SLOW
        bound = self._policy.eject_after_slow if slow else self._policy.eject_after_fast
        self.streak.fail(lease, 1 / bound, now)
        self.reason = str(fault)
        if lease.at < self._ejected_at:
            return False  # it left before the account was taken out, and says nothing new
        if lease.trial:
            return lease.at == self._newest_trial_at
        if self.streak.weight >= 1 - 1e-9 and not self.streak.survivors(now):
            return True
        failed = sum(1 for _, bad in self._outcomes if bad)
        share = failed / len(self._outcomes)
        return (
            len(self._outcomes) >= OUTCOMES_ENOUGH
            and share >= FAILED_SHARE
            and share - others_fail >= FAILED_MORE_THAN_OTHERS
        )

    def eject(self, now: float) -> None:
        """Take the account out for a while; each failed return makes it longer."""
        seconds = min(
            self._policy.ejection_s * 2**self._ejections, self._policy.ejection_max_s
        ) * self._rng.uniform(0.8, 1.0)
        self._ejections = min(self._ejections + 1, 30)
        self.ejected_until = now + seconds
        self._ejected_at = now
        self._outcomes.clear()

    def lack(self, need: Need, what: str, now: float) -> None:
        """Book that the account cannot serve a model, a size or edits."""
        key = _lack_key(need, what)
        _, times = self._lacks.get(key, (0.0, 0))
        self._lacks[key] = (now + min(LACK_S * 2**times, LACK_MAX_S), times + 1)
        self.reason = f"lacks {what}"

    def refuse(self) -> None:
        """Book a refused credential."""
        self.refused = True
        self.refusals += 1
        self.reason = "credential refused"

    def accept(self, now: float) -> None:
        """Say that a probe found the credential accepted: back, with a trial first."""
        self.refused = False
        self.ejected_until = now

    def _book(self, now: float, *, failed: bool) -> None:
        self.fail_share += FAIL_WEIGHT * (failed - self.fail_share)
        self._outcomes.append((now, failed))
        while self._outcomes and self._outcomes[0][0] < now - OUTCOMES_S:
            self._outcomes.popleft()


def _lack_key(need: Need, what: str) -> tuple[str, ...]:
    if what == "size":
        return (what, need.size)
    if what == "mask":
        # Some servers take a mask with one input only.
        return (what, str(need.inputs > 1))
    return (what,)


def _lack_keys(need: Need) -> list[tuple[str, ...]]:
    keys = [("model",), _lack_key(need, "size")]
    if need.edits:
        keys.append(("edits",))
    if need.mask:
        keys.append(_lack_key(need, "mask"))
    return keys
