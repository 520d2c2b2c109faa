"""The pool: which account may make the next attempt, or when one will.

Pure decisions on in-memory state with an injected clock; nothing here waits, sends or stores. Each
fault is booked where it belongs: on the endpoint (`endpoint.py`), on the limiter group
(`limiter.py`, `meter.py`) or on the account (`health.py`). Docs: docs/pool.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable

from safelight.clock import Clock
from safelight.config import PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.notices import LimitNotice
from safelight.pool.choice import LEAST_WAIT_S, usable_among
from safelight.pool.crowd import Crowd
from safelight.pool.decisions import (
    Decision,
    Down,
    Lease,
    Need,
    Nothing,
    Wait,
)
from safelight.pool.endpoint import Endpoint
from safelight.pool.health import Health
from safelight.pool.hedging import HedgeBudget
from safelight.pool.latency import Latencies
from safelight.pool.limiter import Learnt, Limiter
from safelight.pool.lineup import LOOK_S
from safelight.pool.pacing import Pace, interval_s, pace_of
from safelight.pool.standing import AccountView, State, view
from safelight.types import Account, Micros

__all__ = [
    "AccountView",
    "Decision",
    "Down",
    "Learnt",
    "Lease",
    "Need",
    "Nothing",
    "Pace",
    "Pool",
    "Wait",
]

FEW = 32
"""So many accounts, and fewer, are all looked at for each decision."""
PACES_MAX = 1000
OCCUPIED_S = 1.0
"""When to look again at an account that has as much in flight as it may; an end comes sooner."""
LATENCY_WEIGHT = 0.1
SOFT_TIMEOUT_UNKNOWN_S = 100.0
"""Until enough pictures are measured."""
SUSPICION_ODDS = 0.1
"""Odds that a suspected attempt is only slow."""
STALL_WEIGHT = 0.02
FAIL_FACTOR = 4.0
"""How much worse an account looks that always fails."""


class Pool:
    """The accounts and what is known of them.

    Args:
        accounts: as configured; a group shares its limiter, a host its endpoint.
        clock: monotonic time.
        rng: spreads load and the ends of waits; guards nothing.
        policy: the [pool] section.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        clock: Clock,
        rng: random.Random | None = None,
        policy: PoolConfig | None = None,
    ) -> None:
        self.policy = policy or PoolConfig()
        self.latencies = Latencies()
        self.hedges = HedgeBudget(self.policy.hedge_share)
        self._stall_share = 0.0
        """Moving average over attempts that delivered or stalled, 0 to 1."""
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  (spreads load; guards nothing)
        self.limiters: dict[str, Limiter] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._states = {account.name: self._open(account) for account in accounts}
        many = len(self._states) > FEW
        self._crowd = Crowd(self._states.values(), self._free_in, self._rng) if many else None
        self._paces: dict[Need, tuple[float, float]] = {}
        """Paces, and until when they count."""
        self._usual = (0.0, 0.0)
        """Medians of latency and of cost."""
        self._usual_for = 0
        """For how many pictures more the medians count."""

    def _open(self, account: Account) -> State:
        if account.group not in self.limiters:
            self.limiters[account.group] = Limiter(account, self.policy, self._rng)
        endpoint = self._endpoints.setdefault(account.endpoint, Endpoint(self.policy))
        health = Health(self.policy, self._rng)
        return State(account, self.limiters[account.group], endpoint, health)

    # --- deciding ----------------------------------------------------------------------------

    def acquire(
        self,
        need: Need,
        *,
        tried: frozenset[str] = frozenset(),
        but_groups: frozenset[str] = frozenset(),
    ) -> Decision:
        """Decide who makes the next attempt of a job.

        Args:
            need: what the job needs.
            tried: names of accounts that have failed this job; they come last.
            but_groups: limiter groups that must not be used.
        """
        now = self._clock.monotonic()
        quick = self._quickly(need, now, tried, but_groups)
        if quick is not None:
            return self._lease(quick, need, now) if isinstance(quick, State) else quick
        usable = self._usable(need, now)
        if not isinstance(usable, list):
            return usable
        usable = [s for s in usable if s.account.group not in but_groups]
        if not usable:
            return Wait(OCCUPIED_S)
        budgets: dict[str, float] = {}
        waits = [(self._free_in(s, need, now, budgets), s) for s in usable]
        ready = [state for wait, state in waits if wait <= 0]
        if not ready:
            soonest = max(LEAST_WAIT_S, min(wait for wait, _ in waits))
            up = any(not state.endpoint.down for state in usable)
            return Wait(soonest) if up else Down(soonest)
        return self._lease(self._best(ready, tried, now), need, now)

    def forecast(self, need: Need) -> Wait | Down | Nothing:
        """Say when the next budget is expected, without taking it (0 s: now)."""
        now = self._clock.monotonic()
        quick = self._quickly(need, now, frozenset(), frozenset(), most=1)
        if quick is not None:
            return quick if isinstance(quick, Wait) else Wait(0.0)
        usable = self._usable(need, now)
        if not isinstance(usable, list):
            return usable
        budgets: dict[str, float] = {}
        soonest = min(self._free_in(state, need, now, budgets) for state in usable)
        up = any(not state.endpoint.down for state in usable)
        return Wait(soonest) if up or soonest <= 0 else Down(soonest)

    def pace_s(self, need: Need) -> float:
        """Return the seconds between two images at what the accounts may and can; 0: no limit."""
        now = self._clock.monotonic()
        if len(self._states) <= FEW:
            return self._pace_s(need, now)
        until, pace_s = self._paces.get(need, (-math.inf, 0.0))
        if now >= until:
            pace_s = self._pace_s(need, now)
            if len(self._paces) >= PACES_MAX:
                self._paces.clear()
            self._paces[need] = now + LOOK_S, pace_s
        return pace_s

    def _pace_s(self, need: Need, now: float) -> float:
        usable = self._usable(need, now)
        return interval_s(usable, self.typical_s(need), now) if isinstance(usable, list) else 0.0

    def pace(self, need: Need) -> Pace | None:
        """Return what the accounts may send of such jobs now; None where none can serve them."""
        now = self._clock.monotonic()
        usable = self._usable(need, now)
        return pace_of(usable, need, now) if isinstance(usable, list) else None

    def typical_s(self, need: Need) -> float:
        """Return how long half of the pictures take at most; 0: not known yet."""
        return self.latencies.typical(size=need.size) or 0.0

    def long_s(self, need: Need) -> float:
        """Return how long 98 of 100 pictures take at most; 0: not known yet."""
        return self.latencies.quantile(0.98, size=need.size) or 0.0

    def soft_timeout_s(self, account: Account, need: Need) -> float:
        """Return after how long an attempt looks stalled: slower than 99 of 100 pictures.

        Where stalls are common a slow attempt is more likely one of them, so that less patience is
        due: down to the 95th percentile, such that nine of ten suspicions are right (Bayes).
        """
        stalls = min(self._stall_share, 0.5)
        share = 1 - SUSPICION_ODDS * stalls / (1 - stalls)
        slowest = self.latencies.quantile(min(max(share, 0.95), 0.99), account.model, need.size)
        if slowest is None:
            slowest = SOFT_TIMEOUT_UNKNOWN_S
        return min(max(slowest, self.policy.soft_timeout_min_s), self.policy.soft_timeout_max_s)

    # --- booking -----------------------------------------------------------------------------

    def drop(self, lease: Lease, *, sent: bool = True) -> None:
        """Hand a lease back whose attempt says nothing about the account.

        Args:
            lease: to hand back.
            sent: False when nothing left, so that its budget is not spent.
        """
        state = self._states[lease.account.name]
        self._end(state, lease)
        state.limiter.end_trial()
        if not sent:
            self._take_back(state, lease)

    def release(
        self,
        lease: Lease,
        error: UpstreamError | None,
        *,
        granted: int | None = None,
        cost_micros: Micros | None = None,
        limits: tuple[LimitNotice, ...] = (),
        deadline: float = math.inf,
    ) -> None:
        """Hand a lease back and book the attempt's outcome where it belongs.

        Args:
            lease: to hand back.
            error: the fault, or None for a complete answer; `delivered` or `blame` follows when it
                has been looked at.
            granted: after a 429, what the vendor granted to the group in the minute before.
            cost_micros: the vendor's price of the picture, if known.
            limits: what the answer's headers said.
            deadline: of the job; an attempt that it cut short says nothing about the account.
        """
        now = self._clock.monotonic()
        state = self._states[lease.account.name]
        if error is not None:
            limits = limits or error.limits
            cut_short = now >= deadline and error.fault is FaultClass.SLOW
            if cut_short and now - lease.at < self.soft_timeout_s(lease.account, lease.need):
                self.drop(lease)
                return
        self._end(state, lease)
        if error is None:
            self._succeed(state, lease, cost_micros, now)
        else:
            self._book(state, lease, error, granted, now)
        if limits:
            state.limiter.notice(limits, now, age_s=now - lease.at)

    def delivered(self, lease: Lease) -> None:
        """Book that a complete answer was a good picture."""
        state = self._states[lease.account.name]
        state.health.succeed(lease, self._clock.monotonic())
        self._note(state)

    def blame(self, lease: Lease, error: UpstreamError) -> None:
        """Book a fault that showed after the lease was handed back: an unusable picture."""
        self._fail(lease, error.fault, self._clock.monotonic())

    def suspect(self, lease: Lease) -> None:
        """Book an attempt that looks stalled, while it still runs: its end may be minutes away."""
        if not lease.suspected:
            self._fail(lease, FaultClass.SLOW, self._clock.monotonic())
            lease.suspected = True

    def blocked(self, lease: Lease, seconds: float) -> None:
        """Hand back a lease that other processes' attempts have made void; nothing left."""
        now = self._clock.monotonic()
        state = self._states[lease.account.name]
        self.drop(lease, sent=False)
        state.limiter.block(seconds, now)

    def pay(self, account: str, fault: FaultClass) -> float | None:
        """Take the tokens of one retry after a fault; None when there are too few."""
        return self._states[account].endpoint.pay(fault)

    def repay(self, account: str, tokens: float) -> None:
        """Return a job's tokens, now that it has succeeded."""
        self._states[account].endpoint.repay(tokens)

    # --- probes and views ----------------------------------------------------------------------

    def refused_accounts(self) -> list[tuple[Account, int]]:
        """Return the accounts whose credential was refused, with refusals in a row."""
        return [
            (state.account, state.health.refusals)
            for state in self._states.values()
            if state.health.refused
        ]

    def accept(self, account: str) -> None:
        """Say that a probe found an account's credential accepted."""
        self._states[account].health.accept(self._clock.monotonic())
        self._note(self._states[account])

    def pause(self, names: Collection[str]) -> None:
        """Give no new lease of these accounts, and of no others; leases that are out go on."""
        for name, state in self._states.items():
            if state.paused != (name in names):
                state.paused = name in names
                self._paces.clear()
                if self._crowd is not None:
                    self._crowd.wake(state)

    def views(self) -> list[AccountView]:
        """Return how every account does."""
        now = self._clock.monotonic()
        usual = self._find_usual()
        return [
            view(state, now, score=min(1.0, 1 / self._badness(state, *usual)))
            for state in self._states.values()
        ]

    def endpoints_down(self) -> dict[str, bool]:
        """Return whether each endpoint is down, by what it fails as."""
        return {name: endpoint.down for name, endpoint in self._endpoints.items()}

    def __repr__(self) -> str:
        return f"Pool({', '.join(f'{v.account.name} {v.state}' for v in self.views())})"

    # --- inside ----------------------------------------------------------------------------------

    def _quickly(
        self,
        need: Need,
        now: float,
        tried: frozenset[str] = frozenset(),
        but_groups: frozenset[str] = frozenset(),
        *,
        most: int = 2,
    ) -> State | Wait | None:
        """Decide among many accounts without a look at each; None: that takes a look at all."""
        if self._crowd is None:
            return None
        found = self._crowd.pick(need, now, tried=tried, but_groups=but_groups, most=most)
        if isinstance(found, list):
            return self._better(found)
        return None if found is None else Wait(max(LEAST_WAIT_S, found))

    def _take_back(self, state: State, lease: Lease) -> None:
        state.limiter.take_back(lease.spent)
        if self._crowd is not None:
            self._crowd.wake_group(state)

    def _note(self, state: State) -> None:
        if self._crowd is not None:
            self._crowd.note(state)

    def _usable(self, need: Need, now: float) -> list[State] | Down | Nothing:
        return usable_among(self._states.values(), need, now)

    def _free_in(self, state: State, need: Need, now: float, budgets: dict[str, float]) -> float:
        """Return seconds until an account is free; `budgets` keeps what was found by group."""
        if state.in_flight >= self._cap(state):
            return OCCUPIED_S
        if state.health.ejected(now) and not state.endpoint.down:
            return max(LEAST_WAIT_S, state.health.ejected_until - now)
        group = state.account.group
        if group not in budgets:
            budgets[group] = state.limiter.free_in(need, now)
        return budgets[group]

    def _cap(self, state: State) -> float:
        """Return how much an account may have in flight: Little's law, for slow pictures."""
        if state.account.max_in_flight is not None:
            return state.account.max_in_flight
        rate = state.limiter.images_per_minute
        if rate is None:
            return math.inf
        return math.ceil(rate * self.policy.soft_timeout_max_s / 60) + 1

    def _best(self, ready: list[State], tried: frozenset[str], now: float) -> State:
        """Lowest tier, then the better of two drawn by lot (M. Mitzenmacher, "The Power of Two
        Choices in Randomized Load Balancing"); accounts and endpoints that failed this job last.
        """
        if tried:
            ready = [s for s in ready if s.account.name not in tried] or ready
            failed = {self._states[name].account.endpoint for name in tried}
            ready = [s for s in ready if s.account.endpoint not in failed] or ready
        tier = min(state.account.tier for state in ready)
        ready = [state for state in ready if state.account.tier == tier]
        if not tried:
            # What was out is looked at as soon as it may be, by a job that has all its attempts.
            ready = [s for s in ready if s.health.half_open or s.endpoint.down] or ready
        # A returning account is left out now and then, while others can serve.
        eager = [s for s in ready if s.health.share(now) >= self._rng.random()]
        ready = eager or ready
        return self._better(self._rng.sample(ready, 2) if len(ready) > 2 else ready)

    def _better(self, drawn: list[State]) -> State:
        if self._usual_for <= 0:
            self._usual = self._find_usual()
            # Of many they move slowly, and sorting all of them is the dearest part of a decision.
            self._usual_for = len(self._states) // FEW
        latency_s, cost = self._usual
        return min(drawn, key=lambda s: (self._score(s, latency_s, cost), self._rng.random()))

    def _score(self, state: State, usual_s: float, usual_cost: float) -> float:
        """Return what the next picture meets here in work, failure, time and money."""
        cap = min(self._cap(state), 1000.0)
        load = (state.in_flight + 1) / cap
        return load * self._badness(state, usual_s, usual_cost)

    def _badness(self, state: State, usual_s: float, usual_cost: float) -> float:
        """Return the same but for the work: 1 for the usual account when it never fails."""
        slowness = state.latency_s / usual_s if state.latency_s > 0 < usual_s else 1.0
        cost = state.cost_micros / usual_cost if state.cost_micros > 0 < usual_cost else 1.0
        return (1 + FAIL_FACTOR * state.health.fail_share) * slowness * cost

    def _find_usual(self) -> tuple[float, float]:
        states = self._states.values()
        return _median(s.latency_s for s in states), _median(s.cost_micros for s in states)

    def _lease(self, state: State, need: Need, now: float) -> Lease:
        lease = Lease(state.account, need, now, spent=state.limiter.spend(need, now))
        state.health.leave(lease)
        state.in_flight += 1
        state.endpoint.leave(lease)
        return lease

    def _end(self, state: State, lease: Lease) -> None:
        state.in_flight -= 1
        state.health.end(lease)
        state.endpoint.end(lease)
        if self._crowd is not None:
            self._crowd.wake(state)

    def _succeed(self, state: State, lease: Lease, cost_micros: Micros | None, now: float) -> None:
        seconds = now - lease.at
        self._stall_share -= STALL_WEIGHT * self._stall_share
        self._usual_for -= 1
        self.latencies.add(state.account.model, lease.need.size, seconds, now)
        state.latency_s += (seconds - state.latency_s) * (LATENCY_WEIGHT if state.latency_s else 1)
        if cost_micros:
            weight = LATENCY_WEIGHT if state.cost_micros else 1
            state.cost_micros += (cost_micros - state.cost_micros) * weight
        state.limiter.grant(lease.at)
        state.endpoint.succeed(lease)
        self._note(state)

    def _book(
        self,
        state: State,
        lease: Lease,
        error: UpstreamError,
        granted: int | None,
        now: float,
    ) -> None:
        match error.fault:
            case FaultClass.THROTTLED:
                state.limiter.refuse(lease.spent, error, now, granted)
            case FaultClass.QUOTA:
                state.limiter.exhaust(now)
            case FaultClass.AUTH:
                state.health.refuse()
            case FaultClass.CAPABILITY:
                state.health.lack(lease.need, error.lacks, now)
            case FaultClass.FAST | FaultClass.SLOW | FaultClass.BAD_OUTPUT:
                state.limiter.end_trial()
                self._fail(lease, error.fault, now)
            case FaultClass.LOCAL:
                # Nothing has left: a shared host is to blame, not this account.
                self._take_back(state, lease)
                state.endpoint.fail(lease, error.fault, now)
                self._note(state)
            case FaultClass.CLIENT:
                # The upstream has read and judged the request: it lives, and so does the account.
                state.limiter.grant(lease.at)
                state.endpoint.succeed(lease)
                self._note(state)

    def _fail(self, lease: Lease, fault: FaultClass, now: float) -> None:
        state = self._states[lease.account.name]
        if lease.suspected and fault is FaultClass.SLOW:
            return  # it was booked when it looked stalled
        state.endpoint.fail(lease, fault, now)
        if fault is FaultClass.SLOW:
            self._stall_share += STALL_WEIGHT * (1 - self._stall_share)
        if state.health.fail(lease, fault, now, others_fail=state.endpoint.fail_share):
            peers = [s for s in self._states.values() if s.endpoint is state.endpoint]
            out = sum(1 for s in peers if s is not state and s.health.half_open)
            # Beyond half of them it is not the accounts that are ill: the breaker judges that.
            if (out + 1) * 2 <= len(peers):
                state.health.eject(now)
        self._note(state)


def _median(values: Iterable[float]) -> float:
    """Return the median of those that are known; 0 if none is."""
    known = sorted(value for value in values if value > 0)
    return known[len(known) // 2] if known else 0.0
