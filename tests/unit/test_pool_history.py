"""Whatever happens to a pool, its counts are true, its limits hold, and everything comes back."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pool_desk import EDIT, NEED, account, fault, good, states
from safelight.clock import ManualClock
from safelight.errors import FaultClass
from safelight.pool import Down, Lease, Need, Pool, Wait

# --- anything at all --------------------------------------------------------------------------

FAULTS = list(FaultClass)


class AnyHistory(RuleBasedStateMachine):
    """Leases given and handed back in any order with any outcome."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.clock = ManualClock()
        self.accounts = [
            account("a", "org", images_per_minute=6),
            account("b", "org", images_per_minute=6),
            account("c", images_per_minute=20, max_in_flight=4),
            account("d", base_url="https://two.example", edits=False, tier=2),
        ]
        self.pool = Pool(self.accounts, self.clock, random.Random(seed))
        self.held: list[Lease] = []
        self.sent: list[tuple[float, str]] = []

    @rule(need=st.sampled_from([NEED, EDIT]), tried=st.sets(st.sampled_from("abcd")))
    def acquire(self, need: Need, tried: set[str]) -> None:
        decision = self.pool.acquire(need, tried=frozenset(tried))
        match decision:
            case Lease():
                self.held.append(decision)
                self.sent.append((self.clock.monotonic(), decision.account.group))
                assert decision.account.edits or not need.edits
            case Wait() | Down():
                assert 0 < decision.seconds < 1200

    @precondition(lambda self: self.held)
    @rule(
        at=st.integers(0, 50),
        kind=st.sampled_from([None, None, None, *FAULTS]),
        wait=st.none() | st.floats(0, 100),
    )
    def release(self, at: int, kind: FaultClass | None, wait: float | None) -> None:
        one = self.held.pop(at % len(self.held))
        if kind is None:
            good(self.pool, one)
        else:
            self.pool.release(one, fault(kind, retry_after_s=wait))

    @precondition(lambda self: self.held)
    @rule(at=st.integers(0, 50))
    def release_unusable(self, at: int) -> None:
        one = self.held.pop(at % len(self.held))
        self.pool.release(one, None)
        self.pool.blame(one, fault(FaultClass.BAD_OUTPUT))

    @precondition(lambda self: self.held)
    @rule(at=st.integers(0, 50))
    def drop(self, at: int) -> None:
        self.pool.drop(self.held.pop(at % len(self.held)))

    @precondition(lambda self: self.held)
    @rule(at=st.integers(0, 50))
    def suspect(self, at: int) -> None:
        self.pool.suspect(self.held[at % len(self.held)])

    @rule(seconds=st.floats(0, 120))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(kind=st.sampled_from(FAULTS), name=st.sampled_from("abcd"))
    def pay(self, kind: FaultClass, name: str) -> None:
        tokens = self.pool.pay(name, kind)
        if tokens is not None:
            self.pool.repay(name, tokens)

    @invariant()
    def counts_are_true(self) -> None:
        if not hasattr(self, "pool"):
            return
        held = Counter(one.account.name for one in self.held)
        for view in self.pool.views():
            assert view.in_flight == held[view.account.name]
        assert held["c"] <= 4
        now = self.clock.monotonic()
        for group, most in (("org", 6), ("c", 20)):
            assert sum(g == group and at > now - 60 for at, g in self.sent) <= most

    def teardown(self) -> None:
        """However bad it was: when everything is well, every account serves again."""
        if not hasattr(self, "pool"):
            return
        for one in self.held:
            self.pool.drop(one)
        self.held.clear()
        for refused, _ in self.pool.refused_accounts():
            self.pool.accept(refused.name)
        served: set[str] = set()
        for step in range(4 * 600):
            self.clock.advance(15)
            for name in "abcd" if step % 2 else "dcba":
                others = frozenset("abcd") - {name}
                decision = self.pool.acquire(NEED, tried=others)
                if isinstance(decision, Lease):
                    served.add(decision.account.name)
                    good(self.pool, decision)
            if served == set("abcd") and set(states(self.pool).values()) == {"ready"}:
                return
        raise AssertionError(f"out for ever: {self.pool!r}; served: {served}")


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
