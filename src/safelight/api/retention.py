"""/v1/images/{id}: keep a picture, let it expire again, delete it; end all links.

Owns these routes; what keeping means is the gateway's business (docs/storage.md).
"""

from __future__ import annotations

import re

import msgspec

from safelight.api.callers import authenticate
from safelight.api.context import RetentionPort
from safelight.api.exchange import Exchange
from safelight.api.job_views import image_view
from safelight.api.origin import origin_of
from safelight.errors import NotFound
from safelight.types import ImageRecord

_IMAGE_ID = re.compile(r"[0-9a-f]{32}")
_NO_STORE = (b"cache-control", b"no-store")


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """That a picture is gone, as OpenAI says it of files."""

    id: str
    object: str = "image"
    deleted: bool = True


class LinksEnded(msgspec.Struct, frozen=True, kw_only=True):
    """That no link which was given out before works any more."""

    object: str = "links"
    ended: bool = True


async def pin(exchange: Exchange) -> None:
    """Answer POST /v1/images/{id}/pin: the picture stays until it is unpinned or deleted."""
    identity = await authenticate(exchange)
    record = await _port(exchange).pin(identity.customer_id, image_id_of(exchange))
    await _show(exchange, record)


async def unpin(exchange: Exchange) -> None:
    """Answer POST /v1/images/{id}/unpin: it expires, as late from now as a new one would."""
    identity = await authenticate(exchange)
    record = await _port(exchange).unpin(identity.customer_id, image_id_of(exchange))
    await _show(exchange, record)


async def delete(exchange: Exchange) -> None:
    """Answer DELETE /v1/images/{id}: the bytes are gone, its line on the statement stays."""
    identity = await authenticate(exchange)
    image_id = image_id_of(exchange)
    await _port(exchange).delete(identity.customer_id, image_id)
    await exchange.respond_json(Deleted(id=image_id), headers=[_NO_STORE])


async def end_links(exchange: Exchange) -> None:
    """Answer POST /v1/images/links/end: whoever has a link to your pictures has it no more."""
    identity = await authenticate(exchange)
    await _port(exchange).end_links(identity.customer_id)
    await exchange.respond_json(LinksEnded(), headers=[_NO_STORE])


async def _show(exchange: Exchange, record: ImageRecord) -> None:
    view = image_view(origin_of(exchange), exchange.services.links, record)
    await exchange.respond_json(view, headers=[_NO_STORE])


def _port(exchange: Exchange) -> RetentionPort:
    return exchange.services.retention


def image_id_of(exchange: Exchange) -> str:
    """Return the id of a picture in the path, or raise NotFound where it can be none."""
    image_id = exchange.path_param("id")
    if not _IMAGE_ID.fullmatch(image_id):
        raise NotFound("No image has this id, or its link has expired.", param="id")
    return image_id
