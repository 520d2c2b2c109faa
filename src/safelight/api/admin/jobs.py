"""/admin/v1/jobs and /admin/v1/refunds: everybody's jobs, their attempts and their money.

Owns what operators see beyond a job's owner: the customer, the prompt, the names of accounts, and
what the vendors bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from safelight.administration.looking import no_job
from safelight.api.admin import asking
from safelight.api.admin.asking import Reason
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobView, job_views
from safelight.api.jobs import filter_of, refuse_ended
from safelight.api.receipts import ReceiptAttempt, ReceiptView, receipt_view
from safelight.attempts import Attempt
from safelight.errors import InvalidValue
from safelight.gateway.receipts import Receipt
from safelight.types import Balance, Job

QUERY = (
    "status",
    "customer",
    "model",
    "channel",
    "request_id",
    "batch_id",
    "created_after",
    "created_before",
    *asking.PAGE,
)


class AdminJob(JobView, frozen=True, kw_only=True):
    """A job as operators see it; `customer` is the name."""

    customer_id: str
    customer: str
    prompt: str


class AdminJobList(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs, newest first; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[AdminJob, ...]
    last_id: str | None
    has_more: bool


class AdminAttempt(ReceiptAttempt, frozen=True, kw_only=True):
    """One upstream call. `sold` null: nobody knows whether the vendor bills it."""

    group: str
    code: str | None
    sold: bool | None
    cost_micros: int | None


class AdminJobDetail(AdminJob, frozen=True, kw_only=True):
    """One job, with its calls; `attempts` counts those that have begun."""

    calls: tuple[AdminAttempt, ...]


class AdminReceipt(ReceiptView, frozen=True, kw_only=True):
    """A receipt with the vendor's side: `cost_micros` is a lower bound unless `cost_complete`."""

    customer_id: str
    customer: str
    cost_micros: int
    cost_complete: bool
    margin_micros: int
    attempts: tuple[AdminAttempt, ...]


class Refund(msgspec.Struct, kw_only=True):
    """POST /admin/v1/refunds."""

    job_id: Annotated[str, Meta(min_length=1, max_length=64)]
    reason: Reason


class Refunded(msgspec.Struct, frozen=True, kw_only=True):
    """What was given back, and what the customer has now."""

    object: str = "refund"
    job_id: str
    amount_micros: int
    balance: Balance


async def jobs(exchange: Exchange) -> None:
    """Answer GET /admin/v1/jobs."""
    query = asking.query_of(exchange, *QUERY)
    channel = query.get("channel") or None
    if channel is not None:
        if query.get("model"):
            raise InvalidValue("'model' and 'channel' are the same; name one.", param="channel")
        query = {**query, "model": channel}
    found, has_more = await asking.looking(exchange).job_page(
        query.get("customer") or None,
        filter_of(query),
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    data = tuple(await _views(exchange, found))
    listed = AdminJobList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def job(exchange: Exchange) -> None:
    """Answer GET /admin/v1/jobs/{id}."""
    found = await asking.looking(exchange).receipt(exchange.path_param("id"))
    (view,) = await _views(exchange, [found.job])
    detail = AdminJobDetail(**msgspec.structs.asdict(view), calls=_attempts(found))
    await exchange.respond_json(detail, headers=asking.NO_STORE)


async def receipt(exchange: Exchange) -> None:
    """Answer GET /admin/v1/jobs/{id}/receipt."""
    found = await asking.looking(exchange).receipt(exchange.path_param("id"))
    values = msgspec.structs.asdict(receipt_view(found)) | {"attempts": _attempts(found)}
    view = AdminReceipt(
        **values,
        customer_id=found.job.customer_id,
        customer=found.customer,
        cost_micros=found.cost.micros,
        cost_complete=found.cost.complete,
        margin_micros=found.margin_micros,
    )
    await exchange.respond_json(view, headers=asking.NO_STORE)


async def cancel(exchange: Exchange) -> None:
    """Answer POST /admin/v1/jobs/{id}/cancel, as its customer's call would be."""
    await asking.body_of(exchange, asking.Nothing)
    found = await asking.looking(exchange).job(exchange.path_param("id"))
    refuse_ended(found)
    ended = await (await asking.deeds(exchange)).cancel(found)
    refuse_ended(ended)
    (view,) = await _views(exchange, [ended])
    await exchange.respond_json(view, headers=asking.NO_STORE)


async def refund(exchange: Exchange) -> None:
    """Answer POST /admin/v1/refunds: the charge of a job, in full, once."""
    body = await asking.body_of(exchange, Refund)
    office = (await asking.deeds(exchange)).money
    with asking.refusals(no_job(body.job_id)):
        amount, balance = await office.refund(body.job_id, asking.plain(body.reason, "reason"))
    view = Refunded(job_id=body.job_id, amount_micros=amount, balance=balance)
    await exchange.respond_json(view, status=201, headers=asking.NO_STORE)


async def _views(exchange: Exchange, found: Sequence[Job]) -> list[AdminJob]:
    names = await asking.looking(exchange).names([one.customer_id for one in found])
    views = await job_views(exchange, found)
    return [
        AdminJob(
            **msgspec.structs.asdict(view),
            customer_id=one.customer_id,
            customer=names[one.customer_id],
            prompt=one.request.prompt,
        )
        for one, view in zip(found, views, strict=True)
    ]


def _attempts(found: Receipt) -> tuple[AdminAttempt, ...]:
    return tuple(_attempt(number, one) for number, one in enumerate(found.attempts, 1))


def _attempt(number: int, one: Attempt) -> AdminAttempt:
    return AdminAttempt(
        number=number,
        sent_at=one.sent_at // 1000,
        seconds=one.seconds,
        outcome=one.outcome,
        delivered=one.settled,
        account=one.account,
        upstream_request_id=one.upstream_request_id,
        group=one.group,
        code=one.code,
        sold=one.sold,
        cost_micros=one.cost_micros,
    )
