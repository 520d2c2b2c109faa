"""A decision among many accounts is one that a look at all of them would have made."""

from __future__ import annotations

import math
import random
import statistics
import time

import msgspec
import pytest

from safelight.bench.growth.pools import DECISIONS
from safelight.clock import ManualClock
from safelight.errors import FaultClass, UpstreamError
from safelight.pool import Lease, Need, Pool, Wait
from safelight.pool.lineup import LOOK_S, Lineup
from safelight.types import Account

NEED = Need("vip", size="1024x1024")
EDIT = Need("vip", edits=True, size="1024x1024", inputs=2)


def accounts(count: int, rng: random.Random) -> list[Account]:
    return [
        Account(
            name=f"a{at}",
            upstream="x",
            group=f"g{at // 2}",
            channels=("vip",) if at % 5 else ("vip", "other"),
            images_per_minute=rng.choice([2.0, 5.0, None]) if at % 2 == 0 else None,
            input_images_per_minute=rng.choice([6.0, None]),
            max_in_flight=rng.choice([1, 2, None]),
            tier=1 + at % 2,
            edits=bool(at % 3),
        )
        for at in range(count)
    ]


def free_by_a_look_at_all(pool: Pool, need: Need, clock: ManualClock) -> list[Account]:
    """Return who is free now, of all tiers, by a look at each account with no memory."""
    now = clock.monotonic()
    return [
        state.account
        for state in pool._states.values()
        if need.channel in state.account.channels
        and (state.account.edits or not need.edits)
        and not state.health.refused
        and not state.health.ejected(now)
        and not state.limiter.exhausted(now)
        and not state.health.lacks(need, now)
        and pool._free_in(state, need, now, {}) <= 0
    ]


@pytest.mark.parametrize("seed", range(2))
def test_many_accounts_are_decided_among_as_few_are(seed: int) -> None:
    """Through faults, refusals and time: who is leased was free, and had the lowest tier."""
    rng, clock = random.Random(seed), ManualClock()
    pool = Pool(accounts(60, rng), clock, random.Random(seed))
    held: list[Lease] = []
    decided = {Lease: 0, Wait: 0}
    for _ in range(600):
        need = EDIT if rng.random() < 0.2 else NEED
        free = free_by_a_look_at_all(pool, need, clock)
        decision = pool.acquire(need)
        if isinstance(decision, Lease):
            chosen = [one for one in free if one.name == decision.account.name]
            assert [one.tier for one in chosen] == [min(one.tier for one in free)]
            held.append(decision)
        else:
            assert free == []
            assert isinstance(decision, Wait)
        decided[type(decision)] += 1
        while held and rng.random() < 0.48:
            end(pool, held.pop(rng.randrange(len(held))), rng)
        clock.advance(rng.choice([0.0, 0.01, 0.3, 2.0]))
    assert decided[Lease] > 100
    assert decided[Wait] > 10


def end(pool: Pool, lease: Lease, rng: random.Random) -> None:
    if rng.random() < 0.04:
        pool.drop(lease, sent=False)
        return
    fault = rng.choices(
        [None, FaultClass.THROTTLED, FaultClass.FAST, FaultClass.AUTH], [80, 8, 8, 0.3]
    )[0]
    if fault is None:
        pool.release(lease, None)
        pool.delivered(lease)
    else:
        error = UpstreamError(fault, "code", "words", retry_after_s=3.0)
        pool.release(lease, error, granted=1)


def test_a_job_is_not_given_back_to_the_account_that_failed_it() -> None:
    pool = Pool(accounts(60, random.Random(1)), ManualClock(), random.Random(1))
    tried = frozenset(f"a{at}" for at in range(58))
    decision = pool.acquire(NEED, tried=tried)
    assert isinstance(decision, Lease)
    assert decision.account.name in {"a58", "a59"}


def crowd(count: int, **more: object) -> list[Account]:
    return [
        Account(name=f"a{at}", upstream="x", group=f"g{at // 2}", channels=("vip",), **more)  # type: ignore[arg-type]
        for at in range(count)
    ]


def test_where_only_accounts_are_free_that_failed_the_job_one_of_them_is_tried_again() -> None:
    made = [msgspec.structs.replace(one, group=one.name) for one in crowd(40, max_in_flight=1)]
    pool = Pool(made, ManualClock(), random.Random(1))
    leases = [pool.acquire(NEED) for _ in made]
    assert isinstance(pool.acquire(NEED), Wait)
    assert isinstance(leases[7], Lease)
    pool.release(leases[7], None)
    decision = pool.acquire(NEED, tried=frozenset({leases[7].account.name}))
    assert isinstance(decision, Lease)
    assert decision.account == leases[7].account


def test_a_budget_that_is_given_back_is_free_for_every_account_of_its_group() -> None:
    """Also for jobs that the account which gives it back does not serve."""
    made = crowd(40, images_per_minute=1.0)
    made = [msgspec.structs.replace(one, edits=bool(at % 2)) for at, one in enumerate(made)]
    pool = Pool(made, ManualClock(), random.Random(1))
    pool.acquire(EDIT)
    leases = []
    while isinstance(lease := pool.acquire(NEED), Lease):
        leases.append(lease)
    assert isinstance(pool.acquire(EDIT), Wait)
    given_back = next(one for one in leases if not one.account.edits)
    pool.drop(given_back, sent=False)
    decision = pool.acquire(EDIT)
    assert isinstance(decision, Lease)
    assert decision.account.group == given_back.account.group


def test_a_lineup_draws_each_member_once_and_wakes_those_whose_time_has_come() -> None:
    waits = {"a": 0.0, "b": 5.0, "c": math.inf, "d": 0.0}
    line, rng = Lineup(list(waits)), random.Random(2)

    def drawn(now: float) -> list[str]:
        return sorted(line.draw(now, rng, waits.__getitem__, lambda name: name != "d"))

    assert drawn(100.0) == ["a"]
    assert line.soonest(100.0) == 5.0
    waits["b"] = 0.0
    assert drawn(100.0) == ["a"]
    line.wake("b")
    assert drawn(100.0) == ["a", "b"]
    waits["c"] = 0.0
    assert drawn(100.0 + LOOK_S) == ["a", "b", "c"]
    assert line.soonest(101.0) is None


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_among_a_thousand_accounts_costs_what_one_among_forty_does(name: str) -> None:
    """At most three times, in CPU time of one run; a look at all would be twenty-five times."""
    few, many = DECISIONS[name](40), DECISIONS[name](1000)

    def cost(decide: object) -> float:
        began = time.thread_time()
        for _ in range(50):
            decide()  # type: ignore[operator]
        return time.thread_time() - began

    rounds = [(cost(few), cost(many)) for _ in range(8)][1:]
    assert statistics.median(one[1] / one[0] for one in rounds) < 3
