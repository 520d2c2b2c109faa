"""The pool's decisions, with a clock that moves when told."""

from __future__ import annotations

import random

import pytest

from safelight.clock import ManualClock
from safelight.errors import FaultClass, UpstreamError
from safelight.pool import EXHAUSTED_S, Lease, Nothing, Pool, Wait
from safelight.types import Account

VIP = "gpt-image-2-vip"


def account(name: str, group: str | None = None, **more: object) -> Account:
    return Account(
        name=name,
        upstream="openai",
        group=group or name,
        channels=(VIP,),
        **more,  # type: ignore[arg-type]
    )


def pool(*accounts: Account) -> tuple[Pool, ManualClock]:
    clock = ManualClock()
    return Pool(accounts, clock, random.Random(7)), clock


def lease(pool: Pool, **more: object) -> Lease:
    decision = pool.acquire(VIP, **more)  # type: ignore[arg-type]
    assert isinstance(decision, Lease), decision
    return decision


def fault(kind: FaultClass, **more: object) -> UpstreamError:
    return UpstreamError(kind, "x", "x", **more)  # type: ignore[arg-type]


def test_load_is_spread_over_accounts_without_limits() -> None:
    p, _ = pool(account("a"), account("b"), account("c"))
    names = [lease(p).account.name for _ in range(9)]
    assert sorted(names) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_keys_of_one_group_share_one_limit() -> None:
    p, clock = pool(
        account("a", "org", images_per_minute=5), account("b", "org", images_per_minute=5)
    )
    lease(p)
    decision = p.acquire(VIP)
    assert isinstance(decision, Wait)
    assert decision.seconds == pytest.approx(12)
    clock.advance(12)
    lease(p)


@pytest.mark.parametrize("per_minute", [1, 5, 20, 60, 250])
def test_a_group_never_gets_more_than_a_fifth_above_its_minute(per_minute: int) -> None:
    p, clock = pool(account("a", images_per_minute=per_minute))
    sent: list[float] = []
    for _ in range(6 * 180):
        while isinstance(p.acquire(VIP), Lease):
            sent.append(clock.monotonic())
        clock.advance(1 / 6)
    busiest = max(sum(t <= s < t + 60 for s in sent) for t in sent)
    assert busiest <= per_minute * 1.2 + 1
    assert len(sent) >= 3 * per_minute * 0.95


def test_a_429_cools_the_whole_group_for_its_retry_after() -> None:
    p, clock = pool(account("a", "org"), account("b", "org"), account("c", "other"))
    first = lease(p, tried=frozenset({"c"}))
    p.release(first, fault(FaultClass.THROTTLED, retry_after_s=30))
    assert {lease(p).account.name for _ in range(6)} == {"c"}
    clock.advance(29)
    assert {lease(p).account.name for _ in range(6)} == {"c"}
    clock.advance(5)
    assert lease(p).account.group == "org"


def test_429s_without_a_header_cool_longer_each_time() -> None:
    p, clock = pool(account("a"))
    waits = []
    for _ in range(4):
        p.release(lease(p), fault(FaultClass.THROTTLED))
        decision = p.acquire(VIP)
        assert isinstance(decision, Wait)
        waits.append(decision.seconds)
        clock.advance(decision.seconds + 0.01)
    assert 2.5 <= waits[0] <= 5
    assert 20 <= waits[3] <= 40


def test_an_account_that_failed_this_job_comes_last_but_is_used_when_alone() -> None:
    p, _ = pool(account("a"), account("b"))
    assert {lease(p, tried=frozenset({"a"})).account.name for _ in range(5)} == {"b"}
    assert lease(p, tried=frozenset({"a", "b"}))


def test_a_tried_account_that_is_free_beats_a_fresh_one_that_cools() -> None:
    p, _ = pool(account("a"), account("b"))
    b = lease(p, tried=frozenset({"a"}))
    p.release(b, fault(FaultClass.THROTTLED, retry_after_s=60))
    assert lease(p, tried=frozenset({"a"})).account.name == "a"


def test_a_refused_credential_is_out_after_one_answer() -> None:
    p, _ = pool(account("a"), account("b"))
    a = lease(p, tried=frozenset({"b"}))
    p.release(a, fault(FaultClass.AUTH))
    assert {lease(p).account.name for _ in range(5)} == {"b"}


def test_when_every_credential_is_refused_nobody_waits() -> None:
    p, _ = pool(account("a"))
    p.release(lease(p), fault(FaultClass.AUTH))
    decision = p.acquire(VIP)
    assert isinstance(decision, Nothing)
    assert decision.code == "pool_exhausted"


def test_a_group_without_money_is_out_and_tried_again_later() -> None:
    p, clock = pool(account("a"))
    p.release(lease(p), fault(FaultClass.QUOTA))
    assert isinstance(p.acquire(VIP), Nothing)
    clock.advance(EXHAUSTED_S + 1)
    lease(p)


def test_a_missing_capability_takes_the_model_out_of_that_account_only() -> None:
    p, _ = pool(account("a", "org"), account("b", "org"))
    p.release(lease(p, tried=frozenset({"b"})), fault(FaultClass.CAPABILITY))
    assert {lease(p).account.name for _ in range(5)} == {"b"}


def test_edits_go_only_to_accounts_that_take_them() -> None:
    p, _ = pool(account("a", edits=False), account("b"))
    assert {lease(p, edits=True).account.name for _ in range(5)} == {"b"}
    only, _ = pool(account("a", edits=False))
    decision = only.acquire(VIP, edits=True)
    assert isinstance(decision, Nothing)
    assert decision.code == "model_unavailable"


def test_the_callers_own_faults_blame_nobody() -> None:
    p, _ = pool(account("a"), account("b"))
    a = lease(p, tried=frozenset({"b"}))
    p.release(a, fault(FaultClass.CLIENT))
    names = [lease(p).account.name for _ in range(4)]
    assert sorted(names) == ["a", "a", "b", "b"]


def test_accounts_with_failures_in_a_row_come_after_sound_ones() -> None:
    p, _ = pool(account("a"), account("b"))
    p.release(lease(p, tried=frozenset({"b"})), fault(FaultClass.FAST))
    assert {lease(p).account.name for _ in range(5)} == {"b"}


def test_max_in_flight_is_kept() -> None:
    p, _ = pool(account("a", max_in_flight=2))
    first = lease(p)
    lease(p)
    assert isinstance(p.acquire(VIP), Wait)
    p.release(first, None)
    lease(p)


def test_an_unknown_channel_has_no_accounts() -> None:
    p, _ = pool(account("a"))
    assert isinstance(p.acquire("other"), Nothing)
