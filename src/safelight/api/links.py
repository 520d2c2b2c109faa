"""The addresses of pictures: signed links that expire, and stable ones that sign on read.

Owns the HTTP of serving a stored picture: types, conditional and range requests (RFC 9110
sections 13 and 14), and headers that keep a browser from running anything. Signatures are
`safelight.links`' business.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from safelight.api.callers import authenticate
from safelight.api.exchange import ClientGone, Exchange
from safelight.api.origin import signed_url
from safelight.api.problems import Headers
from safelight.errors import InternalError, NotFound, RangeNotSatisfiable, StorageError
from safelight.links import LinkInvalid, parse_path
from safelight.storage import Chunk
from safelight.types import MEDIA_TYPES, BlobRef, ImageRecord

_IMAGE_ID = re.compile(r"(?:img_)?[0-9a-zA-Z]{1,64}")
_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_OUTCOMES = {302: "redirected", 304: "not_modified", 416: "no_such_range"}
REDIRECT_S = 300
"""How long an address at the object store works that a link leads to."""
_SAFE: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]


async def stable_link(exchange: Exchange) -> None:
    """Answer GET /v1/images/{id}: redirect the owner to a fresh signed link."""
    identity = await authenticate(exchange)
    image_id = exchange.path_param("id")
    if not _IMAGE_ID.fullmatch(image_id):
        raise _no_image()
    record = await exchange.services.retention.image(identity.customer_id, image_id)
    location = signed_url(exchange, record).encode()
    await exchange.respond(
        302, b"", headers=[(b"location", location), (b"cache-control", b"no-store")]
    )


async def original(exchange: Exchange) -> None:
    """Answer GET /v1/images/{id}/original: the vendor's own file, byte for byte, to the owner."""
    identity = await authenticate(exchange)
    image_id = exchange.path_param("id")
    if not _IMAGE_ID.fullmatch(image_id):
        raise _no_image()
    found = await exchange.services.retention.original(identity.customer_id, image_id)
    await _serve(exchange, BlobRef(found.digest, found.bytes, found.format, 0, 0))


async def signed_link(exchange: Exchange) -> None:
    """Answer GET and HEAD /i/{file}: the picture, or one 404 for every link that is not valid.

    A link whose signature is right but whose time is over says so in `x-url-error`: only somebody
    who was given it can learn that.
    """
    downloads = exchange.services.metrics.link_downloads
    try:
        record = await _verified(exchange)
    except LinkInvalid as error:
        downloads.add("expired" if error.expired else "not_found")
        headers = [(b"x-url-error", b"expired")] if error.expired else []
        await exchange.fail(_no_image(), headers=headers)
        return
    except NotFound as error:
        downloads.add("not_found")
        raise _no_image() from error
    outcome = "failed"
    try:
        await _serve(exchange, record.blob)
        outcome = _OUTCOMES.get(exchange.status or 0, "ok")
    except ClientGone:
        outcome = "hung_up"
        raise
    finally:
        downloads.add(outcome)


async def _verified(exchange: Exchange) -> ImageRecord:
    """Return the image whose link this is.

    Raises:
        LinkInvalid: the path is none of ours, or the signature is wrong or expired.
        NotFound: there is no such image.
    """
    path = exchange.scope["raw_path"].decode("latin-1")
    image_id, _ = parse_path(path)
    record = await exchange.services.gateway.image(image_id)
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    exchange.services.links.verify(path, query, link_epoch=record.link_epoch)
    return record


async def _serve(exchange: Exchange, blob: BlobRef) -> None:
    etag = f'"{blob.digest}"'
    headers: Headers = [
        *_SAFE,
        (b"etag", etag.encode()),
        (b"cache-control", b"private"),
        (b"accept-ranges", b"bytes"),
    ]
    if _matches(exchange.header("if-none-match"), etag):
        await exchange.start(304, headers)
        await exchange.finish()
        return
    start, length = 0, blob.bytes
    status = 200
    try:
        found = _range_of(exchange, blob.bytes, etag)
    except RangeNotSatisfiable as error:
        size = f"bytes */{blob.bytes}".encode()
        await exchange.fail(error, headers=[(b"content-range", size)])
        return
    if found is not None:
        start, length = found
        status = 206
        shown = f"bytes {start}-{start + length - 1}/{blob.bytes}"
        headers.append((b"content-range", shown.encode()))
    if exchange.scope["method"] == "GET" and (elsewhere := await _elsewhere(exchange, blob)):
        location = (b"location", elsewhere.encode())
        await exchange.respond(
            302, b"", headers=[*_SAFE, location, (b"cache-control", b"no-store")]
        )
        return
    headers += [
        (b"content-type", MEDIA_TYPES[blob.format].encode()),
        (b"content-length", str(length).encode()),
    ]
    if exchange.scope["method"] == "HEAD":
        await exchange.start(status, headers)
        await exchange.finish()
        return
    await _send(exchange, blob, status, headers, start=start, length=length)


async def _elsewhere(exchange: Exchange, blob: BlobRef) -> str | None:
    """Return where the store itself gives the picture, if the operator wants callers sent there.

    Signed anew for each call, and for a short while: whoever has the link comes back here.
    """
    services = exchange.services
    if services.config.storage.serve != "redirect":
        return None
    return await services.storage.presigned(blob.digest, seconds=REDIRECT_S)


async def _send(
    exchange: Exchange,
    blob: BlobRef,
    status: int,
    headers: Headers,
    *,
    start: int,
    length: int,
) -> None:
    services = exchange.services
    async with services.sending.place(length) as chunk_bytes:
        chunks = aiter(
            services.storage.read(blob.digest, start=start, length=length, chunk_bytes=chunk_bytes)
        )
        # The first chunk is read before the head is sent: a lost blob can still be an error.
        first = await _first_chunk(exchange, chunks, blob)
        await exchange.start(status, headers)
        async with exchange.watched():
            await exchange.write(first)
            async for chunk in chunks:
                await exchange.write(chunk)
            await exchange.finish()


async def _first_chunk(exchange: Exchange, chunks: AsyncIterator[Chunk], blob: BlobRef) -> Chunk:
    try:
        return await anext(chunks)
    except (StorageError, StopAsyncIteration) as error:
        if await exchange.services.storage.exists(blob.digest):
            raise InternalError("The stored picture cannot be read now.") from error
        raise _no_image() from error


def _matches(header: str | None, etag: str) -> bool:
    """Return whether an If-None-Match header names the picture."""
    if header is None:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))


def _range_of(exchange: Exchange, size: int, etag: str) -> tuple[int, int] | None:
    """Return start and length of the one range asked for; None to send everything.

    With other methods than GET, several ranges, other units and nonsense are ignored, as RFC 9110
    section 14.2 has it or allows; serving many ranges is how servers are made to work for nothing
    (CVE-2025-62727).

    Raises:
        RangeNotSatisfiable: the range starts behind the end.
    """
    header, condition = exchange.header("range"), exchange.header("if-range")
    if exchange.scope["method"] != "GET" or header is None:
        return None
    if condition is not None and condition != etag:
        return None
    match = _ONE_RANGE.fullmatch(header)
    if match is None or header == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
        length = end - start + 1
    if start >= size or length <= 0:
        raise RangeNotSatisfiable(f"The picture has {size} bytes; the range asks for others.")
    return start, length


def _no_image() -> NotFound:
    return NotFound("There is no picture at this address, or its link has expired.")
