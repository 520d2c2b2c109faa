"""Request bodies: limits before and while reading, receipt deadlines, media types.

Owns how much is read and how long that may take (failure catalogue C9, C10, C12, C18). What the
bytes mean is `strict_json`'s and `multipart`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from safelight.api.exchange import Exchange
from safelight.api.strict_json import STRICT, Limits, parse_object
from safelight.config import ServerConfig
from safelight.errors import RequestTimeout, RequestTooLarge, UnsupportedMediaType

_GRACE_S = 5.0
"""The rate of a body is not judged before this."""
_INLINE_JSON = 256 * 1024
"""Longer JSON is parsed in a thread, so that the loop serves others meanwhile."""

P = ParamSpec("P")
T = TypeVar("T")


def media_type(content_type: str | None) -> str | None:
    """Return the lower-case media type without parameters, or None where none was sent."""
    if content_type is None:
        return None
    return content_type.partition(";")[0].strip().lower() or None


def allowed_s(received: int, server: ServerConfig, timeout_s: float | None = None) -> float:
    """Return how long after the first byte the next one must have come, in seconds.

    Below the minimum rate a body is cut once the grace is over, and at the total limit in any case.
    A minimum of 0 switches the rate off.

    Args:
        received: bytes that have come.
        server: rate and total limit.
        timeout_s: the total limit where it is another one.
    """
    limit_s = server.body_timeout_s if timeout_s is None else timeout_s
    if not server.body_min_bytes_per_s:
        return limit_s
    at_rate = received / server.body_min_bytes_per_s
    return min(limit_s, max(_GRACE_S, at_rate))


async def read_chunks(
    exchange: Exchange, limit: int, *, timeout_s: float | None = None
) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; `timeout_s` where it may take another time than most.

    Raises:
        UnsupportedMediaType: it is compressed.
        RequestTooLarge: more than `limit` bytes; by Content-Length before a byte is read.
        RequestTimeout: it comes too slowly.
        ClientGone: the caller hung up.
    """
    _declared_length(exchange, limit)
    server = exchange.services.config.server
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    received = 0
    while True:
        try:
            async with asyncio.timeout_at(began_s + allowed_s(received, server, timeout_s)):
                chunk = await exchange.next_chunk()
        except TimeoutError as error:
            raise RequestTimeout("The request's body arrived too slowly.") from error
        if chunk is None:
            return
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        handed_s = loop.time()
        yield chunk
        # What the reader took for itself, waiting for room, is not the caller's slowness.
        began_s += loop.time() - handed_s


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A JSON body that was read: its object, and whether it is `long`."""

    fields: dict[str, Any]
    long: bool

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work`, which goes through the whole body, returns; in a thread if long."""
        if self.long:
            return await asyncio.to_thread(work, *args, **kwargs)
        return work(*args, **kwargs)


@asynccontextmanager
async def json_body(
    exchange: Exchange, limit: int, *, limits: Limits = STRICT
) -> AsyncIterator[JsonBody]:
    """Read the body's JSON object; a missing Content-Type is taken for JSON.

    Its bytes count against the process's budget until the block is left: what is still needed then
    must be small, and nothing may keep the object.

    Args:
        exchange: whose body.
        limit: most bytes of the body.
        limits: how the document may be built.

    Raises:
        UnsupportedMediaType: another type was declared, or `read_chunks`' reasons.
        Unavailable: there is no room for so large a body now.
        InvalidRequest: `strict_json.parse_object`'s reasons.
    """
    declared = media_type(exchange.header("content-type"))
    if declared == "multipart/form-data":
        raise UnsupportedMediaType(
            "Send the body as application/json. A form with pictures belongs to /v1/images/edits."
        )
    if declared not in (None, "application/json"):
        raise UnsupportedMediaType("Send the body as application/json.")
    with exchange.budget.hold() as holding:
        # At once where the length is known: bodies that each have room for a half would all wait.
        await holding.cover(_declared_length(exchange, limit))
        body = bytearray()
        async for chunk in read_chunks(exchange, limit):
            await holding.cover(len(body) + len(chunk))
            body += chunk
        if len(body) <= _INLINE_JSON:
            yield JsonBody(parse_object(body, limits), long=False)
        else:
            yield JsonBody(await asyncio.to_thread(parse_object, body, limits), long=True)


def _declared_length(exchange: Exchange, limit: int) -> int:
    """Return the Content-Length, 0 if none is told, of a body that may be read at all."""
    encoding = exchange.header("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType("Send the body uncompressed: Content-Encoding is not supported.")
    declared = exchange.header("content-length") or ""
    length = int(declared) if declared.isdecimal() else 0
    if length > limit:
        raise _too_large(limit)
    return length


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request is larger than {limit} bytes.")
