"""Request bodies: limits before and while reading, receipt deadlines, media types.

Owns how much is read and how long that may take (failure catalogue C9, C10, C12, C18). What the
bytes mean is `strict_json`'s and `multipart`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from safelight.api.exchange import Exchange
from safelight.api.strict_json import parse_object
from safelight.config import ServerConfig
from safelight.errors import RequestTimeout, RequestTooLarge, UnsupportedMediaType

_GRACE_S = 5.0
"""The rate of a body is not judged before this."""
_INLINE_JSON = 256 * 1024
"""Longer JSON is parsed in a thread, so that the loop serves others meanwhile."""


def media_type(content_type: str | None) -> str | None:
    """Return the lower-case media type without parameters, or None where none was sent."""
    if content_type is None:
        return None
    return content_type.partition(";")[0].strip().lower() or None


def allowed_s(received: int, server: ServerConfig) -> float:
    """Return how long after the first byte the next one must have come, in seconds.

    Below the minimum rate a body is cut once the grace is over, and at the total limit in any case.
    A minimum of 0 switches the rate off.
    """
    if not server.body_min_bytes_per_s:
        return server.body_timeout_s
    at_rate = received / server.body_min_bytes_per_s
    return min(server.body_timeout_s, max(_GRACE_S, at_rate))


async def read_chunks(exchange: Exchange, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        UnsupportedMediaType: it is compressed.
        RequestTooLarge: more than `limit` bytes; by Content-Length before a byte is read.
        RequestTimeout: it comes too slowly.
        ClientGone: the caller hung up.
    """
    encoding = exchange.header("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("Send the body uncompressed: Content-Encoding is not supported.")
    declared = exchange.header("content-length") or ""
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    server = exchange.services.config.server
    began_s = asyncio.get_running_loop().time()
    received = 0
    while True:
        try:
            async with asyncio.timeout_at(began_s + allowed_s(received, server)):
                chunk = await exchange.next_chunk()
        except TimeoutError as error:
            raise RequestTimeout("The request's body arrived too slowly.") from error
        if chunk is None:
            return
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        yield chunk


async def read_json(exchange: Exchange, limit: int) -> dict[str, Any]:
    """Return the body's JSON object; a missing Content-Type is taken for JSON.

    Raises:
        UnsupportedMediaType: another type was declared, or `read_chunks`' reasons.
        InvalidRequest: `strict_json.parse_object`'s reasons.
    """
    declared = media_type(exchange.header("content-type"))
    if declared not in (None, "application/json"):
        raise UnsupportedMediaType("Send the body as application/json.")
    body = b"".join([chunk async for chunk in read_chunks(exchange, limit)])
    if len(body) > _INLINE_JSON:
        return await asyncio.to_thread(parse_object, body)
    return parse_object(body)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request is larger than {limit} bytes.")
