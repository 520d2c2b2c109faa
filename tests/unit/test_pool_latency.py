"""How long pictures take is told within a tenth; second purchases stay within their share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.pool.hedging import FIRST, HOUR_S, HedgeBudget
from safelight.pool.latency import ENOUGH, GROWTH, HALF_LIFE_S, Histogram, Latencies

START = 500_000.0


@settings(max_examples=150, deadline=None)
@given(
    seconds=st.lists(st.floats(0.02, 900), min_size=1, max_size=200),
    share=st.floats(0.01, 1.0),
)
def test_a_quantile_errs_by_a_tenth_at_most(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one, START)
    true = sorted(seconds)[max(0, math.ceil(share * len(seconds) - 1e-9) - 1)]
    told = histogram.quantile(share)
    assert told is not None
    assert true / 1.001 <= told <= true * GROWTH * 1.001


def test_nothing_is_told_without_samples() -> None:
    assert Histogram().quantile(0.5) is None
    assert Latencies().quantile(0.5) is None
    assert Latencies().typical() is None


def test_what_is_older_than_a_day_is_forgotten() -> None:
    histogram = Histogram()
    for hour in range(24):
        histogram.add(10, START + hour * 3600)
    assert histogram.quantile(0.5) == pytest.approx(10, rel=0.11)
    for hour in range(24, 49):
        histogram.add(100, START + hour * 3600)
    assert histogram.quantile(0.01) == pytest.approx(100, rel=0.11)
    assert histogram.count <= 25


def test_what_is_older_than_a_day_is_forgotten_after_a_pause_too() -> None:
    histogram = Histogram()
    for _ in range(100):
        histogram.add(10, START)
    histogram.add(100, START + 6 * HALF_LIFE_S)
    assert histogram.quantile(0.01) == pytest.approx(100, rel=0.11)


def test_the_tail_is_told_only_when_enough_is_known() -> None:
    latencies = Latencies()
    for _ in range(ENOUGH - 1):
        latencies.add("m", "1024x1024", 30, START)
    assert latencies.quantile(0.99, "m", "1024x1024") is None
    assert latencies.typical("m", "1024x1024") == pytest.approx(30, rel=0.11)
    latencies.add("m", "1024x1024", 30, START)
    assert latencies.quantile(0.99, "m", "1024x1024") == pytest.approx(30, rel=0.11)


def test_a_kind_that_is_not_known_yet_is_told_from_all() -> None:
    latencies = Latencies()
    for _ in range(ENOUGH):
        latencies.add("m", "1024x1024", 30, START)
    latencies.add("m", "4096x4096", 150, START)
    assert latencies.quantile(0.5, "m", "4096x4096") == pytest.approx(30, rel=0.11)
    assert latencies.typical("m", "4096x4096") == pytest.approx(150, rel=0.11)
    assert latencies.typical("m", "2048x2048") == pytest.approx(30, rel=0.11)


# --- second purchases ----------------------------------------------------------------------------


def test_a_few_pictures_may_be_bought_twice_before_a_share_means_anything() -> None:
    budget = HedgeBudget(0.02)
    for _ in range(FIRST):
        assert budget.allows(START)
        budget.note_picture(START, twice=True)
    assert not budget.allows(START)


def test_no_more_than_the_share_of_an_hours_pictures_is_bought_twice() -> None:
    budget, twice = HedgeBudget(0.02), 0
    for second in range(3000):
        again = budget.allows(START + second)
        twice += again
        budget.note_picture(START + second, twice=again)
    assert twice == 60


def test_after_an_hour_the_count_begins_anew() -> None:
    budget = HedgeBudget(0.02)
    for _ in range(FIRST):
        budget.note_picture(START, twice=True)
    assert not budget.allows(START + HOUR_S)
    assert budget.allows(START + HOUR_S + 1)


def test_a_share_of_nothing_allows_nothing() -> None:
    assert not HedgeBudget(0.0).allows(START)
