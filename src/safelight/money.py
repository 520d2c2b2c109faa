"""Dollars as people write them, micro-dollars as everything else counts them.

Owns the conversion both ways, exactly, without floats. Owns no prices and no balances.
"""

from __future__ import annotations

import re

from safelight.types import Micros

MICROS_PER_DOLLAR = 1_000_000
MICROS_MAX = 2**53 - 1
"""The largest amount: what a JSON number still carries exactly, about 9 billion dollars."""
ALERT_SHARES = (100, 80, 50)
"""Percentages of a budget or a credit line that are announced, the highest first."""

_DOLLARS = re.compile(r"(-?)([0-9]{1,10})(?:\.([0-9]{1,6}))?")


def dollars_to_micros(text: str) -> Micros:
    """Return the micro-dollars of a decimal dollar amount such as `10`, `0.03` or `-2.50`.

    Raises:
        ValueError: not a plain decimal number, more than six digits after the point, or more than
            `MICROS_MAX`.
    """
    match = _DOLLARS.fullmatch(text)
    if match is None:
        raise ValueError(
            "an amount is written in dollars with at most six digits after the point, such as 10.00"
        )
    sign, whole, fraction = match.groups()
    micros = int(whole) * MICROS_PER_DOLLAR + int((fraction or "").ljust(6, "0"))
    if micros > MICROS_MAX:
        raise ValueError(f"an amount is at most {micros_to_dollars(MICROS_MAX)} dollars")
    return -micros if sign else micros


def micros_to_dollars(micros: Micros) -> str:
    """Return an amount in dollars with six digits after the point: 30000 is `0.030000`."""
    dollars, rest = divmod(abs(micros), MICROS_PER_DOLLAR)
    return f"{'-' if micros < 0 else ''}{dollars}.{rest:06d}"
