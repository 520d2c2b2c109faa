"""/admin/v1/customers: who pays, what they have, and their statements.

Owns the routes and the shape of a customer. Money moves by the office's verbs alone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from safelight.administration.looking import no_customer
from safelight.api.admin import asking
from safelight.api.admin.asking import Amount, Name, Reason
from safelight.api.billing import respond_statement
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds
from safelight.customers import CustomerInfo
from safelight.errors import InvalidValue
from safelight.money import MICROS_MAX
from safelight.types import Balance

QUERY = ("search", *asking.PAGE)


class NewCustomer(msgspec.Struct, kw_only=True):
    """POST /admin/v1/customers; `key` false makes a customer without a first key."""

    name: Name
    credit_micros: Amount = 0
    key: bool = True


class CustomerChange(msgspec.Struct, kw_only=True):
    """PATCH /admin/v1/customers/{id}."""

    name: Name


class Credit(msgspec.Struct, kw_only=True):
    """POST /admin/v1/customers/{id}/credit; a negative amount is a correction."""

    amount_micros: Annotated[int, Meta(ge=-MICROS_MAX, le=MICROS_MAX)]
    reason: Reason


class CreditLine(msgspec.Struct, kw_only=True):
    """PUT /admin/v1/customers/{id}/credit-line; 0 is prepaid."""

    credit_line_micros: Amount


class Why(msgspec.Struct, kw_only=True):
    """Why something is done."""

    reason: Reason


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Since when a customer may order nothing, and why."""

    at: int
    reason: str | None


class CustomerView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A customer; money in micro-dollars, times in unix seconds. `keys` counts those in use.

    `key` is the text of a first key, shown once, where one was made just now.
    """

    object: str
    id: str
    name: str
    created_at: int
    balance: Balance
    frozen: Frozen | None
    keys: int
    key: str | msgspec.UnsetType = msgspec.UNSET


class Unfrozen(CustomerView, frozen=True, kw_only=True):
    """A customer who may order again; `accepted` has the findings that count no more, in words."""

    accepted: tuple[str, ...]


class CustomerList(msgspec.Struct, frozen=True, kw_only=True):
    """Customers by name; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[CustomerView, ...]
    last_id: str | None
    has_more: bool


async def customers(exchange: Exchange) -> None:
    """Answer GET /admin/v1/customers."""
    query = asking.query_of(exchange, *QUERY)
    found, has_more = await asking.looking(exchange).customer_page(
        search=asking.search_of(query),
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    data = tuple(customer_view(one) for one in found)
    listed = CustomerList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def create(exchange: Exchange) -> None:
    """Answer POST /admin/v1/customers: a customer, its first credit and its first key, in one."""
    body = await asking.body_of(exchange, NewCustomer)
    name = asking.plain(body.name, "name")
    office = (await asking.deeds(exchange)).customers
    with asking.refusals(no_customer(name)):
        made, key = await office.create_customer(name, body.credit_micros, with_key=body.key)
    view = customer_view(made, key=msgspec.UNSET if key is None else key)
    await exchange.respond_json(view, status=201, headers=asking.NO_STORE)


async def customer(exchange: Exchange) -> None:
    """Answer GET /admin/v1/customers/{id}."""
    await _show(exchange, exchange.path_param("id"))


async def rename(exchange: Exchange) -> None:
    """Answer PATCH /admin/v1/customers/{id}."""
    customer_id = exchange.path_param("id")
    body = await asking.body_of(exchange, CustomerChange)
    office = (await asking.deeds(exchange)).customers
    with asking.refusals(no_customer(customer_id)):
        found = await office.rename(customer_id, asking.plain(body.name, "name"))
    await exchange.respond_json(customer_view(found), headers=asking.NO_STORE)


async def freeze(exchange: Exchange) -> None:
    """Answer POST /admin/v1/customers/{id}/freeze: nothing new is accepted of it."""
    customer_id = exchange.path_param("id")
    reason = await _reason(exchange)
    watch = (await asking.deeds(exchange)).watch
    with asking.refusals(no_customer(customer_id)):
        await watch.freeze_by_id(customer_id, reason)
    await _show(exchange, customer_id)


async def unfreeze(exchange: Exchange) -> None:
    """Answer POST /admin/v1/customers/{id}/unfreeze; its books are verified first, and accepted."""
    customer_id = exchange.path_param("id")
    reason = await _reason(exchange)
    await asking.looking(exchange).customer(customer_id)
    watch = (await asking.deeds(exchange)).watch
    with asking.refusals(no_customer(customer_id)):
        _, accepted = await watch.unfreeze_by_id(customer_id, reason)
    found = customer_view(await asking.looking(exchange).customer(customer_id))
    view = Unfrozen(**msgspec.structs.asdict(found), accepted=accepted)
    await exchange.respond_json(view, headers=asking.NO_STORE)


async def credit(exchange: Exchange) -> None:
    """Answer POST /admin/v1/customers/{id}/credit."""
    customer_id = exchange.path_param("id")
    body = await asking.body_of(exchange, Credit)
    if body.amount_micros == 0:
        raise InvalidValue("'amount_micros' is 0: nothing would change.", param="amount_micros")
    reason = asking.plain(body.reason, "reason")
    office = (await asking.deeds(exchange)).money
    with asking.refusals(no_customer(customer_id)):
        balance = await office.credit_by_id(customer_id, body.amount_micros, reason)
    await exchange.respond_json(balance, headers=asking.NO_STORE)


async def credit_line(exchange: Exchange) -> None:
    """Answer PUT /admin/v1/customers/{id}/credit-line."""
    customer_id = exchange.path_param("id")
    body = await asking.body_of(exchange, CreditLine)
    office = (await asking.deeds(exchange)).money
    with asking.refusals(no_customer(customer_id)):
        balance = await office.set_credit_line_by_id(customer_id, body.credit_line_micros)
    await exchange.respond_json(balance, headers=asking.NO_STORE)


async def statement(exchange: Exchange) -> None:
    """Answer GET /admin/v1/customers/{id}/statement, as its owner has it, as JSON or CSV."""
    customer_id = exchange.path_param("id")
    await asking.looking(exchange).customer(customer_id)
    await respond_statement(exchange, customer_id)


async def _reason(exchange: Exchange) -> str:
    return asking.plain((await asking.body_of(exchange, Why)).reason, "reason")


async def _show(exchange: Exchange, customer_id: str) -> None:
    found = await asking.looking(exchange).customer(customer_id)
    await exchange.respond_json(customer_view(found), headers=asking.NO_STORE)


def customer_view(
    found: CustomerInfo, *, key: str | msgspec.UnsetType = msgspec.UNSET
) -> CustomerView:
    """Return a customer as operators see it."""
    frozen_at = seconds(found.frozen_at)
    return CustomerView(
        object="customer",
        id=found.id,
        name=found.name,
        created_at=found.created_at // 1000,
        balance=found.balance,
        frozen=None if frozen_at is None else Frozen(at=frozen_at, reason=found.frozen_reason),
        keys=found.keys,
        key=key,
    )
