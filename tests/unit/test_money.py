"""Dollars to micro-dollars and back, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.money import MICROS_MAX, dollars_to_micros, micros_to_dollars


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("10", 10_000_000),
        ("10.00", 10_000_000),
        ("0.03", 30_000),
        ("0.000001", 1),
        ("-2.5", -2_500_000),
        ("9007199254.740991", MICROS_MAX),
    ],
)
def test_dollars_are_read_exactly(text: str, micros: int) -> None:
    assert dollars_to_micros(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", ".5", "5.", "1e3", "nan", "inf", "1,000", "$5", "0.0000001", " 1", "1_0", "+1"),
        *("\u0661", "9007199254.740992", "99999999999"),
    ],
)
def test_what_is_no_amount_of_dollars_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an amount is"):
        dollars_to_micros(text)


def test_micros_are_written_with_six_digits() -> None:
    assert micros_to_dollars(30_000) == "0.030000"
    assert micros_to_dollars(-30_000) == "-0.030000"
    assert micros_to_dollars(0) == "0.000000"


@given(st.integers(-MICROS_MAX, MICROS_MAX))
def test_money_survives_writing_and_reading(micros: int) -> None:
    assert dollars_to_micros(micros_to_dollars(micros)) == micros
