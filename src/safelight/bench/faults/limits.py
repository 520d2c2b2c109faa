"""The vendor's limits: how much each limiter group may ask for in a minute, and what it is told.

Pure: whoever asks says what time it is, in vendor seconds. Owns the counting; `errors.py` words the
refusal, `server.py` sends it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

MINUTE_S = 60.0
_ROUNDING = 1e-9

What = Literal["requests", "images", "input-images"]
"""What is counted, in the words of the vendor's headers and error types."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one group.

    Args:
        images_per_minute: images asked for (`n` counts as n); None: as many as they like.
        input_images_per_minute: reference images and masks of edits; None: no limit.
        requests_per_minute: calls; None: no limit.
        kind: `sliding`: the last 60 seconds, counted at arrival; `bucket`: continuous refill;
            `fixed`: calendar minutes.
        burst: what a full bucket holds (`bucket` only); None: a minute's worth.
        count_refused: a refused call uses up allowance too.
        tell_headers: every answer carries `x-ratelimit-{limit,remaining,reset}-…`.
        tell_retry_after: a 429 says when to come again, in headers and text.
        reset: what the reset header counts to: `next`, when there is room again; `full`, when
            nothing is used any more (OpenAI's guide says so of requests and tokens).
        changes: `(at_s, images_per_minute)`, in order of time: a limit that moves.
    """

    images_per_minute: float | None = None
    input_images_per_minute: float | None = None
    requests_per_minute: float | None = None
    kind: Literal["sliding", "bucket", "fixed"] = "sliding"
    burst: float | None = None
    count_refused: bool = False
    tell_headers: bool = True
    tell_retry_after: bool = True
    reset: Literal["next", "full"] = "next"
    changes: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        rates = (self.images_per_minute, self.input_images_per_minute, self.requests_per_minute)
        if any(rate is not None and rate < 0 for rate in (*rates, *(to for _, to in self.changes))):
            raise ValueError("a limit is not negative")
        if self.changes and self.images_per_minute is None:
            raise ValueError("changes need images_per_minute to begin with")
        if list(self.changes) != sorted(self.changes):
            raise ValueError("changes come in order of time")
        if self.burst is not None and (self.kind != "bucket" or self.burst < 1):
            raise ValueError("burst is for buckets, and at least 1")

    def images_at(self, now_s: float) -> float | None:
        """Return the images a minute in force at `now_s`."""
        rate = self.images_per_minute
        for at_s, changed in self.changes:
            if at_s <= now_s:
                rate = changed
        return rate

    def most_images(self, from_s: float, to_s: float) -> float | None:
        """Return the highest images a minute in force at any time between the two."""
        rate = self.images_at(from_s)
        if rate is None:
            return None
        return max([rate, *(changed for at_s, changed in self.changes if from_s < at_s <= to_s)])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass, and what its answer says of limits.

    `what`, `limit`, `used` and `wait_s` describe the allowance that was missing.
    """

    granted: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    what: What = "images"
    limit: float = 0.0
    used: float = 0.0
    wait_s: float = 0.0


class Limiter:
    """The allowances of one group."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._meters: dict[What, _Meter] = {}
        self._latest_s = 0.0
        rates: dict[What, float | None] = {
            "requests": limit.requests_per_minute,
            "images": limit.images_per_minute,
            "input-images": limit.input_images_per_minute,
        }
        for what, rate in rates.items():
            if rate is not None:
                self._meters[what] = _meter(limit, rate)

    def ask(self, now_s: float, *, images: int, inputs: int = 0) -> Verdict:
        """Take the allowances of one request, all or none, and return how it ended."""
        # A request whose body took long is decided after later ones: time does not run back.
        now_s = self._latest_s = max(now_s, self._latest_s)
        wanted: dict[What, int] = {"requests": 1, "images": images, "input-images": inputs}
        images_rate = self.limit.images_at(now_s)
        if images_rate is not None:
            self._meters["images"].set_rate(now_s, images_rate)
        missing: Verdict | None = None
        for what, meter in self._meters.items():
            wait_s = meter.wait_s(now_s, wanted[what]) if wanted[what] else 0.0
            if wait_s > 0 and (missing is None or wait_s > missing.wait_s):
                used = meter.used(now_s)
                missing = Verdict(False, what=what, limit=meter.rate, used=used, wait_s=wait_s)
        if missing is None or self.limit.count_refused:
            for what, meter in self._meters.items():
                meter.take(now_s, wanted[what])
        headers = self._headers(now_s, missing)
        if missing is None:
            return Verdict(True, headers)
        return Verdict(False, headers, missing.what, missing.limit, missing.used, missing.wait_s)

    def _headers(self, now_s: float, missing: Verdict | None) -> dict[str, str]:
        told = {}
        if missing is not None and self.limit.tell_retry_after:
            told["retry-after"] = str(max(1, math.ceil(missing.wait_s)))
            told["retry-after-ms"] = str(math.ceil(missing.wait_s * 1000))
        if not self.limit.tell_headers:
            return told
        for what, meter in self._meters.items():
            wait_s = meter.wait_s(now_s, 1)
            if missing is not None and missing.what == what:
                wait_s = missing.wait_s
            reset_s = meter.full_s(now_s) if self.limit.reset == "full" else wait_s
            told[f"x-ratelimit-limit-{what}"] = f"{meter.rate:g}"
            left = max(0.0, meter.left(now_s))
            told[f"x-ratelimit-remaining-{what}"] = str(math.floor(left + _ROUNDING))
            told[f"x-ratelimit-reset-{what}"] = duration(reset_s)
        return told


def duration(seconds: float) -> str:
    """Return a duration as the vendor writes it in headers: `534ms`, `12.5s`, `6m0s`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"


class _Meter(Protocol):
    """One allowance; `rate` is per minute."""

    rate: float

    def set_rate(self, now_s: float, rate: float) -> None: ...
    def used(self, now_s: float) -> float: ...
    def left(self, now_s: float) -> float: ...
    def wait_s(self, now_s: float, amount: int) -> float:
        """Return how long until `amount` fits; 0: now. What never fits waits a minute."""

    def full_s(self, now_s: float) -> float: ...
    def take(self, now_s: float, amount: int) -> None: ...


def _meter(limit: Limit, rate: float) -> _Meter:
    match limit.kind:
        case "sliding":
            return _Sliding(rate)
        case "bucket":
            return _Bucket(rate, limit.burst)
        case "fixed":
            return _Fixed(rate)


class _Sliding:
    """The last 60 seconds."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def set_rate(self, now_s: float, rate: float) -> None:  # noqa: ARG002  holds for any time
        self.rate = rate

    def used(self, now_s: float) -> float:
        while self._taken and self._taken[0][0] <= now_s - MINUTE_S:
            self._sum -= self._taken.popleft()[1]
        return self._sum

    def left(self, now_s: float) -> float:
        return self.rate - self.used(now_s)

    def wait_s(self, now_s: float, amount: int) -> float:
        excess = amount - self.left(now_s)
        if excess <= _ROUNDING:
            return 0.0
        for at_s, taken in self._taken:
            excess -= taken
            if excess <= _ROUNDING:
                return at_s + MINUTE_S - now_s
        return MINUTE_S

    def full_s(self, now_s: float) -> float:
        return self._taken[-1][0] + MINUTE_S - now_s if self.used(now_s) else 0.0

    def take(self, now_s: float, amount: int) -> None:
        if amount:
            self._taken.append((now_s, amount))
            self._sum += amount


class _Bucket:
    """Tokens that drip in continuously, up to `burst`."""

    def __init__(self, rate: float, burst: float | None) -> None:
        self.rate = rate
        self._burst = burst
        self._level = self._cap
        self._at_s = 0.0

    @property
    def _cap(self) -> float:
        return self.rate if self._burst is None else self._burst

    def set_rate(self, now_s: float, rate: float) -> None:
        if rate != self.rate:
            self.left(now_s)
            self.rate = rate

    def used(self, now_s: float) -> float:
        return self._cap - self.left(now_s)

    def left(self, now_s: float) -> float:
        dripped = self.rate / MINUTE_S * (now_s - self._at_s)
        self._level, self._at_s = min(self._cap, self._level + dripped), now_s
        return self._level

    def wait_s(self, now_s: float, amount: int) -> float:
        missing = amount - self.left(now_s)
        if missing <= _ROUNDING:
            return 0.0
        if amount > self._cap + _ROUNDING or self.rate <= 0:
            return MINUTE_S
        return missing / self.rate * MINUTE_S

    def full_s(self, now_s: float) -> float:
        return self.used(now_s) / self.rate * MINUTE_S if self.rate > 0 else MINUTE_S

    def take(self, now_s: float, amount: int) -> None:
        self._level = max(0.0, self.left(now_s) - amount)


class _Fixed:
    """Calendar minutes."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._minute = 0
        self._sum = 0

    def set_rate(self, now_s: float, rate: float) -> None:  # noqa: ARG002  holds for any time
        self.rate = rate

    def used(self, now_s: float) -> float:
        if (minute := int(now_s // MINUTE_S)) != self._minute:
            self._minute, self._sum = minute, 0
        return self._sum

    def left(self, now_s: float) -> float:
        return self.rate - self.used(now_s)

    def wait_s(self, now_s: float, amount: int) -> float:
        fits = amount - self.left(now_s) <= _ROUNDING
        return 0.0 if fits else MINUTE_S - now_s % MINUTE_S

    def full_s(self, now_s: float) -> float:
        return MINUTE_S - now_s % MINUTE_S if self.used(now_s) else 0.0

    def take(self, now_s: float, amount: int) -> None:
        self._sum = int(self.used(now_s)) + amount
