"""The address of this gateway as its callers know it, for the links in answers.

Owns only that. The operator's `server.public_url` decides; without it the request's Host header
is believed, because then only its sender is misled by a false one.
"""

from __future__ import annotations

import re

from safelight.api.exchange import Exchange
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
    path = exchange.services.links.sign(
        image.id,
        image.blob.format,
        ttl_s=image.link_ttl_s,
        link_epoch=image.link_epoch,
    )
    return origin_of(exchange) + path
