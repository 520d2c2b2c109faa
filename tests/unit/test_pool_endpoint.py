"""An endpoint is down when everything fails, looked at all the time, and retries have a quota."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.pool import Lease, Need
from safelight.pool.endpoint import FIRST_TRY_REWARD, RETRY_COSTS, Endpoint
from safelight.types import Account

POLICY = PoolConfig()
START = 1000.0
ACCOUNT = Account(name="a", upstream="openai", group="a", channels=("vip",))


def leave(endpoint: Endpoint, at: float) -> Lease:
    lease = Lease(ACCOUNT, Need("vip"), at)
    endpoint.leave(lease)
    return lease


def fail(endpoint: Endpoint, fault: FaultClass, at: float, lived_s: float = 0.1) -> None:
    """Make one attempt that begins at a time and fails a little later."""
    lease = leave(endpoint, at)
    endpoint.end(lease)
    endpoint.fail(lease, fault, at + lived_s)


def succeed(endpoint: Endpoint, at: float) -> None:
    lease = leave(endpoint, at)
    endpoint.end(lease)
    endpoint.succeed(lease)


def gone_down(policy: PoolConfig = POLICY, lived_s: float = 0.1) -> Endpoint:
    """Return an endpoint that has just gone down, at START."""
    endpoint = Endpoint(policy)
    while not endpoint.down:
        fail(endpoint, FaultClass.FAST, START - lived_s, lived_s)
    return endpoint


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (FaultClass.FAST, 20),
        (FaultClass.BAD_OUTPUT, 20),
        (FaultClass.SLOW, 10),
        (FaultClass.LOCAL, 5),
    ],
)
def test_it_is_down_after_so_many_failures_without_a_success(
    fault: FaultClass, expected: int
) -> None:
    endpoint, count = Endpoint(POLICY), 0
    while not endpoint.down:
        fail(endpoint, fault, START)
        count += 1
    assert count == expected


def test_any_success_in_between_keeps_it_up() -> None:
    endpoint = Endpoint(POLICY)
    for _ in range(100):
        for _ in range(19):
            fail(endpoint, FaultClass.FAST, START)
        succeed(endpoint, START)
    assert not endpoint.down


def test_one_success_brings_it_back() -> None:
    endpoint = gone_down()
    succeed(endpoint, START + 5)
    assert not endpoint.down
    for _ in range(19):
        fail(endpoint, FaultClass.FAST, START + 60)
    assert not endpoint.down


def test_one_canary_goes_out_every_few_seconds() -> None:
    endpoint, now, left = gone_down(), START, []
    for _ in range(600):
        if endpoint.canary_in(now) <= 0:
            fail(endpoint, FaultClass.FAST, now)
            left.append(now - START)
        now += 0.1
    assert left == pytest.approx([5.0 * n for n in range(1, 12)], abs=1.2)


def test_canaries_that_outlive_the_dead_bring_traffic_back_before_the_first_picture() -> None:
    endpoint, now, out = gone_down(lived_s=0.5), START + 5, 0
    while now < START + 5 + 20:
        if endpoint.canary_in(now) <= 0:
            leave(endpoint, now)
            out += 1
        now += 0.1
    assert out > 100


def test_canaries_that_only_live_as_long_as_the_dead_did_bring_nothing_back() -> None:
    endpoint, now, out = gone_down(lived_s=30), START + 5, 0
    while now < START + 5 + 30:
        if endpoint.canary_in(now) <= 0:
            leave(endpoint, now)
            out += 1
        now += 0.1
    assert out <= 7


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(
        st.tuples(
            st.sampled_from(["fast", "slow", "local", "succeed", "leave", "end"]),
            st.floats(0, 300),
        ),
        max_size=80,
    )
)
def test_a_canary_always_goes_out_in_the_end(events: list[tuple[str, float]]) -> None:
    """Whatever has happened, a breaker that is open says when, and that is soon."""
    endpoint, now, out = gone_down(), START, list[Lease]()
    for event, seconds in events:
        now += seconds
        if event == "leave" or not out:
            if not endpoint.down or endpoint.canary_in(now) <= 0:
                out.append(leave(endpoint, now))
            continue
        lease = out.pop(round(seconds) % len(out))
        endpoint.end(lease)
        match event:
            case "succeed":
                endpoint.succeed(lease)
            case "fast" | "slow" | "local":
                endpoint.fail(lease, FaultClass(event), now)
        if endpoint.down:
            assert 0 <= endpoint.canary_in(now) <= POLICY.canary_s
            assert endpoint.canary_in(now + POLICY.canary_s) == 0


def test_an_old_success_does_not_bring_it_back() -> None:
    """Pictures that were begun before an outage are delivered in its first minute."""
    endpoint = Endpoint(POLICY)
    early = leave(endpoint, START)
    for second in range(1, 21):
        fail(endpoint, FaultClass.FAST, START + second)
    assert endpoint.down
    endpoint.end(early)
    endpoint.succeed(early)
    assert endpoint.down


def test_it_is_not_down_while_attempts_outlive_the_failures_by_far() -> None:
    endpoint = Endpoint(POLICY)
    fail(endpoint, FaultClass.FAST, START - 1)
    for _ in range(3):
        leave(endpoint, START)
    for second in range(5, 45):
        fail(endpoint, FaultClass.FAST, START + second)
    assert not endpoint.down


def test_attempts_that_hang_themselves_do_not_keep_it_up() -> None:
    """In an outage some calls fail and others stall; those that look stalled prove nothing."""
    endpoint = Endpoint(POLICY)
    fail(endpoint, FaultClass.FAST, START - 1)
    for _ in range(5):
        leave(endpoint, START).suspected = True
    for second in range(100, 125):
        fail(endpoint, FaultClass.FAST, START + second)
    assert endpoint.down


# --- the quota -----------------------------------------------------------------------------------

FAULTS = [fault for fault in FaultClass if fault in RETRY_COSTS]


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(1, 100),
    moves=st.lists(st.one_of(st.sampled_from(FAULTS), st.integers(0, 40), st.none())),
)
def test_the_quota_is_never_negative_nor_above_its_size(
    size: int, moves: list[FaultClass | int | None]
) -> None:
    """Paid for retries, repaid on success (an index), rewarded for first tries (None)."""
    endpoint, paid = Endpoint(PoolConfig(retry_tokens=size)), list[float]()
    for move in moves:
        if isinstance(move, FaultClass):
            tokens = endpoint.pay(move)
            if tokens is not None:
                paid.append(tokens)
        elif move is None:
            endpoint.repay(0.0)
        elif move < len(paid):
            endpoint.repay(paid.pop(move))
        assert 0 <= endpoint._tokens <= size


def test_retries_end_when_nothing_succeeds() -> None:
    endpoint, bought = Endpoint(POLICY), 0
    while endpoint.pay(FaultClass.FAST) is not None:
        bought += 1
    assert bought == POLICY.retry_tokens


def test_what_a_job_paid_is_good_again_after_its_success() -> None:
    endpoint = Endpoint(PoolConfig(retry_tokens=4))
    for _ in range(1000):
        tokens = endpoint.pay(FaultClass.SLOW)
        assert tokens is not None
        endpoint.repay(tokens)


def test_first_tries_that_succeed_fill_an_empty_quota_slowly() -> None:
    endpoint = Endpoint(PoolConfig(retry_tokens=1))
    assert endpoint.pay(FaultClass.FAST)
    for _ in range(round(1 / FIRST_TRY_REWARD) - 1):
        endpoint.repay(0.0)
        assert endpoint.pay(FaultClass.FAST) is None
    endpoint.repay(0.0)
    endpoint.repay(0.0)
    assert endpoint.pay(FaultClass.FAST)


def test_a_refusal_for_a_limit_costs_little_and_a_stall_much() -> None:
    costs = [RETRY_COSTS[f] for f in (FaultClass.THROTTLED, FaultClass.FAST, FaultClass.SLOW)]
    assert costs == [0.25, 1, 2]


def test_the_quota_grows_with_what_is_in_flight() -> None:
    endpoint = Endpoint(PoolConfig(retry_tokens=5))
    for _ in range(200):
        leave(endpoint, START)
    for _ in range(50_000):
        endpoint.repay(0.0)
    bought = 0
    while endpoint.pay(FaultClass.FAST) is not None:
        bought += 1
    assert 200 <= bought <= 1000
