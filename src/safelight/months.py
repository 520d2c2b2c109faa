"""Months of the books: `2026-11` is a calendar month in UTC.

Owns how a month is written and where it begins and ends. Pure.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
"""Unix seconds begin in 1970; after December 9999 there is no date to end a month with."""

FORM = "a month is written as 2026-11 (UTC)"


def month_span(text: str) -> tuple[int, int]:
    """Return the first second of a month and the first one after it, unix seconds.

    Raises:
        ValueError: it is no month that a date can name.
    """
    match = _MONTH.fullmatch(text)
    if match is None or not _FIRST_YEAR <= int(match[1]) <= _LAST_YEAR:
        raise ValueError(FORM)
    year, month = int(match[1]), int(match[2])
    begin = datetime(year, month, 1, tzinfo=UTC)
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(begin.timestamp()), int(after.timestamp())
