"""What an answer says about limits: how much is left, when it returns, which one ran out.

Owns the reading of waiting times and limit headers. Source: OpenAI "Rate limits" (headers
`x-ratelimit-*`), RFC 9110 section 10.2.3 (`Retry-After`), and texts of refusals. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from safelight.errors import LimitUnit
from safelight.notices import LimitNotice

RETRY_AFTER_MAX_S: Final = 86_400.0
_NOTICED: Final[tuple[Literal["images", "input-images", "requests"], ...]] = (
    "images",
    "input-images",
    "requests",
)
_UNITS: Final[tuple[LimitUnit, ...]] = (*_NOTICED, "tokens")
_PER_MINUTE: Final = re.compile(
    r"\b(input-images|images|requests|tokens) per (?:min|day)", re.IGNORECASE
)
_UNIT_S: Final = {
    "d": 86_400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_IN_TEXT = re.compile(
    rf"(?:try again|retry) (?:in|after) (?:({_DURATION.pattern})\b|(\d{{1,9}}(?:\.\d{{1,9}})?) ?"
    r"(milliseconds?|seconds?|minutes?|hours?))",
    re.IGNORECASE,
)


def limit_notices(headers: Mapping[str, str]) -> tuple[LimitNotice, ...]:
    """Return what the headers say about each limit that the pool keeps count of."""
    return tuple(
        notice
        for unit in _NOTICED
        if (
            notice := LimitNotice(
                unit=unit,
                limit=_amount(headers, f"x-ratelimit-limit-{unit}"),
                remaining=_amount(headers, f"x-ratelimit-remaining-{unit}"),
                reset_s=_bounded(duration_s(headers.get(f"x-ratelimit-reset-{unit}", ""))),
            )
        )
        != LimitNotice(unit=unit)
    )


def spent_unit(headers: Mapping[str, str], message: str = "", kind: str = "") -> LimitUnit | None:
    """Return which limit ran out, or None where a refusal does not say.

    Args:
        headers: the answer's; a limit with nothing remaining is the one.
        message: the error's text ("Rate limit reached ... on input-images per min").
        kind: the error's type, which OpenAI sets to the unit.
    """
    for unit in _UNITS:
        if kind == unit:
            return unit
    named = _PER_MINUTE.search(message)
    for unit in _UNITS:
        if named is not None and named.group(1).lower() == unit:
            return unit
    for unit in _UNITS:
        if _amount(headers, f"x-ratelimit-remaining-{unit}") == 0:
            return unit
    return None


def retry_after_s(headers: Mapping[str, str], message: str = "", *, now_ms: int) -> float | None:
    """Return the longest wait in seconds that an answer asks for, or None if it names none.

    Reads `retry-after` (seconds or an HTTP date, RFC 9110 section 10.2.3), `retry-after-ms`,
    `x-ratelimit-reset-*` (durations such as `6m0s`; a bucket whose `remaining` is above zero is not
    the one that ran out) and "try again in 12s" in the text.
    """
    waits = [
        _after(headers.get("retry-after", ""), now_ms),
        _milliseconds(headers.get("retry-after-ms", "")),
        _wait_in_text(message),
    ]
    for name, value in headers.items():
        bucket = name.lower().removeprefix("x-ratelimit-reset-")
        if bucket != name.lower() and not _has_left(headers, bucket):
            waits.append(duration_s(value))
    known = [wait for wait in waits if wait is not None]
    return min(max(known), RETRY_AFTER_MAX_S) if known else None


def duration_s(text: str) -> float | None:
    """Return a duration such as `1s`, `6m0s`, `534ms` or `12` in seconds, or None."""
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return math.fsum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def _after(text: str, now_ms: int) -> float | None:
    text = text.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now_ms / 1000)


def _milliseconds(text: str) -> float | None:
    text = text.strip()
    return float(text) / 1000 if _NUMBER.fullmatch(text) else None


def _has_left(headers: Mapping[str, str], bucket: str) -> bool:
    return (_amount(headers, f"x-ratelimit-remaining-{bucket}") or 0) > 0


def _amount(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name, "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _bounded(wait: float | None) -> float | None:
    return None if wait is None else min(wait, RETRY_AFTER_MAX_S)


def _wait_in_text(message: str) -> float | None:
    found = _IN_TEXT.search(message)
    if found is None:
        return None
    if found.group(1):
        return duration_s(found.group(1))
    number, unit = found.group(found.re.groups - 1), found.group(found.re.groups).lower()
    return float(number) * _UNIT_S["ms" if unit.startswith("milli") else unit[0]]
