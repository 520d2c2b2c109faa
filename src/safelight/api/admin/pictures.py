"""/admin/v1/images: everybody's pictures, by words of their prompts; kept, let go, deleted.

Owns the routes and the shape of a picture on a list. What is searched is `image_lists`' business,
what keeping means the gateway's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from safelight.api.admin import asking
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobImage, image_view
from safelight.api.origin import origin_of
from safelight.api.retention import Deleted, image_id_of
from safelight.image_lists import Listed, Wanted, words_of

QUERY = ("search", "customer", "pinned", *asking.PAGE)


class AdminImage(JobImage, frozen=True, kw_only=True):
    """A picture with what its job knows; times in unix seconds."""

    prompt: str
    job_id: str
    model: str
    created_at: int
    price_micros: int
    customer_id: str
    customer: str


class AdminImageList(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures, newest first; `after` with `last_id` goes on.

    One call looks at some thousands of pictures: a search with `has_more` may have found less than
    `limit`, even nothing.
    """

    object: str = "list"
    data: tuple[AdminImage, ...]
    last_id: str | None
    has_more: bool


async def images(exchange: Exchange) -> None:
    """Answer GET /admin/v1/images."""
    query = asking.query_of(exchange, *QUERY)
    wanted = Wanted(
        customer_id=query.get("customer") or None,
        words=words_of(asking.search_of(query)),
        pinned=asking.flag_of(query, "pinned"),
    )
    page = await asking.looking(exchange).image_page(
        wanted, after=query.get("after") or None, limit=asking.limit_of(query)
    )
    data = tuple(await _views(exchange, page.found))
    listed = AdminImageList(data=data, last_id=page.last_id, has_more=page.has_more)
    await exchange.respond_json(listed, headers=asking.NO_STORE)


async def pin(exchange: Exchange) -> None:
    """Answer POST /admin/v1/images/{id}/pin."""
    await asking.body_of(exchange, asking.Nothing)
    found = await asking.looking(exchange).image(image_id_of(exchange))
    kept = await (await asking.deeds(exchange)).pin(found)
    view = image_view(origin_of(exchange), exchange.services.links, kept)
    await exchange.respond_json(view, headers=asking.NO_STORE)


async def unpin(exchange: Exchange) -> None:
    """Answer POST /admin/v1/images/{id}/unpin."""
    await asking.body_of(exchange, asking.Nothing)
    found = await asking.looking(exchange).image(image_id_of(exchange))
    kept = await (await asking.deeds(exchange)).unpin(found)
    view = image_view(origin_of(exchange), exchange.services.links, kept)
    await exchange.respond_json(view, headers=asking.NO_STORE)


async def delete(exchange: Exchange) -> None:
    """Answer DELETE /admin/v1/images/{id}: the bytes are gone, its line on the statement stays."""
    found = await asking.looking(exchange).image(image_id_of(exchange))
    await (await asking.deeds(exchange)).delete(found)
    await exchange.respond_json(Deleted(id=found.id), headers=asking.NO_STORE)


async def _views(exchange: Exchange, found: Sequence[Listed]) -> list[AdminImage]:
    names = await asking.looking(exchange).names([one.record.customer_id for one in found])
    origin, links = origin_of(exchange), exchange.services.links
    return [
        AdminImage(
            **msgspec.structs.asdict(image_view(origin, links, one.record)),
            prompt=one.prompt,
            job_id=one.record.job_id,
            model=one.channel,
            created_at=one.record.created_at // 1000,
            price_micros=one.price_micros,
            customer_id=one.record.customer_id,
            customer=names[one.record.customer_id],
        )
        for one in found
    ]
