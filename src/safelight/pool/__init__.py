"""The pool: which account may make the next attempt, or when one will.

Pure decisions on in-memory state with an injected clock; nothing here waits, sends or stores. Three
levels, as vendors limit and fail: the endpoint (never blamed here), the limiter group (budget,
cooling, exhaustion) and the account (load, refused credentials, missing capabilities). Docs:
docs/pool.md.

The budget of a group is a GCRA: one image every 60 / images_per_minute seconds, with a small burst,
counted when an attempt begins because vendors count failed calls too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account

COOLING_MAX_S = 600.0
"""Longest cooling that a vendor's header may ask for."""
BLIND_COOLING_S, BLIND_COOLING_MAX_S = 5.0, 120.0
"""Cooling after a 429 without a header: first step and cap; it doubles in between."""
EXHAUSTED_S = 900.0
"""A group without money upstream is tried again after this long."""
BURST_SHARE = 0.2
"""Share of a minute's budget that may be used at once."""


@dataclass(frozen=True)
class Lease:
    """The right to use one account for one attempt; hand it back with `Pool.release`."""

    account: Account


@dataclass(frozen=True)
class Wait:
    """Nothing is free; the earliest budget is expected in `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Nothing:
    """No account will serve this, however long one waits; `code` says why."""

    code: str
    message: str


_UNFUNDED = Nothing(
    "pool_exhausted",
    "No account of this channel has money left upstream; the operator must top one up.",
)


@dataclass
class _Group:
    interval_s: float
    burst_s: float
    full_at: float = 0.0
    """GCRA's theoretical arrival time: when the budget used so far will be paid back."""
    cooling_until: float = 0.0
    blind_coolings: int = 0
    exhausted_until: float = 0.0

    def free_in(self, now: float) -> float:
        """Return seconds until one more image fits; 0 when it fits now."""
        budget_at = self.full_at - self.burst_s
        return max(0.0, budget_at - now, self.cooling_until - now)

    def spend(self, now: float) -> None:
        self.full_at = max(self.full_at, now) + self.interval_s


@dataclass
class _State:
    account: Account
    in_flight: int = 0
    failures: int = 0
    refused: bool = False
    incapable: set[str] = field(default_factory=set)


class Pool:
    """The accounts and what is known of them."""

    def __init__(
        self, accounts: Iterable[Account], clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  (spreads load; guards nothing)
        self._states = {account.name: _State(account) for account in accounts}
        self._groups: dict[str, _Group] = {}
        for state in self._states.values():
            self._open_group(state.account)

    def acquire(
        self, channel: str, *, edits: bool = False, tried: frozenset[str] = frozenset()
    ) -> Lease | Wait | Nothing:
        """Decide who makes the next attempt for a job of `channel`.

        Args:
            channel: model id the customer asked for.
            edits: whether the account must take input images.
            tried: names of accounts that have failed this job; they come last.
        """
        now = self._clock.monotonic()
        funded = self._funded(channel, edits=edits, now=now)
        if isinstance(funded, Nothing):
            return funded
        fresh = [s for s in funded if s.account.name not in tried] or funded
        ready = [s for s in fresh if self._free_in(s, now) <= 0]
        if not ready and len(fresh) < len(funded):
            # A fresh account that is cooling is worth less than a tried one that is free.
            ready = [s for s in funded if self._free_in(s, now) <= 0]
        if not ready:
            return Wait(max(0.05, min(self._free_in(s, now) for s in funded)))
        best = min(ready, key=self._weight)
        self._group(best).spend(now)
        best.in_flight += 1
        return Lease(best.account)

    def forecast(self, channel: str, *, edits: bool = False) -> Wait | Nothing:
        """Say when the next budget is expected, without taking it (0 s: now)."""
        now = self._clock.monotonic()
        funded = self._funded(channel, edits=edits, now=now)
        if isinstance(funded, Nothing):
            return funded
        return Wait(min(self._free_in(s, now) for s in funded))

    def pace_s(self, channel: str) -> float:
        """Return the seconds between two images of a channel at its budget; 0: no known limit."""
        groups = {s.account.group for s in self._states.values() if channel in s.account.channels}
        intervals = [self._groups[name].interval_s for name in groups]
        if not intervals or min(intervals) <= 0:
            return 0.0
        return 1 / sum(1 / interval for interval in intervals)

    def drop(self, lease: Lease) -> None:
        """Hand a lease back whose attempt says nothing about the account."""
        self._states[lease.account.name].in_flight -= 1

    def release(self, lease: Lease, error: UpstreamError | None) -> None:
        """Hand a lease back and book the attempt's outcome where it belongs."""
        state = self._states[lease.account.name]
        state.in_flight -= 1
        if error is None:
            state.failures = 0
            self._group(state).blind_coolings = 0
        else:
            self.blame(lease.account.name, error)

    def blame(self, account: str, error: UpstreamError) -> None:
        """Book a fault where it belongs; also one that showed after the lease was handed back."""
        state = self._states[account]
        group = self._group(state)
        match error.fault:
            case FaultClass.THROTTLED:
                self._cool(group, error.retry_after_s)
            case FaultClass.QUOTA:
                group.exhausted_until = self._clock.monotonic() + EXHAUSTED_S
            case FaultClass.AUTH:
                state.refused = True
            case FaultClass.CAPABILITY:
                state.incapable.add(state.account.model)
            case FaultClass.FAST | FaultClass.SLOW | FaultClass.BAD_OUTPUT:
                state.failures += 1
            case FaultClass.LOCAL | FaultClass.CLIENT:
                pass

    def __repr__(self) -> str:
        now = self._clock.monotonic()
        lines = []
        for state in self._states.values():
            group = self._group(state)
            lines.append(
                f"{state.account.name} ({state.account.group}): {state.in_flight} in flight, "
                f"free in {group.free_in(now):.1f} s, {state.failures} failures in a row"
                + (", refused" if state.refused else "")
                + (", exhausted" if group.exhausted_until > now else "")
            )
        return "Pool(" + "; ".join(lines) + ")"

    def _open_group(self, account: Account) -> None:
        per_minute = account.images_per_minute
        if per_minute is None:
            self._groups.setdefault(account.group, _Group(0.0, 0.0))
            return
        interval = 60.0 / per_minute
        burst = max(0.0, (per_minute * BURST_SHARE - 1) * interval)
        self._groups[account.group] = _Group(interval, burst)

    def _group(self, state: _State) -> _Group:
        return self._groups[state.account.group]

    def _funded(self, channel: str, *, edits: bool, now: float) -> list[_State] | Nothing:
        """Return the accounts that could serve, free or not; or why there are none."""
        serving = [s for s in self._states.values() if channel in s.account.channels]
        able = [s for s in serving if self._able(s, edits=edits)]
        if not able:
            return self._nothing(channel, serving)
        return [s for s in able if self._group(s).exhausted_until <= now] or _UNFUNDED

    def _able(self, state: _State, *, edits: bool) -> bool:
        return (
            not state.refused
            and state.account.model not in state.incapable
            and (state.account.edits or not edits)
        )

    def _free_in(self, state: _State, now: float) -> float:
        limit = state.account.max_in_flight
        if limit is not None and state.in_flight >= limit:
            return 1.0  # somebody must finish first; the pool cannot know when
        return self._group(state).free_in(now)

    def _weight(self, state: _State) -> tuple[int, float, float]:
        """Fewest failures in a row, then least load for its budget, then chance."""
        load = (state.in_flight + 1) * max(self._group(state).interval_s, 0.001)
        return (state.failures, load, self._rng.random())

    def _cool(self, group: _Group, retry_after_s: float | None) -> None:
        if retry_after_s is None:
            step = min(BLIND_COOLING_S * 2**group.blind_coolings, BLIND_COOLING_MAX_S)
            group.blind_coolings += 1
            seconds = self._rng.uniform(step / 2, step)
        else:
            seconds = min(retry_after_s, COOLING_MAX_S) * self._rng.uniform(1.0, 1.1)
        group.cooling_until = max(group.cooling_until, self._clock.monotonic() + seconds)

    def _nothing(self, channel: str, serving: list[_State]) -> Nothing:
        if serving and all(state.refused for state in serving):
            return Nothing(
                "pool_exhausted",
                "Every account of this channel was refused by its upstream; the operator must "
                "check their credentials.",
            )
        return Nothing(
            "model_unavailable",
            f"No account serves {channel} for this kind of request; the operator must add one "
            "to safelight.toml.",
        )
