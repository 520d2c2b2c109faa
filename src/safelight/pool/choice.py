"""Which accounts could serve a job at all, free or not; or why there are none.

Owns the order in which reasons count: nobody is configured for it, the operator paused them, their
credentials are refused, they cannot do this one thing, they have no money, they are down.
"""

from __future__ import annotations

from collections.abc import Iterable

from safelight.pool.crowd import able
from safelight.pool.decisions import REFUSED, UNFUNDED, Down, Need, Nothing, none_serves
from safelight.pool.standing import State

LEAST_WAIT_S = 0.05
PAUSED_LOOK_S = 1.0
"""How soon a waiting job is looked at again while all that could serve it is paused."""


def usable_among(states: Iterable[State], need: Need, now: float) -> list[State] | Down | Nothing:
    """Return the accounts that could serve, free or not; or why there are none."""
    serving = [s for s in states if able(s.account, need)]
    if not serving:
        return none_serves(need)
    working = [s for s in serving if not s.paused]
    # Queued jobs wait until an account is resumed; whoever waits on the line is told at once.
    return _usable(working, need, now) if working else Down(PAUSED_LOOK_S)


def _usable(working: list[State], need: Need, now: float) -> list[State] | Down | Nothing:
    accepted = [s for s in working if not s.health.refused]
    if not accepted:
        return REFUSED
    capable = [s for s in accepted if not s.health.lacks(need, now)]
    if not capable:
        return none_serves(need)
    funded = [s for s in capable if not s.limiter.exhausted(now)]
    if not funded:
        return UNFUNDED
    up = [s for s in funded if not s.endpoint.down]
    # Ejections leave at least half of an endpoint's accounts; all can be out of a smaller set,
    # and then the ones that return first are what there is.
    up = [s for s in up if not s.health.ejected(now)] or up
    canaries = [s for s in funded if s.endpoint.down and s.endpoint.canary_in(now) <= 0]
    if not up and not canaries:
        return Down(max(LEAST_WAIT_S, min(s.endpoint.canary_in(now) for s in funded)))
    return up + canaries
