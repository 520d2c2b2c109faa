"""/admin/v1/keys: customers' keys, what each may spend and how fast it may ask.

Owns the routes and the shape of a key. Its text is shown once, when it is made.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from safelight.administration.looking import no_customer
from safelight.api.admin import asking
from safelight.api.admin.asking import Amount, Name
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds
from safelight.customers import KeyInfo
from safelight.errors import InvalidValue, NotFound
from safelight.types import BudgetState, LimitChange, Period

QUERY = ("customer", *asking.PAGE)
Rate = Annotated[int, Meta(ge=0, le=1_000_000)]


class KeyChange(msgspec.Struct, kw_only=True):
    """PATCH /admin/v1/keys/{id}; what is not named stays.

    Of the rates null is the configuration's default and 0 no limit; of `budgets` the periods that
    are named change, and null takes one away.
    """

    requests_per_minute: Rate | msgspec.UnsetType | None = msgspec.UNSET
    max_in_flight: Rate | msgspec.UnsetType | None = msgspec.UNSET
    budgets: dict[Period, Amount | None] = {}
    keep_alive: bool | msgspec.UnsetType = msgspec.UNSET

    def limits(self) -> LimitChange:
        """Return what changes of the limits."""
        return LimitChange(
            requests_per_minute=self.requests_per_minute,
            max_in_flight=self.max_in_flight,
            budgets=dict(self.budgets),
        )


class NewKey(msgspec.Struct, kw_only=True):
    """POST /admin/v1/customers/{id}/keys; the limits as in a change of them."""

    name: Name
    requests_per_minute: Rate | None = None
    max_in_flight: Rate | None = None
    budgets: dict[Period, Amount] = {}


class KeyView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key; times in unix seconds. `key` is its text, where it was made just now."""

    object: str
    id: str
    name: str
    customer_id: str
    customer: str
    last4: str
    created_at: int
    revoked_at: int | None
    requests_per_minute: int | None
    max_in_flight: int | None
    keep_alive: bool
    budgets: tuple[BudgetState, ...]
    key: str | msgspec.UnsetType = msgspec.UNSET


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, oldest first; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[KeyView, ...]
    last_id: str | None
    has_more: bool


async def keys(exchange: Exchange) -> None:
    """Answer GET /admin/v1/keys, of one customer or of all."""
    query = asking.query_of(exchange, *QUERY)
    found, has_more = await asking.looking(exchange).key_page(
        customer_id=query.get("customer") or None,
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    data = tuple(_view(one) for one in found)
    listed = KeyList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def create(exchange: Exchange) -> None:
    """Answer POST /admin/v1/customers/{id}/keys."""
    customer_id = exchange.path_param("id")
    body = await asking.body_of(exchange, NewKey)
    limits = LimitChange(
        requests_per_minute=body.requests_per_minute,
        max_in_flight=body.max_in_flight,
        budgets=dict(body.budgets),
    )
    office = (await asking.deeds(exchange)).customers
    with asking.refusals(no_customer(customer_id)):
        text, made = await office.add_key(customer_id, asking.plain(body.name, "name"), limits)
    await exchange.respond_json(_view(made, key=text), status=201, headers=asking.NO_STORE)


async def change(exchange: Exchange) -> None:
    """Answer PATCH /admin/v1/keys/{id}."""
    key_id = exchange.path_param("id")
    body = await asking.body_of(exchange, KeyChange)
    limits, office = body.limits(), (await asking.deeds(exchange)).customers
    if limits == LimitChange() and body.keep_alive is msgspec.UNSET:
        raise InvalidValue("Nothing is to change: name a limit.")
    with asking.refusals(_no_key(key_id)):
        if body.keep_alive is not msgspec.UNSET and not await office.set_keep_alive(
            key_id, on=body.keep_alive
        ):
            raise _no_key(key_id)
        if limits != LimitChange():
            await office.limit_key(key_id, limits)
    await _show(exchange, key_id)


async def revoke(exchange: Exchange) -> None:
    """Answer POST /admin/v1/keys/{id}/revoke; of one that is revoked like the first time."""
    key_id = exchange.path_param("id")
    await asking.body_of(exchange, asking.Nothing)
    before = await asking.looking(exchange).key(key_id)
    if before is None:
        raise NotFound(f"No key has the id {key_id!r}.", param="id")
    if before.revoked_at is None:
        await (await asking.deeds(exchange)).customers.revoke_key(key_id)
    await _show(exchange, key_id)


async def _show(exchange: Exchange, key_id: str) -> None:
    found = await asking.looking(exchange).key(key_id)
    if found is None:
        raise _no_key(key_id)
    await exchange.respond_json(_view(found), headers=asking.NO_STORE)


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"No key in use has the id {key_id!r}.", param="id")


def _view(found: KeyInfo, *, key: str | msgspec.UnsetType = msgspec.UNSET) -> KeyView:
    return KeyView(
        object="key",
        id=found.id,
        name=found.name,
        customer_id=found.customer_id,
        customer=found.customer,
        last4=found.last4,
        created_at=found.created_at // 1000,
        revoked_at=seconds(found.revoked_at),
        requests_per_minute=found.requests_per_minute,
        max_in_flight=found.max_in_flight,
        keep_alive=found.keep_alive,
        budgets=found.budgets,
        key=key,
    )
