"""/admin/v1/series and /admin/v1/events: what happened over time, and what changes now.

Owns the shape of a point and the frames of the stream (HTML standard, server-sent events). What is
counted is `safelight.series`' business, what is news `administration.feed`'s.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from safelight.administration.feed import News
from safelight.api.admin import asking
from safelight.api.events import RETRY
from safelight.api.exchange import Exchange
from safelight.api.stream import KEEP_ALIVE, SSE_HEADERS, paced
from safelight.errors import InvalidValue
from safelight.series import STEP_S, Point, Step

POINTS = 60
"""Steps of a span whose beginning nobody named."""
STREAM_S = 600.0
"""How long a stream lasts: whoever connects again is looked at again."""


class SeriesPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step from `at`, unix seconds; money in micro-dollars.

    `failed` counts jobs that ended without a picture, `visible` those of them that a caller saw as
    429 or 5xx; `hidden_errors` the failed attempts of jobs that ended with one, `throttled` the
    429s among them. `capacity_per_minute` is what the limits allow now, in every point; null: no
    limit is known, or not of all groups. `link_success` is the prober's, null where it tried none.
    """

    at: int
    completed: int
    failed: int
    cancelled: int
    visible: int
    attempts: int
    outcomes: dict[str, int]
    hidden_errors: int
    throttled: int
    generation_p50_s: float | None
    generation_p95_s: float | None
    generation_p99_s: float | None
    generation_mean_s: float | None
    capacity_per_minute: float | None
    link_success: float | None
    settled_micros: int
    vendor_cost_micros: int


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A point for each step of a span, the oldest first, empty ones too."""

    object: str = "list"
    step: Step
    data: tuple[SeriesPoint, ...]
    last_id: str | None = None
    has_more: bool = False


class AdminEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed: `pool`, `jobs` or `alert`; also the event's name."""

    type: str
    data: dict[str, Any]


async def series(exchange: Exchange) -> None:
    """Answer GET /admin/v1/series."""
    query = asking.query_of(exchange, "step", "from", "to")
    step = _step(query.get("step"))
    now_s = exchange.services.clock.now_ms() // 1000
    to_s = asking.number_of(query, "to")
    to_s = now_s + 1 if to_s is None else to_s
    from_s = asking.number_of(query, "from")
    from_s = max(0, to_s - POINTS * STEP_S[step]) if from_s is None else from_s
    if not from_s < to_s <= asking.SECONDS_MAX:
        raise InvalidValue("'from' is before 'to', both in unix seconds.", param="from")
    look = asking.looking(exchange)
    points = await look.points(step, from_s=from_s, to_s=to_s)
    capacity = await look.capacity_per_minute()
    listed = Series(step=step, data=tuple(_point(one, capacity) for one in points))
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def events(exchange: Exchange) -> None:
    """Answer GET /admin/v1/events: hints of what changes, until the stream's time is over."""
    asking.query_of(exchange)
    services, feed = exchange.services, asking.house_of(exchange).feed
    until = services.clock.monotonic() + STREAM_S
    async with exchange.watched():
        await exchange.start(200, SSE_HEADERS)
        await exchange.write(RETRY)
        every_s, news = services.keep_alive_s, feed.follow()
        async with (
            aclosing(news),
            aclosing(paced(exchange, news, first_s=every_s, every_s=every_s)) as ticks,
        ):
            async for one in ticks:
                await exchange.write(KEEP_ALIVE if one is None else _frame(one))
                if services.clock.monotonic() >= until:
                    break
        await exchange.finish()


def _frame(news: News) -> bytes:
    event = AdminEvent(type=news.kind, data=news.data)
    return f"event: {news.kind}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def _step(text: str | None) -> Step:
    for step in STEP_S:
        if step == (text or "minute"):
            return step
    raise InvalidValue(f"'step' is one of {', '.join(STEP_S)}.", param="step")


def _point(one: Point, capacity: float | None) -> SeriesPoint:
    return SeriesPoint(
        at=one.at,
        completed=one.completed,
        failed=one.failed,
        cancelled=one.cancelled,
        visible=one.visible,
        attempts=one.attempts,
        outcomes=dict(one.outcomes),
        hidden_errors=one.hidden_errors,
        throttled=one.throttled,
        generation_p50_s=one.seconds(0.5),
        generation_p95_s=one.seconds(0.95),
        generation_p99_s=one.seconds(0.99),
        generation_mean_s=one.mean_s,
        capacity_per_minute=capacity,
        link_success=one.link_success,
        settled_micros=one.settled_micros,
        vendor_cost_micros=one.vendor_cost_micros,
    )
