"""Many accounts: a decision among a thousand that costs what one among ten does.

Owns which accounts are looked at for it, and when it takes a look at all of them: where something
is down, on its way back or of no use to the job, the pool decides with all in view, as with few.
Chooses among equals by lot alone; what is better, and when an account is free, the pool says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection

from safelight.pool.decisions import Need
from safelight.pool.endpoint import Endpoint
from safelight.pool.lineup import Lineup
from safelight.pool.standing import State
from safelight.types import Account

FreeIn = Callable[[State, Need, float, dict[str, float]], float]


class Crowd:
    """The accounts of a pool that has many.

    Args:
        states: all of them.
        free_in: in how many seconds one of them is free; told the need, the time and groups' waits.
        rng: draws.
    """

    def __init__(self, states: Collection[State], free_in: FreeIn, rng: random.Random) -> None:
        self._states = states
        self._free_in = free_in
        self._rng = rng
        self._lineups: dict[tuple[str, bool], list[Lineup[State]]] = {}
        """By kind of job, one for each tier, the lowest first."""
        self._groups: dict[str, list[State]] = {}
        for state in states:
            self._groups.setdefault(state.account.group, []).append(state)
        self._one_endpoint = len({state.endpoint for state in states}) == 1
        self._returning: set[State] = set()
        """Accounts that were out and have not succeeded since."""
        self._down: set[Endpoint] = set()

    def pick(
        self,
        need: Need,
        now: float,
        *,
        tried: frozenset[str],
        but_groups: frozenset[str],
        most: int,
    ) -> list[State] | float | None:
        """Return at most so many free accounts, drawn by lot from the lowest tier that has any.

        Where none is free: in how many seconds the first may be. None: only a look at all tells.
        """
        if self._down or any(not state.health.ejected(now) for state in self._returning):
            return None
        if tried and not self._one_endpoint:
            return None  # endpoints that have failed the job come last
        budgets: dict[str, float] = {}
        plain = Need(need.channel, need.edits, need.size)
        passed_over: list[State] = []

        def look(state: State) -> float:
            if _out(state, now):
                return math.inf
            return self._free_in(state, plain, now, budgets)

        def suits(state: State) -> bool:
            account = state.account
            if (
                account.name in tried
                or account.group in but_groups
                or state.health.lacks(need, now)
                or (need.inputs and state.limiter.free_in(need, now) > 0)
            ):
                passed_over.append(state)
                return False
            return True

        lines = self._lines(need)
        for line in lines:
            drawn: list[State] = []
            shy: list[State] = []
            for state in line.draw(now, self._rng, look, suits):
                # A returning account is left out now and then, while others can serve.
                eager = state.health.share(now) >= self._rng.random()
                (drawn if eager else shy).append(state)
                if len(drawn) == most:
                    break
            if drawn or shy:
                return drawn or shy[:most]
            if passed_over:
                return None
        waits = [wait for line in lines if (wait := line.soonest(now)) is not None]
        return min(waits, default=None)

    def wake(self, state: State) -> None:
        """Say that something was booked on an account: it may be free now."""
        for lines in self._lineups.values():
            for line in lines:
                line.wake(state)

    def wake_group(self, state: State) -> None:
        """Say that the account's limiter group has got back some of its budget."""
        for one in self._groups[state.account.group]:
            self.wake(one)

    def note(self, state: State) -> None:
        """Note whether an account is on its way back, and whether its endpoint is down."""
        if state.health.half_open:
            self._returning.add(state)
        elif state in self._returning:
            self._returning.discard(state)
            self.wake(state)
        if state.endpoint.down:
            self._down.add(state.endpoint)
        else:
            self._down.discard(state.endpoint)

    def _lines(self, need: Need) -> list[Lineup[State]]:
        if need.kind not in self._lineups:
            serving = [state for state in self._states if able(state.account, need)]
            tiers = sorted({state.account.tier for state in serving})
            self._lineups[need.kind] = [
                Lineup([state for state in serving if state.account.tier == tier]) for tier in tiers
            ]
        return self._lineups[need.kind]


def _out(state: State, now: float) -> bool:
    """Return whether an account is to get nothing now, whatever its limits say."""
    return (
        state.paused
        or state.health.refused
        or state.health.ejected(now)
        or state.limiter.exhausted(now)
    )


def able(account: Account, need: Need) -> bool:
    """Return whether an account is configured to serve such jobs."""
    return need.channel in account.channels and (account.edits or not need.edits)
