"""An account is taken out for its own failures only, and let back carefully but surely."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.pool import Lease, Need
from safelight.pool.health import LACK_MAX_S, LACK_S, Health
from safelight.types import Account

POLICY = PoolConfig()
START = 1000.0
NEED = Need("vip", size="1024x1024")
ACCOUNT = Account(name="a", upstream="openai", group="a", channels=("vip",))
EDIT = Need("vip", edits=True, size="1024x1024", inputs=1)


class Watched(Health):
    """A health with attempts made at once: they leave, end and are booked at one time."""

    def begin(self, now: float) -> Lease:
        lease = Lease(ACCOUNT, NEED, now)
        self.leave(lease)
        return lease

    def good(self, now: float) -> None:
        lease = self.begin(now)
        self.end(lease)
        self.succeed(lease, now)

    def bad(self, fault: FaultClass, now: float, others_fail: float = 0.0) -> bool:
        lease = self.begin(now)
        self.end(lease)
        return self.fail(lease, fault, now, others_fail=others_fail)


def health() -> Watched:
    return Watched(POLICY, random.Random(11))


def failures(one: Watched, fault: FaultClass, others_fail: float = 0.0) -> int:
    """Fail until the account should go out; return how many failures that took."""
    for count in range(1, 100):
        if one.bad(fault, START, others_fail):
            return count
    raise AssertionError("never out")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(FaultClass.FAST, 5), (FaultClass.SLOW, 3), (FaultClass.BAD_OUTPUT, 3)],
)
def test_so_many_failures_in_a_row_take_an_account_out(fault: FaultClass, expected: int) -> None:
    assert failures(health(), fault) == expected


def test_quick_and_slow_failures_add_up() -> None:
    one = health()
    outs = [
        one.bad(fault, START)
        for fault in (FaultClass.FAST, FaultClass.SLOW, FaultClass.FAST, FaultClass.SLOW)
    ]
    assert outs == [False, False, False, True]


def test_a_picture_in_between_begins_the_row_anew() -> None:
    one = health()
    for _ in range(30):
        for _ in range(2):
            assert not one.bad(FaultClass.FAST, START, 0.9)
        one.good(START)


def test_half_failed_of_ten_is_out_even_if_never_in_a_row() -> None:
    one, outs = health(), []
    for _ in range(5):
        one.good(START)
        outs.append(one.bad(FaultClass.FAST, START, 0.1))
    assert outs == [False, False, False, False, True]


def test_half_failed_is_no_reason_where_the_others_do_no_better() -> None:
    one = health()
    for _ in range(50):
        one.good(START)
        assert not one.bad(FaultClass.FAST, START, 0.4)


def test_what_is_older_than_ten_minutes_does_not_count() -> None:
    one = health()
    for _ in range(20):
        one.good(START)
        one.bad(FaultClass.FAST, START, 0.9)
    assert one.bad(FaultClass.FAST, START + 599)
    assert not one.bad(FaultClass.FAST, START + 601)


def test_the_first_time_out_is_short_and_each_failed_return_doubles_it_up_to_a_bound() -> None:
    one, now, lasts = health(), START, []
    failures(one, FaultClass.FAST)
    for _ in range(6):
        one.eject(now)
        lasts.append(one.ejected_until - now)
        now = one.ejected_until
        assert not one.ejected(now)
        assert one.bad(FaultClass.FAST, now)
    for seconds, full in zip(lasts, (15, 30, 50, 50, 50, 50), strict=True):
        assert 0.8 * full <= seconds <= full


def test_it_comes_back_with_one_trial_at_a_time() -> None:
    one = health()
    one.eject(START)
    back = one.ejected_until
    assert one.ejected(back - 0.1)
    assert not one.ejected(back)
    trial = one.begin(back)
    assert trial.trial
    assert one.ejected(back + 30)
    one.end(trial)
    one.succeed(trial, back + 30)
    assert not one.ejected(back + 30)
    assert not one.begin(back + 30).trial


def test_attempts_that_left_before_it_was_out_are_no_trials() -> None:
    one = health()
    early = one.begin(START)
    failures(one, FaultClass.FAST)
    one.eject(START)
    trial = one.begin(one.ejected_until)
    one.end(early)
    assert one.ejected(one.ejected_until)
    one.end(trial)
    assert not one.ejected(one.ejected_until)


def test_an_old_success_ends_no_row_of_younger_failures() -> None:
    """A picture that was begun before the fault says nothing of it."""
    one = health()
    early = one.begin(START)
    for second in range(1, 5):
        assert not one.bad(FaultClass.FAST, START + second)
    one.end(early)
    one.succeed(early, START + 40)
    assert one.bad(FaultClass.FAST, START + 41)


def test_failures_are_no_reason_while_others_of_their_time_live_on() -> None:
    """Failures are quick and pictures slow: at first only the failures have ended."""
    one = health()
    alive = one.begin(START)
    outs = [one.bad(FaultClass.FAST, START - 0.1 + n * 4) for n in range(6)]
    one.end(alive)
    assert not any(outs)
    assert one.bad(FaultClass.FAST, START + 40)


def test_it_takes_its_load_slowly_after_it_came_back() -> None:
    one = health()
    assert one.share(START) == 1
    one.eject(START)
    one.good(START + 20)
    shares = [one.share(START + 20 + seconds) for seconds in (0, 3, 30, 60, 600)]
    assert shares == [0.1, 0.1, 0.5, 1.0, 1.0]


def test_a_healthy_while_makes_the_next_time_out_short_again() -> None:
    one = health()
    for _ in range(4):
        one.eject(START)
    one.good(START + 50)
    one.good(START + 111)
    one.eject(START + 200)
    assert one.ejected_until - (START + 200) <= 15


def test_a_trial_that_told_nothing_makes_room_for_the_next() -> None:
    one = health()
    one.eject(START)
    one.end(one.begin(START))
    assert not one.ejected(one.ejected_until)
    assert one.half_open


steps = st.lists(
    st.tuples(
        st.sampled_from(["leave", "succeed", "fast", "slow", "refuse", "accept", "nothing"]),
        st.floats(0, 100),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_no_account_stays_out_for_ever_once_it_is_healthy(
    steps: list[tuple[str, float]],
) -> None:
    """Whatever has happened: when its attempts end well, it carries its full share in minutes."""
    one, now, out = health(), START, list[Lease]()
    for step, seconds in steps:
        now += seconds
        if step == "leave" or not out:
            out.append(one.begin(now))
            continue
        lease = out.pop(round(seconds) % len(out))
        one.end(lease)
        match step:
            case "succeed":
                one.succeed(lease, now)
            case "fast" | "slow":
                if one.fail(lease, FaultClass(step), now, others_fail=0):
                    one.eject(now)
            case "refuse":
                one.refuse()
            case "accept":
                one.accept(now)
        assert 0 <= one.fail_share <= 1
        assert one.ejected_until <= now + POLICY.ejection_max_s
    for lease in out:
        one.end(lease)
    if one.refused:
        one.accept(now)
    now = max(now, one.ejected_until)
    assert not one.ejected(now)
    one.good(now)
    assert not one.ejected(now)
    assert one.share(now + POLICY.slow_start_s) == pytest.approx(1)


def test_a_refused_credential_is_out_until_a_probe_finds_it_accepted() -> None:
    one = health()
    one.refuse()
    one.refuse()
    assert (one.refused, one.refusals) == (True, 2)
    one.good(START)
    refused = [one.refused]
    one.accept(START + 5)
    assert [*refused, one.refused] == [True, False]
    assert not one.ejected(START + 5)
    one.good(START + 6)
    assert (one.refusals, one.half_open) == (0, False)


# --- what it lacks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "lacking", "serving"),
    [
        ("model", [NEED, EDIT], []),
        ("edits", [EDIT], [NEED]),
        ("size", [NEED, EDIT], [Need("vip", size="2048x2048")]),
    ],
)
def test_only_what_it_lacks_is_not_asked_for(
    what: str, lacking: list[Need], serving: list[Need]
) -> None:
    one = health()
    one.lack(EDIT, what, START)
    assert all(one.lacks(need, START) for need in lacking)
    assert not any(one.lacks(need, START) for need in serving)


def test_what_it_lacked_is_asked_for_again_ever_more_rarely() -> None:
    one, now, lasts = health(), START, []
    for _ in range(8):
        one.lack(EDIT, "edits", now)
        began = now
        while one.lacks(EDIT, now):
            now += 60
        lasts.append(now - began)
    assert lasts[:3] == [LACK_S, 2 * LACK_S, 4 * LACK_S]
    assert lasts[-1] == LACK_MAX_S
