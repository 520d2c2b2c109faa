"""A meter never lets more out in any minute than its limit, and learns that limit from refusals."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safelight.config import PoolConfig
from safelight.errors import FaultClass, LimitUnit, UpstreamError
from safelight.notices import LimitNotice
from safelight.pool import Need
from safelight.pool.limiter import IMAGES, INPUT_IMAGES, REQUESTS, Learnt, Limiter
from safelight.pool.meter import MINUTE_S, REST_S, Meter, Spent
from safelight.types import Account

POLICY = PoolConfig()
LEARNING = PoolConfig(learn_above_configured=True)
START = 1000.0

rates = st.one_of(st.floats(0.1, 400), st.integers(1, 400).map(float))
pauses = st.lists(st.floats(0, 40), min_size=1, max_size=80)


def fill(meter: Meter, now: float, seconds: float) -> list[Spent]:
    """Spend whatever fits in every tenth of a second; `at` of each is when it went out."""
    sent = []
    for tenth in range(round(seconds * 10)):
        at = now + tenth / 10
        while meter.free_in(at) <= 0:
            sent.append(meter.spend(at))
    return sent


def worst_minute(sent: list[Spent]) -> int:
    return max(sum(s.units for s in sent if one.at <= s.at < one.at + MINUTE_S) for one in sent)


# --- what is sent ----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(rate=rates, gaps=pauses, share=st.floats(0, 1), data=st.data())
def test_no_minute_holds_more_than_the_limit_whatever_is_spent(
    rate: float, gaps: list[float], share: float, data: st.DataObject
) -> None:
    """Greedy, idle, with single units and several: wherever the minute begins."""
    meter, now, sent = Meter(rate, PoolConfig(burst_share=share)), START, []
    for gap in gaps:
        now += gap
        units = data.draw(st.integers(1, 4), label="units")
        for _ in range(20):
            if meter.free_in(now, units) > 0:
                break
            sent.append(meter.spend(now, units))
    if sent:
        assert worst_minute(sent) <= max(math.floor(rate + 1e-9), 1, *(s.units for s in sent))


@settings(max_examples=60, deadline=None)
@given(rate=rates, share=st.floats(0, 1))
def test_free_in_is_true(rate: float, share: float) -> None:
    """After the wait that was told (perhaps told twice) the unit does go out."""
    meter, now = Meter(rate, PoolConfig(burst_share=share)), START
    for _ in range(30):
        for _ in range(3):
            now += meter.free_in(now)
        assert meter.free_in(now) <= 1e-6
        meter.spend(now)


@pytest.mark.parametrize("per_minute", [1, 5, 20, 60, 250])
def test_the_whole_limit_is_used_but_for_the_guard(per_minute: int) -> None:
    meter = Meter(per_minute, POLICY)
    sent = fill(meter, START, 601)
    assert worst_minute(sent) == per_minute
    assert len(sent) >= 10 * per_minute * 60 / 61.5


def test_units_go_out_spaced_but_for_a_small_burst() -> None:
    meter = Meter(60, PoolConfig(burst_share=0.1))
    first = fill(meter, START, 0.1)
    assert len(first) == 6
    assert meter.free_in(START) == pytest.approx(1)
    assert len(fill(meter, START + 1, 9.95)) == 10


def test_less_than_one_a_minute_is_one_in_so_many_minutes() -> None:
    meter = Meter(0.25, POLICY)
    meter.spend(START)
    assert meter.free_in(START) == pytest.approx(241, abs=1)
    assert meter.free_in(START + 100) == pytest.approx(141, abs=1)


def test_more_units_than_the_limit_go_out_alone() -> None:
    meter = Meter(4, POLICY)
    meter.spend(START)
    assert meter.free_in(START + 15, units=16) > 0
    assert meter.free_in(START + 62, units=16) == 0


def test_without_a_limit_everything_fits() -> None:
    meter = Meter(None, POLICY)
    for _ in range(1000):
        assert meter.free_in(START) == 0
        meter.spend(START)


def test_nothing_costs_nothing() -> None:
    meter = Meter(1, POLICY)
    meter.spend(START)
    assert meter.free_in(START, 0) == 0
    meter.spend(START, 0)
    assert meter.free_in(START + 61) == pytest.approx(0)


@settings(max_examples=100, deadline=None)
@given(rate=rates, gaps=st.lists(st.floats(0, 30), max_size=30), gap=st.floats(0, 90))
def test_what_is_taken_back_was_never_sent(rate: float, gaps: list[float], gap: float) -> None:
    """Two meters spend alike; one also spends and takes back: they stay alike."""
    plain, other, now = Meter(rate, POLICY), Meter(rate, POLICY), START
    for step in gaps:
        now += step
        if plain.free_in(now) <= 0:
            plain.spend(now)
            other.spend(now)
    other.take_back(other.spend(now))
    assert other.free_in(now + gap) == pytest.approx(plain.free_in(now + gap), abs=1e-6)
    assert other.free_in(now + gap, 3) == pytest.approx(plain.free_in(now + gap, 3), abs=1e-6)


def test_taking_back_twice_or_too_late_changes_nothing() -> None:
    meter = Meter(2, POLICY)
    spent = meter.spend(START)
    meter.take_back(spent)
    meter.take_back(spent)
    late = meter.spend(START)
    assert meter.free_in(START + 100) == 0  # and so has forgotten it
    meter.take_back(late)
    assert len(fill(meter, START + 100, 60)) == 2


# --- learning from refusals --------------------------------------------------------------------


def test_a_refusal_tells_the_limit_that_was_just_granted() -> None:
    meter = Meter(20, POLICY)
    sent = fill(meter, START, 40)
    taken, refused = sent[:7], sent[7]
    assert all(spent.granted for spent in taken)
    meter.refuse(refused, refused.at + 0.2)
    assert (meter.per_minute, meter.learnt) == (10, True)  # seven of 20: less than half says little
    one = Meter(20, POLICY)
    sent = fill(one, START, 60)
    one.refuse(sent[12], sent[12].at + 0.2)
    assert one.per_minute == 12


def test_the_count_of_all_processes_counts_more_than_its_own() -> None:
    meter = Meter(20, POLICY)
    meter.refuse(meter.spend(START), START + 0.2, granted=15)
    assert meter.per_minute == 15


def test_a_first_refusal_without_a_known_limit_sets_one() -> None:
    meter = Meter(None, POLICY)
    for second in range(9):
        meter.spend(START + second)
    meter.refuse(meter.spend(START + 9), START + 9.2)
    assert meter.per_minute == 9


def test_a_stray_refusal_without_a_known_limit_does_not_hold_for_long() -> None:
    meter = Meter(None, POLICY)
    meter.refuse(meter.spend(START), START)
    assert meter.per_minute == 1
    meter.grant()
    fill(meter, START, 900)
    assert meter.per_minute > 5


def test_a_refusal_of_what_left_before_the_newest_lesson_teaches_nothing() -> None:
    meter = Meter(20, POLICY)
    first, second = meter.spend(START), meter.spend(START)
    meter.refuse(first, START + 1, granted=15)
    meter.refuse(second, START + 1.1, granted=14)
    assert meter.per_minute == 15


def test_refused_again_and_again_it_halves_and_soon_tries_more() -> None:
    meter = Meter(16, LEARNING)
    now = START
    for expected in (12, 6, 3):
        meter.refuse(meter.spend(now), now, granted=12)
        assert meter.per_minute == expected
        now += 1
    meter.grant()
    fill(meter, now, 130)
    assert meter.per_minute is not None
    assert meter.per_minute > 3


def test_a_limit_that_was_used_up_gives_way_a_little() -> None:
    meter = Meter(20, POLICY)
    meter.refuse(meter.spend(START), START, granted=20)
    assert meter.per_minute == pytest.approx(18)


@settings(max_examples=150, deadline=None)
@given(
    ceiling=st.floats(0.05, 60),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["spend", "refuse", "grant", "notice", "adopt", "wait"]),
            st.floats(0, 200),
        ),
        max_size=60,
    ),
)
def test_learning_never_passes_the_ceiling(ceiling: float, steps: list[tuple[str, float]]) -> None:
    """Whatever is refused, granted, told and adopted; and it never falls to nothing."""
    meter, now = Meter(ceiling, POLICY), START
    for step, value in steps:
        match step:
            case "spend" if meter.free_in(now) <= 0:
                meter.spend(now)
            case "refuse":
                meter.refuse(meter.spend(now), now, granted=round(value))
            case "grant":
                meter.grant()
            case "notice":
                meter.notice(LimitNotice(unit="images", limit=value, remaining=value), now)
            case "adopt":
                meter.adopt(value + 0.01, learnt=True, now=now)
            case _:
                now += value
        assert meter.per_minute is not None
        assert 0 < meter.per_minute <= ceiling
        assert math.isfinite(meter.free_in(now))


def test_the_operator_may_let_it_learn_above_what_is_configured() -> None:
    bounded, free = Meter(10, POLICY), Meter(10, LEARNING)
    for meter in (bounded, free):
        fill(meter, START, 600)
    assert bounded.per_minute == 10
    assert free.per_minute is not None
    assert free.per_minute > 20


def test_an_idle_meter_is_not_raised() -> None:
    meter = Meter(10, LEARNING)
    for minute in range(60):
        for _ in range(3):
            meter.spend(START + 60 * minute)
    assert meter.per_minute == 10


def test_after_a_refusal_it_rests_before_trying_more() -> None:
    meter = Meter(60, LEARNING)
    meter.refuse(meter.spend(START), START, granted=40)
    meter.grant()
    fill(meter, START, REST_S - 10)
    assert meter.per_minute == 40
    fill(meter, START + REST_S, 60)
    assert meter.per_minute > 40


def test_a_learnt_limit_climbs_back_to_a_vendor_that_has_healed() -> None:
    meter = Meter(30, POLICY)
    meter.refuse(meter.spend(START), START, granted=16)
    meter.grant()
    fill(meter, START, 3600)
    assert meter.per_minute == 30


# --- what the vendor tells ------------------------------------------------------------


def test_a_told_limit_is_taken_as_far_as_the_ceiling_allows() -> None:
    meter = Meter(20, POLICY)
    meter.notice(LimitNotice(unit="images", limit=8), START)
    assert (meter.per_minute, meter.learnt) == (8, True)
    meter.notice(LimitNotice(unit="images", limit=500), START)
    assert meter.per_minute == 20
    unknown = Meter(None, POLICY)
    unknown.notice(LimitNotice(unit="images", limit=500), START)
    assert unknown.per_minute == 500


@pytest.mark.parametrize("limit", [0, -5, None])
def test_a_told_limit_of_nothing_is_no_limit(limit: float | None) -> None:
    meter = Meter(20, POLICY)
    meter.notice(LimitNotice(unit="images", limit=limit), START)
    assert meter.per_minute == 20


def test_what_others_have_used_is_not_free_here_until_it_is_reset() -> None:
    meter = Meter(20, POLICY)
    meter.notice(LimitNotice(unit="images", remaining=0, reset_s=30), START)
    assert meter.free_in(START) == pytest.approx(30, abs=1)
    assert meter.free_in(START + 31) == 0


def test_a_told_remainder_never_frees_what_was_used_here() -> None:
    meter = Meter(2, PoolConfig(burst_share=1))
    meter.spend(START)
    meter.spend(START)
    before = meter.free_in(START)
    meter.notice(LimitNotice(unit="images", remaining=50, reset_s=1), START)
    assert meter.free_in(START) == before > 0


def test_own_units_become_free_in_time_beside_what_others_use_longer() -> None:
    meter = Meter(10, PoolConfig(burst_share=1))
    for _ in range(5):
        meter.spend(START)
    meter.notice(LimitNotice(unit="images", remaining=0, reset_s=60), START + 30)
    assert meter.free_in(START + 62) == 0


# --- the group ----------------------------------------------------------------------


def group(policy: PoolConfig = POLICY, **limits: float) -> Limiter:
    account = Account(name="a", upstream="openai", group="org", channels=(), **limits)  # type: ignore[arg-type]
    return Limiter(account, policy, random.Random(5))


def throttled(retry_after_s: float | None = None, unit: LimitUnit | None = None) -> UpstreamError:
    return UpstreamError(FaultClass.THROTTLED, "x", "x", retry_after_s=retry_after_s, unit=unit)


GENERATION = Need("vip")
EDIT = Need("vip", edits=True, inputs=4)


def test_pictures_that_are_sent_along_have_a_limit_of_their_own() -> None:
    limiter = group(input_images_per_minute=6)
    limiter.spend(EDIT, START)
    assert limiter.free_in(EDIT, START + 50) > 0
    assert limiter.free_in(GENERATION, START + 50) == 0
    assert limiter.free_in(EDIT, START + 62) == 0


def test_calls_have_a_limit_of_their_own() -> None:
    limiter = group(images_per_minute=50, requests_per_minute=2)
    for _ in range(2):
        limiter.spend(GENERATION, START)
    assert limiter.free_in(GENERATION, START + 50) > 0


@pytest.mark.parametrize("unit", [IMAGES, INPUT_IMAGES, REQUESTS])
def test_a_refusal_lowers_the_limit_that_it_names(unit: LimitUnit) -> None:
    limiter = group(images_per_minute=50, input_images_per_minute=50, requests_per_minute=50)
    spent = limiter.spend(EDIT, START)
    limiter.refuse(spent, throttled(1, unit), START, None)
    lowered = {name for name, meter in limiter.meters.items() if meter.per_minute != 50}
    assert lowered == {unit}


def test_a_refusal_for_tokens_lowers_no_limit_but_cools() -> None:
    limiter = group(images_per_minute=50)
    spent = limiter.spend(GENERATION, START)
    limiter.refuse(spent, throttled(20, "tokens"), START, None)
    assert limiter.images_per_minute == 50
    assert limiter.free_in(GENERATION, START + 19) > 0


def test_a_cooling_lasts_as_told_and_hardly_longer_but_at_most_ten_minutes() -> None:
    for told, least, most in ((30, 30, 33), (86_400, 600, 660)):
        limiter = group()
        limiter.refuse(limiter.spend(GENERATION, START), throttled(told), START, None)
        assert least <= limiter.cooling_until - START <= most


def test_blind_coolings_double_until_something_is_granted() -> None:
    limiter, lasts = group(), []
    for _ in range(7):
        limiter.refuse(limiter.spend(GENERATION, START), throttled(), START, None)
        lasts.append(limiter.cooling_until - START)
    assert lasts == sorted(lasts)
    assert 2.5 <= lasts[0] <= 5
    assert 60 <= lasts[-1] <= 120
    later = START + 1000
    limiter.grant(later)
    limiter.refuse(limiter.spend(GENERATION, later), throttled(), later, None)
    assert limiter.cooling_until - later <= 5


def test_what_other_processes_use_is_waited_for() -> None:
    limiter = group()
    limiter.block(12, START)
    limiter.block(3, START)
    assert limiter.free_in(GENERATION, START + 2) == pytest.approx(10)
    assert limiter.free_in(GENERATION, START + 12) == 0


def test_what_was_learnt_is_told_once_and_taken_over() -> None:
    limiter = group(images_per_minute=20)
    changed = [limiter.changed]
    limiter.refuse(limiter.spend(GENERATION, START), throttled(40), START, 14)
    limiter.exhaust(START)
    changed.append(limiter.changed)
    learnt = limiter.keep(START + 5)
    changed.append(limiter.changed)
    assert changed == [False, True, False]
    assert (learnt.images_per_minute, learnt.learnt, learnt.configured) == (14, True, 20)
    other = group(images_per_minute=20)
    other.adopt(learnt, 9000)
    assert other.images_per_minute == 14
    assert other.free_in(GENERATION, 9000) == pytest.approx(limiter.cooling_until - START - 5)
    assert other.exhausted(9000 + 890)
    assert not other.exhausted(9000 + 896)


def test_another_configuration_is_not_overruled_by_what_was_learnt_under_the_old() -> None:
    limiter = group(images_per_minute=60)
    limiter.adopt(Learnt(14, True, 20, 30, 0), START)
    assert limiter.images_per_minute == 60
    assert limiter.free_in(GENERATION, START) == pytest.approx(30)


def test_a_shorter_cooling_of_another_process_does_not_end_a_longer_one() -> None:
    limiter = group()
    limiter.refuse(limiter.spend(GENERATION, START), throttled(60), START, None)
    limiter.adopt(Learnt(None, False, None, 5, 0), START)
    assert limiter.free_in(GENERATION, START) >= 60


def test_after_the_time_without_money_one_attempt_finds_out() -> None:
    limiter = group()
    limiter.exhaust(START)
    later = START + 901
    assert limiter.exhausted(later - 2)
    assert not limiter.exhausted(later)
    limiter.spend(GENERATION, later)
    assert limiter.exhausted(later)
    assert limiter.on_trial
    limiter.grant(later)
    assert not limiter.exhausted(later)


def test_what_was_granted_before_says_nothing_of_the_money_now() -> None:
    limiter = group()
    limiter.spend(GENERATION, START)
    limiter.exhaust(START + 1)
    limiter.grant(START)
    assert limiter.exhausted(START + 2)
    limiter.grant(START + 1)
    assert not limiter.exhausted(START + 2)


@pytest.mark.parametrize("end", ["told nothing", "did not leave", "throttled"])
def test_a_trial_that_finds_nothing_out_makes_room_for_the_next(end: str) -> None:
    limiter = group()
    limiter.exhaust(START)
    later = START + 901
    spent = limiter.spend(GENERATION, later)
    match end:
        case "told nothing":
            limiter.end_trial()
        case "did not leave":
            limiter.take_back(spent)
        case _:
            limiter.refuse(spent, throttled(1), later, None)
    assert not limiter.exhausted(later + 1)


@example(rate=185.0, spent=36, later=0.0)  # rounding alone seemed to leave no room
@given(rate=rates, spent=st.integers(0, 100), later=st.floats(0, 120))
def test_the_burst_it_tells_is_what_fits_now(rate: float, spent: int, later: float) -> None:
    """So many units leave without a pause, and not one more."""
    meter = Meter(rate, POLICY)
    for _ in range(spent):
        if meter.free_in(START) <= 0:
            meter.spend(START)
    now = START + later
    told = meter.burst(now)
    sent = 0
    while meter.free_in(now) <= 1e-9:
        meter.spend(now)
        sent += 1
    assert told == sent
    assert Meter(None, POLICY).burst(now) == math.inf
