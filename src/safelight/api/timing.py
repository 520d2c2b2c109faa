"""What a caller's headers say about time: until when a picture is of use, and how long it waits.

Owns the reading of both. `x-request-deadline` bounds the job, wherever it waits or is tried. The
SDK's own timeout bounds only the wait of this one call: the job goes on, and the SDK's retry
collects it. Who ends jobs and how retries join is the gateway's business.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

import msgspec

from safelight.api.exchange import Exchange
from safelight.errors import InvalidValue

DEADLINE_HEADER = "x-request-deadline"
DEADLINE_FORMS = (
    "seconds from now ('30', '1.5s', '500ms'), or a time to come as unix seconds or as an "
    "RFC 3339 date-time with its offset"
)

_NUMBER = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,9})?)(ms|s)?")
_ABSOLUTE_FROM = 1e9
"""A bare number above this is unix seconds: so many seconds from now would be 30 years."""
_ABSOLUTE_TO = 1e11
"""A bare number from here on is no date in seconds that anybody means, but milliseconds."""
_DateTime = Annotated[datetime, msgspec.Meta(tz=True)]

_READ_TIMEOUT = "x-stainless-read-timeout"
"""The Python SDK's: seconds of silence it bears, counted from the last byte of its request."""
_TOTAL_TIMEOUT = "x-stainless-timeout"
"""The JavaScript SDK's: whole seconds, rounded down, until the answer's head must be there."""
_PATIENCE_S = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_PATIENCE_DEFAULT_S = 600.0
"""The SDKs' own default."""

_MARGIN_SHARE, _MARGIN_MIN_S, _MARGIN_MAX_S = 0.1, 0.25, 5.0
_SILENCE_SHARE, _SILENCE_MIN_S, _SILENCE_MAX_S = 1 / 3, 0.1, 10.0


class Timing:
    """The times of one call.

    Args:
        exchange: whose head has been read; the clock of its patience starts here.

    Raises:
        InvalidValue: `x-request-deadline` is malformed, or no time to come.
    """

    __slots__ = ("_clock", "_from_the_start", "_since_s", "deadline_at", "patience_s")

    def __init__(self, exchange: Exchange) -> None:
        self._clock = exchange.services.clock
        self._since_s = self._clock.monotonic()
        text = exchange.header(DEADLINE_HEADER)
        self.deadline_at = None if text is None else deadline_at(text, self._clock.now_ms())
        """Until when the picture is of use, in milliseconds since 1970; None: no word."""
        self.patience_s, self._from_the_start = _patience(exchange)
        """How long the caller waits before it gives up, seconds."""

    def body_read(self) -> None:
        """Say that the whole body is here: the Python SDK begins to wait only now."""
        if not self._from_the_start:
            self._since_s = self._clock.monotonic()

    def left_s(self) -> float:
        """Return in how many seconds an answer must begin to be there before the caller's cut."""
        until = self._since_s + self.patience_s - margin_s(self.patience_s)
        return until - self._clock.monotonic()

    def silence_s(self) -> float:
        """Return the longest silence, seconds, in which the caller does not give up a stream."""
        share = max(self.patience_s * _SILENCE_SHARE, _SILENCE_MIN_S)
        return min(share, _SILENCE_MAX_S)


def margin_s(patience_s: float) -> float:
    """Return how long before the caller's cut the answer is sent: the way back takes time."""
    margin = min(max(patience_s * _MARGIN_SHARE, _MARGIN_MIN_S), _MARGIN_MAX_S)
    return min(margin, patience_s / 2)


def deadline_at(text: str, now_ms: int) -> int:
    """Return the time that `x-request-deadline` names, in milliseconds since 1970.

    Raises:
        InvalidValue: it names none, or one that is over.
    """
    number = _NUMBER.fullmatch(text)
    time_ms = _date_time(text) if number is None else _time(number, now_ms)
    if time_ms <= now_ms:
        raise _refused("the time must be to come")
    return time_ms


def _time(number: re.Match[str], now_ms: int) -> int:
    value, unit = float(number[1]), number[2]
    if unit is None and value > _ABSOLUTE_FROM:
        if value >= _ABSOLUTE_TO:
            raise _refused("unix time is counted in seconds here")
        return round(value * 1000)
    return now_ms + round(value if unit == "ms" else value * 1000)


def _date_time(text: str) -> int:
    try:
        return round(msgspec.convert(text, _DateTime).timestamp() * 1000)
    except msgspec.ValidationError:
        raise _refused("it cannot be read") from None


def _refused(why: str) -> InvalidValue:
    return InvalidValue(
        f"Invalid {DEADLINE_HEADER}: {why}. Send {DEADLINE_FORMS}.", param=DEADLINE_HEADER
    )


def _patience(exchange: Exchange) -> tuple[float, bool]:
    """Return the caller's timeout, seconds, and whether it ran from the request's start.

    What cannot be read counts as the SDKs' default.
    """
    for name, from_the_start in ((_READ_TIMEOUT, False), (_TOTAL_TIMEOUT, True)):
        text = exchange.header(name)
        if text is not None and _PATIENCE_S.fullmatch(text):
            return float(text), from_the_start
    return _PATIENCE_DEFAULT_S, False
