"""Which account makes the next attempt, or when one will: choosing, limits, durations."""

from __future__ import annotations

from collections import Counter

import pytest

from pool_desk import EDIT, NEED, VIP, account, fault, good, lease, only, pool, states
from safelight.clock import ManualClock
from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.notices import LimitNotice
from safelight.pool import Lease, Need, Nothing, Pool, Wait

# --- choosing ---------------------------------------------------------------------------------


def test_load_is_spread_over_accounts_without_limits() -> None:
    p, _ = pool(account("a"), account("b"))
    names = [lease(p).account.name for _ in range(10)]
    assert sorted(names) == ["a"] * 5 + ["b"] * 5


def test_load_of_many_accounts_is_spread_nearly_evenly() -> None:
    p, _ = pool(*(account(f"a{n}") for n in range(10)))
    names = Counter(lease(p).account.name for _ in range(200))
    assert len(names) == 10
    assert max(names.values()) - min(names.values()) <= 6


def test_load_is_spread_by_what_an_account_can_carry() -> None:
    p, _ = pool(account("small", max_in_flight=10), account("large", max_in_flight=40))
    names = Counter(lease(p).account.name for _ in range(25))
    assert names == {"small": 5, "large": 20}


def test_a_lower_tier_is_used_first_and_a_higher_one_when_it_is_full() -> None:
    p, _ = pool(account("cheap", max_in_flight=3), account("dear", tier=2))
    assert [lease(p).account.name for _ in range(5)] == ["cheap"] * 3 + ["dear"] * 2


def test_the_quicker_and_the_cheaper_of_two_gets_more() -> None:
    for slow, dear in ((True, False), (False, True)):
        p, clock = pool(account("a"), account("b"))
        first = [only(p, "a", "b"), only(p, "b", "a")]
        clock.advance(10)
        good(p, first[0], 10_000)
        clock.advance(30 if slow else 0)
        good(p, first[1], 30_000 if dear else 10_000)
        names = Counter(lease(p).account.name for _ in range(40))
        assert names["a"] > names["b"]


def test_an_account_that_failed_this_job_comes_last_but_is_used_when_alone() -> None:
    p, _ = pool(account("a"), account("b"))
    assert {lease(p, tried=frozenset({"a"})).account.name for _ in range(5)} == {"b"}
    assert lease(p, tried=frozenset({"a", "b"}))


def test_another_endpoint_is_preferred_to_the_one_that_failed_this_job() -> None:
    p, _ = pool(
        account("a", base_url="https://one.example/v1"),
        account("b", base_url="https://one.example/v2"),
        account("c", base_url="https://two.example/v1"),
    )
    assert {lease(p, tried=frozenset({"a"})).account.name for _ in range(5)} == {"c"}


def test_a_tried_account_that_is_free_beats_a_fresh_one_that_cools() -> None:
    p, _ = pool(account("a"), account("b"))
    p.release(only(p, "b", "a"), fault(FaultClass.THROTTLED, retry_after_s=60))
    assert lease(p, tried=frozenset({"a"})).account.name == "a"


def test_accounts_that_fail_now_and_then_get_less_than_sound_ones() -> None:
    p, _ = pool(account("a"), account("b"))
    p.release(only(p, "a", "b"), fault(FaultClass.FAST))
    names = Counter(lease(p).account.name for _ in range(30))
    assert 0 < names["a"] < names["b"]


def test_a_second_attempt_goes_to_another_group() -> None:
    p, _ = pool(account("a", "org"), account("b", "org"), account("c"))
    names = {lease(p, but_groups=frozenset({"org"})).account.name for _ in range(5)}
    assert names == {"c"}
    assert isinstance(p.acquire(NEED, but_groups=frozenset({"org", "c"})), Wait)


def test_edits_go_only_to_accounts_that_take_them() -> None:
    p, _ = pool(account("a", edits=False), account("b"))
    assert {lease(p, EDIT).account.name for _ in range(5)} == {"b"}
    none, _ = pool(account("a", edits=False))
    decision = none.acquire(EDIT)
    assert isinstance(decision, Nothing)
    assert decision.code == "model_unavailable"


def test_an_unknown_channel_has_no_accounts() -> None:
    p, _ = pool(account("a"))
    decision = p.acquire(Need("other"))
    assert isinstance(decision, Nothing)
    assert decision.code == "model_unavailable"
    assert p.pace_s(Need("other")) == 0
    assert p.forecast(Need("other")) == decision


# --- limits -----------------------------------------------------------------------------------


def test_keys_of_one_group_share_one_limit() -> None:
    p, clock = pool(
        account("a", "org", images_per_minute=5), account("b", "org", images_per_minute=5)
    )
    lease(p)
    decision = p.acquire(NEED)
    assert isinstance(decision, Wait)
    assert decision.seconds == pytest.approx(12)
    clock.advance(12)
    lease(p)


@pytest.mark.parametrize("per_minute", [1, 5, 20, 60, 250])
def test_a_group_never_gets_more_than_its_limit_in_any_minute(per_minute: int) -> None:
    p, clock = pool(account("a", images_per_minute=per_minute, max_in_flight=100_000))
    sent: list[float] = []
    for _ in range(6 * 180):
        while isinstance(p.acquire(NEED), Lease):
            sent.append(clock.monotonic())
        clock.advance(1 / 6)
    assert max(sum(t <= s < t + 60 for s in sent) for t in sent) <= per_minute
    assert len(sent) >= 3 * per_minute * 0.95


def test_a_429_cools_the_whole_group_for_its_retry_after() -> None:
    p, clock = pool(
        account("a", "org", images_per_minute=60),
        account("b", "org", images_per_minute=60),
        account("c", "other"),
    )
    first = lease(p, tried=frozenset({"c"}))
    p.release(first, fault(FaultClass.THROTTLED, retry_after_s=30))
    assert {lease(p).account.name for _ in range(6)} == {"c"}
    clock.advance(29)
    assert {lease(p).account.name for _ in range(6)} == {"c"}
    clock.advance(5)
    assert lease(p, tried=frozenset({"c"})).account.group == "org"


def test_429s_without_a_header_cool_longer_each_time() -> None:
    p, clock = pool(account("a", images_per_minute=200))
    waits = []
    for _ in range(4):
        p.release(lease(p), fault(FaultClass.THROTTLED))
        waits.append(p.views()[0].until_s or 0)
        clock.advance(60)
    assert 2.5 <= waits[0] <= 5
    assert 20 <= waits[3] <= 40


def test_a_429_is_no_failure_of_the_account() -> None:
    p, clock = pool(account("a", images_per_minute=60), account("b", images_per_minute=60))
    for _ in range(30):
        p.release(lease(p), fault(FaultClass.THROTTLED, retry_after_s=1))
        clock.advance(61)
    assert set(states(p).values()) == {"ready"}


def test_what_the_headers_tell_is_obeyed_from_good_answers_and_refusals_alike() -> None:
    told = (LimitNotice(unit="images", limit=3),)
    for error in (None, fault(FaultClass.THROTTLED, retry_after_s=1, limits=told)):
        p, _ = pool(account("a", images_per_minute=50))
        p.release(lease(p), error, limits=() if error else told)
        assert p.limiters["a"].images_per_minute == 3


def test_max_in_flight_is_kept() -> None:
    p, _ = pool(account("a", max_in_flight=2))
    first = lease(p)
    lease(p)
    assert isinstance(p.acquire(NEED), Wait)
    p.release(first, None)
    lease(p)


def test_without_a_stated_bound_slow_pictures_may_pile_up_only_as_far_as_the_limit_lets_them() -> (
    None
):
    p, clock = pool(account("a", images_per_minute=4), policy=PoolConfig(burst_share=1))
    held = 0
    for _ in range(60):
        clock.advance(60)
        while isinstance(p.acquire(NEED), Lease):
            held += 1
    assert held == 4 * 150 / 60 + 1


def test_what_did_not_leave_is_not_counted() -> None:
    p, _ = pool(account("a", images_per_minute=1))
    p.drop(lease(p), sent=False)
    p.drop(lease(p))
    assert isinstance(p.acquire(NEED), Wait)


def test_a_place_that_other_processes_have_taken_is_waited_for() -> None:
    p, clock = pool(account("a", images_per_minute=60))
    p.blocked(lease(p), 20)
    decision = p.acquire(NEED)
    assert isinstance(decision, Wait)
    assert decision.seconds == pytest.approx(20)
    clock.advance(20)
    lease(p)


def test_the_pace_is_that_of_all_groups_together() -> None:
    p, _ = pool(
        account("a", "org", images_per_minute=20),
        account("b", "org", images_per_minute=20),
        account("c", images_per_minute=10),
    )
    assert p.pace_s(NEED) == pytest.approx(2)
    free, _ = pool(account("a", images_per_minute=20), account("b"))
    assert free.pace_s(NEED) == 0


def test_a_forecast_takes_nothing() -> None:
    p, _ = pool(account("a", images_per_minute=1))
    for _ in range(5):
        assert p.forecast(NEED) == Wait(0)
    lease(p)
    forecast = p.forecast(NEED)
    assert isinstance(forecast, Wait)
    assert 59 <= forecast.seconds <= 62


# --- how long pictures take -------------------------------------------------------------------


def deliver(p: Pool, clock: ManualClock, need: Need, seconds: float, times: int = 60) -> None:
    for _ in range(times):
        one = lease(p, need)
        clock.advance(seconds)
        good(p, one)


def test_a_stall_is_what_is_slower_than_almost_all_within_bounds() -> None:
    p, clock = pool(account("a"))
    a = account("a")
    assert p.soft_timeout_s(a, NEED) == 100
    deliver(p, clock, NEED, 20)
    assert p.soft_timeout_s(a, NEED) == 60
    big, bigger = Need(VIP, size="2048x2048"), Need(VIP, size="4096x4096")
    deliver(p, clock, big, 90)
    assert p.soft_timeout_s(a, big) == pytest.approx(90, rel=0.1)
    assert p.soft_timeout_s(a, NEED) == 60
    deliver(p, clock, bigger, 400)
    assert p.soft_timeout_s(a, bigger) == 150


def test_what_is_typical_is_told_by_size() -> None:
    p, clock = pool(account("a"))
    big = Need(VIP, size="4096x4096")
    assert p.typical_s(NEED) == 0
    deliver(p, clock, NEED, 30)
    deliver(p, clock, big, 150)
    assert p.typical_s(big) == pytest.approx(150, rel=0.1)
    assert p.typical_s(NEED) == pytest.approx(30, rel=0.1)
    assert p.long_s(NEED) == pytest.approx(30, rel=0.1)


def test_the_pace_of_a_server_without_a_limit_is_what_it_can_draw_at_once() -> None:
    p, clock = pool(account("own", max_in_flight=2))
    assert p.pace_s(NEED) == 0
    first = lease(p)
    clock.advance(30)
    p.release(first, None)
    assert p.pace_s(NEED) == pytest.approx(15, rel=0.05)


def test_a_dearer_tier_is_not_tried_again_while_a_cheaper_one_is_free() -> None:
    p, clock = pool(account("cheap"), account("dear", tier=2), account("third", tier=2))
    for _ in range(5):
        one = only(p, "dear", "cheap", "third")
        clock.advance(0.1)
        p.release(one, fault(FaultClass.FAST))
    assert states(p)["dear"] == "ejected"
    clock.advance(60)
    assert {lease(p).account.name for _ in range(5)} == {"cheap"}
