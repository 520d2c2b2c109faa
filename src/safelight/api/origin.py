"""The address of this gateway as its callers know it, for the links in answers.

Owns only that. The operator's `server.public_url` decides; without it the request's Host header
is believed, because then only its sender is misled by a false one.
"""

from __future__ import annotations

import re

from safelight.api.exchange import Exchange
from safelight.config import ServerConfig
from safelight.links import Links
from safelight.types import ImageRecord

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")


def origin_of(exchange: Exchange) -> str:
    """Return scheme and authority without a slash at the end."""
    server = exchange.services.config.server
    if server.public_url:
        return server.public_url.rstrip("/")
    host = exchange.header("host") or ""
    if not _HOST.fullmatch(host):
        host = f"{server.host}:{server.port}"
    return f"{exchange.scope.get('scheme', 'http')}://{host}"


def signed_url(exchange: Exchange, image: ImageRecord) -> str:
    """Return a fresh signed link to `image`, of the life that its channel gives links."""
    return link_at(origin_of(exchange), exchange.services.links, image)


def link_at(origin: str, links: Links, image: ImageRecord) -> str:
    """Return the same for an origin that is known already."""
    path = links.sign(
        image.id,
        image.blob.format,
        ttl_s=image.link_ttl_s,
        link_epoch=image.link_epoch,
        until_ms=goes_at(image),
    )
    return origin + path


def goes_at(image: ImageRecord) -> int | None:
    """Return when a picture goes by itself, milliseconds since 1970; None: it does not."""
    return None if image.pinned else image.expires_at


def own_origin(server: ServerConfig) -> str:
    """Return the origin for what no request asks for, such as webhooks' messages.

    Without a `public_url` it is the address that is listened on, of use on this machine alone.
    """
    host = f"[{server.host}]" if ":" in server.host else server.host
    return server.public_url.rstrip("/") or f"http://{host}:{server.port}"
