"""Faults are booked where they belong, and what was out comes back."""

from __future__ import annotations

from collections import Counter

import pytest

from pool_desk import EDIT, NEED, VIP, account, fail, fault, good, lease, only, pool, states
from safelight.accounts import STATES
from safelight.errors import FaultClass, Lack
from safelight.pool import Down, Lease, Need, Nothing

# --- refusals of accounts ---------------------------------------------------------------------


def test_a_refused_credential_is_out_after_one_answer() -> None:
    p, clock = pool(account("a", "org"), account("b", "org"))
    p.release(only(p, "a", "b"), fault(FaultClass.AUTH))
    assert {lease(p).account.name for _ in range(5)} == {"b"}
    clock.advance(86_400)
    assert {lease(p).account.name for _ in range(5)} == {"b"}
    assert p.refused_accounts() == [(account("a", "org"), 1)]


def test_an_accepted_credential_comes_back_with_one_trial() -> None:
    p, clock = pool(account("a"), account("b"))
    p.release(only(p, "a", "b"), fault(FaultClass.AUTH))
    p.accept("a")
    assert p.refused_accounts() == []
    trial = lease(p)
    assert (trial.account.name, trial.trial) == ("a", True)
    assert lease(p).account.name == "b"
    clock.advance(40)
    good(p, trial)
    assert states(p) == {"a": "ready", "b": "ready"}


def test_when_every_credential_is_refused_nobody_waits() -> None:
    p, _ = pool(account("a"))
    p.release(lease(p), fault(FaultClass.AUTH))
    decision = p.acquire(NEED)
    assert isinstance(decision, Nothing)
    assert decision.code == "pool_exhausted"


def test_a_group_without_money_is_out_and_tried_again_later_once() -> None:
    p, clock = pool(account("a", "org"), account("b", "org"))
    p.release(lease(p), fault(FaultClass.QUOTA))
    decision = p.acquire(NEED)
    assert isinstance(decision, Nothing)
    assert decision.code == "pool_exhausted"
    clock.advance(901)
    p.release(lease(p), fault(FaultClass.QUOTA))
    assert isinstance(p.acquire(NEED), Nothing)
    clock.advance(901)
    trial = lease(p)
    assert isinstance(p.acquire(NEED), Nothing)
    good(p, trial)
    lease(p)


def test_pictures_begun_before_the_money_ran_out_do_not_say_that_there_is_some() -> None:
    p, clock = pool(account("a"))
    early, late = lease(p), lease(p)
    clock.advance(1)
    p.release(late, fault(FaultClass.QUOTA))
    clock.advance(40)
    good(p, early)
    assert isinstance(p.acquire(NEED), Nothing)


@pytest.mark.parametrize(
    ("lacks", "lost", "kept"),
    [
        ("model", NEED, None),
        ("edits", EDIT, NEED),
        ("size", NEED, Need(VIP, size="2048x2048")),
    ],
)
def test_what_one_account_lacks_the_others_are_asked_for(
    lacks: Lack, lost: Need, kept: Need | None
) -> None:
    p, _ = pool(account("a", "org"), account("b", "org"))
    error = fault(FaultClass.CAPABILITY, lacks=lacks)
    p.release(only(p, "a", "b", need=lost), error)
    assert {lease(p, lost).account.name for _ in range(5)} == {"b"}
    if kept is not None:
        assert {lease(p, kept).account.name for _ in range(9)} == {"a", "b"}
    p.release(only(p, "b", need=lost), error)
    decision = p.acquire(lost)
    assert isinstance(decision, Nothing)
    assert decision.code == "model_unavailable"


@pytest.mark.parametrize(
    ("lacks", "lost", "kept"),
    [("edits", EDIT, NEED), ("size", NEED, Need(VIP, size="2048x2048"))],
)
def test_a_picture_of_another_kind_says_nothing_of_what_an_account_lacks(
    lacks: Lack, lost: Need, kept: Need
) -> None:
    p, _ = pool(account("a"), account("b"))
    p.release(only(p, "a", "b", need=lost), fault(FaultClass.CAPABILITY, lacks=lacks))
    good(p, only(p, "a", "b", need=kept))
    assert {lease(p, lost).account.name for _ in range(5)} == {"b"}


# --- failures ---------------------------------------------------------------------------------


def test_the_callers_own_faults_blame_nobody() -> None:
    p, clock = pool(account("a"), account("b"))
    for _ in range(1000):
        one = lease(p)
        clock.advance(3)
        p.release(one, fault(FaultClass.CLIENT))
    assert set(states(p).values()) == {"ready"}
    names = [lease(p).account.name for _ in range(4)]
    assert sorted(names) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("kind", "failures"),
    [(FaultClass.FAST, 5), (FaultClass.SLOW, 3), (FaultClass.BAD_OUTPUT, 3)],
)
def test_a_dead_account_among_sound_ones_is_out_after_so_many_failures(
    kind: FaultClass, failures: int
) -> None:
    p, clock = pool(*(account(f"a{n}") for n in range(10)))
    met = 0
    for _ in range(400):
        one = lease(p)
        clock.advance(0.1)
        dead = one.account.name == "a0"
        met += dead
        if dead:
            p.release(one, fault(kind))
        else:
            good(p, one)
        if states(p)["a0"] != "ready":
            break
    assert met <= failures


def test_an_account_whose_pictures_are_unusable_is_out_after_three_in_a_row() -> None:
    """They come as complete answers; only a look at the picture tells."""
    p, clock = pool(account("a"), account("b"), account("c"))
    for _ in range(3):
        one = only(p, "a", "b", "c") if states(p)["a"] == "ready" else None
        assert one is not None
        clock.advance(40)
        p.release(one, None)
        p.blame(one, fault(FaultClass.BAD_OUTPUT))
    assert states(p)["a"] == "ejected"


def test_an_account_that_failed_its_trial_with_an_unusable_picture_stays_out() -> None:
    p, clock = pool(account("a"), account("b"))
    for _ in range(5):
        p.release(only(p, "a", "b"), fault(FaultClass.FAST))
    clock.advance(16)
    trial = lease(p)
    assert trial.trial
    clock.advance(40)
    p.release(trial, None)
    p.blame(trial, fault(FaultClass.BAD_OUTPUT))
    assert states(p)["a"] == "ejected"


def test_an_account_that_is_out_comes_back_with_one_trial_and_little_load() -> None:
    p, clock = pool(*(account(f"a{n}") for n in range(4)))
    others = ("a1", "a2", "a3")
    for _ in range(5):
        p.release(only(p, "a0", *others), fault(FaultClass.FAST))
    assert states(p)["a0"] == "ejected"
    assert "a0" not in {lease(p).account.name for _ in range(20)}
    clock.advance(16)
    trial = lease(p)
    assert (trial.account.name, trial.trial) == ("a0", True)
    assert "a0" not in {lease(p).account.name for _ in range(20)}
    good(p, trial)
    names = Counter(lease(p).account.name for _ in range(40))
    assert names["a0"] <= 6
    clock.advance(60)
    names = Counter(lease(p).account.name for _ in range(60))
    assert names["a0"] >= 8


def test_failures_that_were_under_way_when_it_went_out_make_it_no_longer() -> None:
    """Only a return that fails makes the next time out longer."""
    p, clock = pool(account("a"), account("b"))
    held = [only(p, "a", "b") for _ in range(12)]
    for one in held:
        clock.advance(0.1)
        p.release(one, fault(FaultClass.FAST))
    view = p.views()[0]
    assert view.state == "ejected"
    assert view.until_s is not None
    assert view.until_s <= 15


def test_never_more_than_half_of_an_endpoints_accounts_are_out() -> None:
    p, clock = pool(*(account(f"a{n}") for n in range(6)))
    for _ in range(19):
        one = lease(p, tried=frozenset({"a5"}))
        clock.advance(0.1)
        p.release(one, fault(FaultClass.BAD_OUTPUT))
        assert Counter(states(p).values())["ejected"] <= 3


def test_a_single_account_is_never_out_for_failures() -> None:
    p, clock = pool(account("a"))
    fail(p, clock, FaultClass.FAST, 15)
    assert states(p) == {"a": "ready"}


def test_an_attempt_that_the_callers_deadline_cut_short_says_nothing() -> None:
    p, clock = pool(account("a"), account("b"))
    for _ in range(10):
        one = only(p, "a", "b")
        clock.advance(20)
        p.release(one, fault(FaultClass.SLOW), deadline=clock.monotonic())
    assert states(p) == {"a": "ready", "b": "ready"}
    for _ in range(3):
        one = only(p, "a", "b")
        clock.advance(120)
        p.release(one, fault(FaultClass.SLOW), deadline=clock.monotonic())
    assert states(p)["a"] != "ready"


def test_a_suspected_stall_is_booked_at_once_and_only_once() -> None:
    p, clock = pool(account("a"), account("b"))
    held = [only(p, "a", "b") for _ in range(3)]
    clock.advance(100)
    for one in held[:2]:
        p.suspect(one)
        p.suspect(one)
    assert states(p)["a"] == "ready"
    for one in held[:2]:
        p.release(one, fault(FaultClass.SLOW))
    assert states(p)["a"] == "ready"
    p.suspect(held[2])
    assert states(p)["a"] == "ejected"


# --- outages ----------------------------------------------------------------------------------


def test_an_outage_takes_the_endpoint_down_and_only_canaries_go_out() -> None:
    p, clock = pool(*(account(f"a{n}") for n in range(10)))
    fail(p, clock, FaultClass.FAST, 20, seconds=0.1)
    assert set(states(p).values()) == {"down"}
    out = 0
    for _ in range(600):
        decision = p.acquire(NEED)
        assert isinstance(decision, Lease | Down)
        if isinstance(decision, Lease):
            out += 1
            p.release(decision, fault(FaultClass.FAST))
        clock.advance(0.1)
    assert 10 <= out <= 13


def test_refused_connections_take_an_endpoint_down_but_no_account_out() -> None:
    p, clock = pool(account("a"), account("b"))
    fail(p, clock, FaultClass.LOCAL, 5, seconds=0.1)
    assert isinstance(p.acquire(NEED), Down)
    clock.advance(5)
    good(p, lease(p))
    assert states(p) == {"a": "ready", "b": "ready"}


def test_a_refused_connection_takes_nothing_from_the_budget() -> None:
    p, clock = pool(account("a", images_per_minute=5))
    for _ in range(4):
        p.release(lease(p), fault(FaultClass.LOCAL))
    clock.advance(0.1)
    lease(p)


def test_another_endpoint_goes_on() -> None:
    p, clock = pool(account("a", base_url="https://one.example"), account("b"))
    for _ in range(5):
        p.release(only(p, "a", "b"), fault(FaultClass.LOCAL))
    assert states(p)["a"] == "down"
    assert {lease(p).account.name for _ in range(5)} == {"b"}
    clock.advance(5)
    assert lease(p).account.name == "a"


def test_while_everything_is_down_nobody_waits_for_a_budget() -> None:
    """A canary may be due whose group has nothing free: that is no reason to wait for it."""
    p, clock = pool(account("a", images_per_minute=5))
    for _ in range(9):
        p.release(lease(p), fault(FaultClass.SLOW))
        clock.advance(13)
    p.release(lease(p), fault(FaultClass.SLOW))
    clock.advance(6)
    assert isinstance(p.acquire(NEED), Down)
    assert isinstance(p.forecast(NEED), Down)
    clock.advance(7)
    lease(p)


def test_everything_healed_is_in_use_again_soon_after_an_outage() -> None:
    p, clock = pool(*(account(f"a{n}") for n in range(10)))
    fail(p, clock, FaultClass.FAST, 20, seconds=0.1)
    clock.advance(600)
    healed, held = clock.monotonic(), list[Lease]()
    while clock.monotonic() < healed + 60:
        while isinstance(one := p.acquire(NEED), Lease) and len(held) < 50:
            held.append(one)
        for old in [one for one in held if clock.monotonic() - one.at >= 10]:
            held.remove(old)
            good(p, old)
        clock.advance(0.5)
    assert set(states(p).values()) <= {"ready"}
    assert {one.account.name for one in held} == {f"a{n}" for n in range(10)}


# --- views ------------------------------------------------------------------------------------


def test_the_views_say_how_every_account_does_in_words_that_people_know() -> None:
    p, clock = pool(
        account("ready"),
        account("refused"),
        account("empty"),
        account("cooling"),
        account("out"),
        account("down", base_url="https://two.example"),
    )
    names = set(states(p))

    def end(name: str, kind: FaultClass, **more: object) -> None:
        p.release(only(p, name, *(names - {name})), fault(kind, **more))

    for _ in range(5):
        end("down", FaultClass.LOCAL)
        end("out", FaultClass.FAST)
    end("refused", FaultClass.AUTH)
    end("empty", FaultClass.QUOTA)
    end("cooling", FaultClass.THROTTLED, retry_after_s=50)
    held = only(p, "ready", *(names - {"ready"}))
    views = {view.account.name: view for view in p.views()}
    assert {name: view.state for name, view in views.items()} == {
        "ready": "ready",
        "refused": "refused",
        "empty": "exhausted",
        "cooling": "cooling",
        "out": "ejected",
        "down": "down",
    }
    assert views["ready"].in_flight == 1
    assert views["cooling"].until_s == pytest.approx(52, abs=3)
    assert views["empty"].until_s == 900
    assert views["refused"].until_s is None
    assert {view.state for view in views.values()} <= set(STATES)
    p.release(held, None)
    clock.advance(16)
    assert states(p)["out"] == "returning"
    assert "ready ready" in repr(p)
