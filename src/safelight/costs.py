"""What a picture costs the operator at its vendor, and whether its price still covers that.

Owns the price table (`vendor_prices.toml` beside this file: data, dated, with its sources), the
arithmetic from tokens to micro-dollars, and the watch over the margin of what is delivered now.
Knows no database: costs are stored by attempts.py and added up by accounts.py. No cost is ever
guessed: what is not known is None, and never 0.
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated

import msgspec

from safelight.clock import Clock
from safelight.types import Account, Micros, Usage

MARGIN_WINDOW = 100
"""Delivered pictures that a margin is watched over."""
MARGIN_WINDOW_MIN = 20
"""Fewer pictures say nothing: one large one would raise the alarm."""
ALARM_PAUSE_S = 3600.0
"""Least time between two alarms of one account on one channel."""

_MILLION = 1_000_000
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}")
_Rate = Annotated[int, msgspec.Meta(ge=0)]


class _Family(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models of one price list: micro-dollars per million tokens.

    `Usage` does not tell cached input apart, so it is priced as fresh: a cost is then too high by
    the vendor's discount, never too low.
    """

    models: tuple[str, ...]
    text_in: _Rate
    cached_text_in: _Rate
    image_in: _Rate
    cached_image_in: _Rate
    image_out: _Rate
    text_out: _Rate | None = None
    """None: the vendor names no price; such tokens count as image output, which is dearer."""


class _PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    as_of: date
    free_upstreams: tuple[str, ...]
    batch_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    """What the vendors' Batch APIs bill, of these prices."""
    family: tuple[_Family, ...]


def prices_as_of() -> date:
    """Return the day on which the vendors' prices were last checked."""
    return _table().as_of


def vendor_cost_micros(
    account: Account, usage: Usage | None, *, batch: bool = False
) -> Micros | None:
    """Return what one picture of an account cost its operator, or None where nobody can say.

    With `batch` it came from the vendor's Batch API, which bills a share of the same price.

    The account's own `image_cost_micros` comes first; else the tokens at the vendor's prices,
    rounded up to a whole micro-dollar (`usage` as in the OpenAI images API). Input without details
    counts as text, output without details as image. No output is no count at all: some servers
    fill `usage` with zeros.
    """
    percent = _table().batch_percent if batch else 100
    if account.image_cost_micros is not None:
        return -(-account.image_cost_micros * percent // 100)
    if account.upstream in _table().free_upstreams:
        return 0
    rates = _rates(account.model)
    if rates is None or usage is None:
        return None
    text_out = usage.output_text_tokens
    image_out = max(usage.output_image_tokens, usage.output_tokens - text_out)
    if image_out <= 0:
        return None
    image_in = usage.input_image_tokens
    text_in = max(usage.input_text_tokens, usage.input_tokens - image_in)
    total = (
        text_in * rates.text_in
        + image_in * rates.image_in
        + image_out * rates.image_out
        + text_out * (rates.image_out if rates.text_out is None else rates.text_out)
    )
    return -(-total * percent // (100 * _MILLION))


@cache
def _table() -> _PriceTable:
    text = files("safelight").joinpath("vendor_prices.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _PriceTable)


@cache
def _rates(model: str) -> _Family | None:
    """Return the prices of a model, of its family where its name ends with a day, or None.

    Another ending makes another model: gpt-image-1-mini costs a fifth of gpt-image-1.
    """
    by_name = {name: family for family in _table().family for name in family.models}
    fitting = [
        name
        for name in by_name
        if model == name or (model.startswith(name) and _DATED.fullmatch(model[len(name) :]))
    ]
    return by_name[max(fitting, key=len)] if fitting else None


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """The last `pictures` of an account on a channel earn less than the alarm allows.

    `share` is (revenue - cost) / revenue: negative where they are sold below cost.
    """

    channel: str
    account: str
    pictures: int
    revenue_micros: Micros
    cost_micros: Micros
    share: float


class MarginWatch:
    """Watches the margin of what each account delivers on each channel, in memory.

    It speaks when the share over the last 100 pictures of known cost falls below the alarm, once
    for each fall and at most once an hour; a fall within that hour is told at its end if it lasts.
    A channel without a price has no margin and is not watched.

    Args:
        alarm_share: the share of the price that must be left; 0 warns of sales below cost.
        clock: tells the hour.
    """

    def __init__(self, alarm_share: float, clock: Clock) -> None:
        self._alarm_share = alarm_share
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def note(
        self, channel: str, account: str, price_micros: Micros, cost_micros: Micros | None
    ) -> Alarm | None:
        """Note a delivered picture; return the alarm if this one raises it."""
        if cost_micros is None or price_micros <= 0:
            return None
        window = self._windows.setdefault((channel, account), _Window())
        share = window.add(price_micros, cost_micros)
        if window.count < MARGIN_WINDOW_MIN or share >= self._alarm_share:
            window.told = False
            return None
        now = self._clock.monotonic()
        if window.told or now < window.quiet_until:
            return None
        window.told, window.quiet_until = True, now + ALARM_PAUSE_S
        return Alarm(
            channel=channel,
            account=account,
            pictures=window.count,
            revenue_micros=window.revenue_micros,
            cost_micros=window.cost_micros,
            share=share,
        )

    def below(self) -> list[tuple[str, str]]:
        """Return channel and account wherever the last pictures earn less than the alarm allows."""
        return sorted(which for which, window in self._windows.items() if window.told)


class _Window:
    """Price and cost of the last pictures, with their sums."""

    def __init__(self) -> None:
        self._pictures: deque[tuple[Micros, Micros]] = deque()
        self.revenue_micros: Micros = 0
        self.cost_micros: Micros = 0
        self.told = False
        """Whether this fall has been told."""
        self.quiet_until = float("-inf")

    @property
    def count(self) -> int:
        return len(self._pictures)

    def add(self, price_micros: Micros, cost_micros: Micros) -> float:
        """Add a picture, forget the oldest beyond the window, return the share that is left."""
        self._pictures.append((price_micros, cost_micros))
        self.revenue_micros += price_micros
        self.cost_micros += cost_micros
        if len(self._pictures) > MARGIN_WINDOW:
            price, cost = self._pictures.popleft()
            self.revenue_micros -= price
            self.cost_micros -= cost
        return (self.revenue_micros - self.cost_micros) / self.revenue_micros
