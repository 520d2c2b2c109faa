"""One account as the pool keeps it, and as people are shown it.

Owns the shape of both; the pool changes what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.pool.endpoint import Endpoint
from safelight.pool.health import Health
from safelight.pool.limiter import Limiter
from safelight.types import Account


@dataclass(frozen=True)
class AccountView:
    """How an account does, for people: `state` in one word, `until_s` from now where known."""

    account: Account
    state: str
    reason: str
    until_s: float | None
    in_flight: int
    score: float = 1.0
    """How the pool finds it beside the others: 1 is the usual one without a fault, 0 the worst."""
    fail_share: float = 0.0
    """Moving share of its attempts that failed."""


@dataclass(eq=False)
class State:
    """An account with what it shares with others, and what was measured of it."""

    account: Account
    limiter: Limiter
    endpoint: Endpoint
    health: Health
    in_flight: int = 0
    latency_s: float = 0.0
    """Moving average over delivered pictures; 0: none yet."""
    cost_micros: float = 0.0
    """Moving average of the vendor's price per delivered picture; 0: unknown."""
    paused: bool = False
    """The operator wants no new attempt from it."""


def view(state: State, now: float, *, score: float = 1.0) -> AccountView:
    """Return how an account does now, monotonic seconds."""
    health, limiter = state.health, state.limiter
    word, reason, until = "ready", "", None
    if state.paused:
        word, reason = "paused", "by the operator"
    elif health.refused:
        word, reason = "refused", health.reason
    elif limiter.exhausted(now):
        word, reason = "exhausted", "no money upstream"
        until = max(0.0, limiter.exhausted_until - now)
    elif state.endpoint.down:
        word, reason, until = "down", "endpoint", state.endpoint.canary_in(now)
    elif now < health.ejected_until:
        word, reason, until = "ejected", health.reason, health.ejected_until - now
    elif health.half_open:
        word, reason = "returning", health.reason
    elif limiter.cooling_until > now:
        word, reason, until = "cooling", "rate limit", limiter.cooling_until - now
    return AccountView(
        state.account, word, reason, until, state.in_flight, score, health.fail_share
    )
