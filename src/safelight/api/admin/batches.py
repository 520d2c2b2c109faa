"""/admin/v1/batches: everybody's batches and how far they are.

Owns the routes. The shape of a batch is its owner's (`api.batches`), with the customer beside it.
"""

from __future__ import annotations

import msgspec

from safelight.api.admin import asking
from safelight.api.batches import BatchView, batch_view
from safelight.api.exchange import Exchange
from safelight.batches import BatchRow, Counts

QUERY = ("customer", *asking.PAGE)


class AdminBatch(BatchView, frozen=True, kw_only=True):
    """A batch as operators see it; `customer` is the name."""

    customer_id: str
    customer: str


class AdminBatchList(msgspec.Struct, frozen=True, kw_only=True):
    """Batches, newest first; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[AdminBatch, ...]
    last_id: str | None
    has_more: bool


async def batches(exchange: Exchange) -> None:
    """Answer GET /admin/v1/batches."""
    query = asking.query_of(exchange, *QUERY)
    found, has_more = await asking.looking(exchange).batch_page(
        query.get("customer") or None,
        after=query.get("after") or None,
        limit=asking.limit_of(query),
    )
    names = await asking.looking(exchange).names([row.customer_id for row, _ in found])
    data = tuple(_view(row, counts, names[row.customer_id]) for row, counts in found)
    listed = AdminBatchList(data=data, last_id=data[-1].id if data else None, has_more=has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def batch(exchange: Exchange) -> None:
    """Answer GET /admin/v1/batches/{id}."""
    row, counts = await asking.looking(exchange).batch(exchange.path_param("id"))
    names = await asking.looking(exchange).names([row.customer_id])
    await exchange.respond_json(_view(row, counts, names[row.customer_id]), headers=asking.NO_STORE)


def _view(row: BatchRow, counts: Counts, customer: str) -> AdminBatch:
    return AdminBatch(
        **msgspec.structs.asdict(batch_view(row, counts)),
        customer_id=row.customer_id,
        customer=customer,
    )
