"""/admin/v1/audit, alerts, verification and system: what was done, what is wrong, what runs.

Owns the routes and their shapes. What is judged and how is other rooms' business.
"""

from __future__ import annotations

import msgspec

from safelight.admin_acts import Act
from safelight.alerts import Alert
from safelight.api.admin import asking
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds

ENDED_WITHIN_S = 20.0
"""How long an answer waits for the end of a verification; proxies cut after thirty."""


class ActView(msgspec.Struct, frozen=True, kw_only=True):
    """An act; `at` in unix seconds, `address` empty for a command on the data folder."""

    object: str = "act"
    id: str
    at: int
    actor: str
    actor_name: str
    session_id: str
    address: str
    act: str
    subject: str
    before: str
    after: str
    outcome: str


class ActList(msgspec.Struct, frozen=True, kw_only=True):
    """Acts, newest first; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[ActView, ...]
    last_id: str | None
    has_more: bool


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert; times in unix seconds. `resolved_at` null: it stands."""

    object: str = "alert"
    id: str
    name: str
    subject: str
    message: str
    value: float | None
    threshold: float | None
    raised_at: int
    resolved_at: int | None


class AlertList(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[AlertView, ...]
    last_id: str | None
    has_more: bool


class FindingView(msgspec.Struct, frozen=True, kw_only=True):
    """What does not fit together, in words; `customer` null where it is nobody's."""

    text: str
    customer_id: str
    customer: str | None
    found_at: int


class VerificationView(msgspec.Struct, frozen=True, kw_only=True):
    """The last verification, unix seconds, and what was found and nobody has accepted.

    `running`: one is under way in the process that answers.
    """

    object: str = "verification"
    began_at: int | None
    ended_at: int | None
    running: bool
    findings: tuple[FindingView, ...]


async def audit(exchange: Exchange) -> None:
    """Answer GET /admin/v1/audit, of one subject or of all."""
    query = asking.query_of(exchange, "subject", *asking.PAGE)
    found, has_more = await asking.looking(exchange).acts(
        subject=query.get("subject") or None,
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    data = tuple(_act(one) for one in found)
    listed = ActList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def alerts(exchange: Exchange) -> None:
    """Answer GET /admin/v1/alerts, newest first; `standing=true`: those that are not over."""
    query = asking.query_of(exchange, "standing", *asking.PAGE)
    found, has_more = await asking.looking(exchange).alerts(
        standing=asking.flag_of(query, "standing") or False,
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    data = tuple(_alert(one) for one in found)
    listed = AlertList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def verification(exchange: Exchange) -> None:
    """Answer GET /admin/v1/verification."""
    asking.query_of(exchange)
    await _show_books(exchange)


async def verify(exchange: Exchange) -> None:
    """Answer POST /admin/v1/verification: at its end, or 202 where it takes longer than that."""
    await asking.body_of(exchange, asking.Nothing)
    verifying = asking.house_of(exchange).verifying
    ended = await verifying.run(await asking.deeds(exchange), within_s=ENDED_WITHIN_S)
    await _show_books(exchange, status=200 if ended else 202)


async def system(exchange: Exchange) -> None:
    """Answer GET /admin/v1/system."""
    asking.query_of(exchange)
    found = await asking.house_of(exchange).system()
    await exchange.respond_json(found, headers=asking.NO_STORE)


async def _show_books(exchange: Exchange, *, status: int = 200) -> None:
    books = await asking.looking(exchange).books()
    view = VerificationView(
        began_at=seconds(books.began_at),
        ended_at=seconds(books.ended_at),
        running=asking.house_of(exchange).verifying.running,
        findings=tuple(
            FindingView(
                text=one.words,
                customer_id=one.customer_id,
                customer=one.customer,
                found_at=one.found_at // 1000,
            )
            for one in books.findings
        ),
    )
    await exchange.respond_json(view, status=status, headers=asking.NO_STORE)


def _act(one: Act) -> ActView:
    values = {name: getattr(one, name) for name in ActView.__struct_fields__ if name != "object"}
    return ActView(**{**values, "at": one.at // 1000})


def _alert(one: Alert) -> AlertView:
    return AlertView(
        id=one.id,
        name=one.rule,
        subject=one.subject,
        message=one.words,
        value=one.value,
        threshold=one.threshold,
        raised_at=one.raised_at // 1000,
        resolved_at=seconds(one.resolved_at),
    )
