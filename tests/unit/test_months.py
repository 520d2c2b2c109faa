"""Months as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from safelight.months import month_span


def test_a_month_goes_from_its_first_second_to_the_next_ones() -> None:
    """December ends with the year, and February knows leap years."""
    assert month_span("1970-01") == (0, 31 * 86_400)
    assert month_span("2026-12")[1] == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    begin, after = month_span("2028-02")
    assert after - begin == 29 * 86_400


def test_months_follow_each_other_without_a_gap() -> None:
    names = [f"{year}-{month:02d}" for year in range(2026, 2030) for month in range(1, 13)]
    spans = [month_span(name) for name in names]
    assert all(one[1] == following[0] for one, following in pairwise(spans))


@pytest.mark.parametrize(
    "text",
    [
        *("2026-13", "2026-00", "0000-00", "0000-01", "9999-12", "1969-12", "2026", "2026-1"),
        *("2026-11-01", "", "x", "2026-11\n", " 2026-11", "\uff12026-11"),
    ],
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2026-11"):
        month_span(text)
