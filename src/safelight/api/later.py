"""Orders that nobody waits for: how they are asked for, and the 202 that answers them.

Owns the header `Prefer: respond-async` (RFC 7240, section 4.1), the body's fields that go with it,
and the answer with the jobs (RFC 9110, section 15.3.3). What a waiting job becomes is the gateway's
business, its shape `job_views`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from safelight.api.answers import order_headers
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobView, RequestView, job_views, retry_after
from safelight.api.problems import Headers
from safelight.errors import InvalidValue, UnsupportedParameter
from safelight.gateway.orders import Caller, Order, Queued
from safelight.types import JobClass

PRIORITY = 100
"""Of an order that names none."""
_NO_STORE = (b"cache-control", b"no-store")


class Wanted(Protocol):
    """The fields of a body that count here."""

    async_: bool | None
    priority: int | None
    not_before: int | None
    delay_s: float | None
    stream: bool | None
    webhook_url: str | None


def prefers_async(exchange: Exchange) -> bool:
    """Return whether the caller sent the preference; others that may be beside it are ignored."""
    for name, value in exchange.scope["headers"]:
        if name == b"prefer":
            for preference in value.lower().split(b","):
                if preference.partition(b";")[0].strip() == b"respond-async":
                    return True
    return False


def queued(exchange: Exchange, body: Wanted) -> Queued | None:
    """Return how the order shall wait; None: its caller waits.

    The body is the nearer word: `"async": false` overrules the header.

    Raises:
        UnsupportedParameter: a stream, or fields that only an order has that nobody waits for.
        InvalidValue: two times to begin.
    """
    wanted = prefers_async(exchange) if body.async_ is None else body.async_
    if not wanted:
        for name in ("priority", "not_before", "delay_s"):
            if getattr(body, name) is not None:
                raise UnsupportedParameter(
                    f'{name!r} belongs to an order that nobody waits for. Send "async": true '
                    f"with it, or leave {name!r} out.",
                    param=name,
                )
        return None
    if body.stream:
        raise UnsupportedParameter(
            "A stream belongs to a call that waits. Leave 'stream' out and watch the job: "
            "GET /v1/jobs/{id}/events; or leave 'async' out.",
            param="stream",
        )
    if body.not_before is not None and body.delay_s is not None:
        raise InvalidValue("Send 'not_before' or 'delay_s', not both.", param="delay_s")
    now_ms = exchange.services.clock.now_ms()
    begin_at = None if body.not_before is None else body.not_before * 1000
    if body.delay_s:
        begin_at = now_ms + round(body.delay_s * 1000)
    if begin_at is not None and begin_at - now_ms > 7 * 86_400_000:
        raise InvalidValue("A job begins within seven days.", param="not_before")
    return Queued(
        job_class=JobClass.JOB,
        priority=PRIORITY if body.priority is None else body.priority,
        not_before=begin_at,
    )


def check_times(caller: Caller, when: Queued | None) -> None:
    """Refuse a job that could begin only when its picture is of no use any more.

    Raises:
        InvalidValue: naming both times.
    """
    if when is None or when.not_before is None or caller.deadline_at is None:
        return
    if when.not_before >= caller.deadline_at:
        raise InvalidValue(
            "The job would begin after its x-request-deadline; send a later one, or none.",
            param="not_before",
        )


def webhook_url(body: Wanted) -> str | None:
    """Return whom to tell; whether that may be called is found out before it is called.

    Raises:
        InvalidValue: it is no address of a web server.
    """
    url = body.webhook_url
    if not url:
        return None
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not url.isascii() or any(char <= " " for char in url):
        raise InvalidValue(
            "'webhook_url' is an address such as https://example.com/hook.", param="webhook_url"
        )
    return url


async def answer(exchange: Exchange, order: Order) -> None:
    """Answer 202 with the order's jobs as they stand; all of them are durable.

    Raises:
        ClientGone: the caller hung up; its retry finds the order.
    """
    gateway = exchange.services.gateway
    async with gateway.attached(order) as attachment, exchange.watched():
        views = await job_views(exchange, order.jobs)
        first = order.jobs[0]
        location = f"/v1/jobs/{first.id}"
        if len(views) > 1:
            location = f"/v1/jobs?request_id={order.request_id}&order=asc"
        price = sum(job.price_micros for job in order.jobs)
        headers: Headers = [
            (b"location", location.encode()),
            _NO_STORE,
            *retry_after(exchange, views),
            *order_headers(order, order.jobs, price_micros=price),
        ]
        if prefers_async(exchange):
            headers.append((b"preference-applied", b"respond-async"))
        payload = views[0] if len(views) == 1 else _request_view(order, views)
        await exchange.respond_json(payload, status=202, headers=headers)
        if not exchange.gone:
            attachment.delivered(final=True)


def _request_view(order: Order, views: Sequence[JobView]) -> RequestView:
    created_at = order.jobs[0].created_at // 1000
    return RequestView(id=order.request_id, created_at=created_at, jobs=tuple(views))
