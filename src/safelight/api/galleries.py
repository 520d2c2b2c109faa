"""GET /v1/images: a customer's pictures, newest first, by words of their prompts.

Owns the query and the shape of a picture that stands by itself. What is searched is
`safelight.image_lists`' business.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobImage, image_view
from safelight.api.origin import origin_of
from safelight.errors import InvalidValue, UnknownParameter
from safelight.image_lists import Listed, Wanted, words_of
from safelight.links import Links

QUERY = ("search", "pinned", "after", "limit")
LIMIT, LIMIT_MAX = 20, 100
SEARCH_MAX = 200
_PINNED = {"true": True, "1": True, "false": False, "0": False, "": None}
_NO_STORE = (b"cache-control", b"no-store")


class Picture(JobImage, frozen=True, kw_only=True):
    """A picture with what its job knows; times in unix seconds."""

    prompt: str
    job_id: str
    model: str
    created_at: int
    price_micros: int


class PictureList(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures; `after` with `last_id` gives the next ones.

    One call looks at some thousands of pictures: a search with `has_more` may have found less than
    `limit`, even nothing, and goes on after `last_id`.
    """

    object: str = "list"
    data: tuple[Picture, ...]
    last_id: str | None
    has_more: bool


async def images(exchange: Exchange) -> None:
    """Answer GET /v1/images."""
    identity = await authenticate(exchange)
    query = exchange.query()
    for name in query:
        if name not in QUERY:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    wanted = Wanted(
        customer_id=identity.customer_id,
        words=words_of(_search(query)),
        pinned=_pinned(query),
    )
    page = await exchange.services.retention.page(
        wanted, after=query.get("after") or None, limit=_limit(query)
    )
    origin, links = origin_of(exchange), exchange.services.links
    listed = PictureList(
        data=tuple(picture(origin, links, one) for one in page.found),
        last_id=page.last_id,
        has_more=page.has_more,
    )
    await exchange.respond_json(listed, headers=[_NO_STORE])


def picture(origin: str, links: Links, found: Listed) -> Picture:
    """Return a picture as its owner sees it, with a fresh link."""
    return Picture(
        **msgspec.structs.asdict(image_view(origin, links, found.record)),
        prompt=found.prompt,
        job_id=found.record.job_id,
        model=found.channel,
        created_at=found.record.created_at // 1000,
        price_micros=found.price_micros,
    )


def _search(query: Mapping[str, str]) -> str:
    text = query.get("search", "")
    if len(text) > SEARCH_MAX:
        raise InvalidValue(f"'search' has {SEARCH_MAX} characters at most.", param="search")
    return text


def _pinned(query: Mapping[str, str]) -> bool | None:
    text = query.get("pinned", "")
    if text not in _PINNED:
        raise InvalidValue("'pinned' is true or false.", param="pinned")
    return _PINNED[text]


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "")
    if not text:
        return LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidValue(f"'limit' is a number from 1 to {LIMIT_MAX}.", param="limit")
    return int(text)
