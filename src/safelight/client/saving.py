"""Bringing a picture home: streamed into a file beside its place, checked, renamed in one step.

Owns the file. A name that exists is a whole picture: it is written under another name, hashed while
it comes, fsynced, and renamed. A link is tried again like any read, and asked anew from the job
when it has expired.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import msgspec

from safelight.client.answers import Picture, Saved
from safelight.client.errors import BrokenPicture, Unreachable
from safelight.client.folders import sync_folder
from safelight.client.pictures import ENDINGS, HEAD_BYTES, SUFFIXES, measure
from safelight.client.refusals import refusal
from safelight.client.transport import Transport, lower

_CHUNK_BYTES = 256 * 1024
_ERROR_BYTES = 64 * 1024
Renew = Callable[[Picture], Awaitable[Picture]]
"""Returns a picture with a fresh link, where there is a job to ask."""


async def save(transport: Transport, picture: Picture, path: Path, *, renew: Renew) -> Saved:
    """Write a picture to a file, whole or not at all.

    Args:
        transport: what brings it.
        picture: with a link or bytes.
        path: the file; without an ending it gets the one of the picture's format. What is there
            is replaced.
        renew: asked when the link has expired.

    Raises:
        BrokenPicture: not a picture, or another digest than was promised, after all tries.
        ClientError: it could not be fetched.
        OSError: it could not be written; nothing is left behind.
    """
    known, stale = picture, False

    async def attempt(limit_s: float) -> Saved:
        nonlocal known, stale
        if stale:
            known, stale = await renew(known), False
        whole = False
        try:
            saved = await _written(_chunks(transport, known, limit_s), known, path)
            whole = True
        except _Expired:
            stale = True
            raise
        finally:
            transport.tally.downloaded(whole=whole)
        return saved

    try:
        return await transport.again(attempt)
    except _Torn as torn:
        raise BrokenPicture(torn.message) from torn


class _Torn(Unreachable):
    """It came otherwise than promised: fetched again, as a broken connection would be."""


class _Expired(Unreachable):
    """The link's time is over."""


async def _chunks(
    transport: Transport, picture: Picture, limit_s: float
) -> AsyncGenerator[bytes, None]:
    if picture.data is not None:
        yield picture.data
        return
    if picture.link is None:
        raise BrokenPicture("there is neither a link nor a picture to save")
    async with transport.stream("GET", picture.link, timeout_s=limit_s, foreign=True) as response:
        headers = lower(response.headers)
        if response.status == 404 and picture.job_id is not None:
            raise _Expired("the link is not valid any more")
        if response.status != 200:
            raise refusal(response.status, headers, await response.content.read(_ERROR_BYTES))
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            yield chunk


async def download(transport: Transport, target: str, path: Path) -> Path:
    """Write what the API answers at `target` to a file, whole or not at all.

    Raises:
        ClientError: it could not be fetched.
        OSError: it could not be written; nothing is left behind.
    """

    async def chunks(limit_s: float) -> AsyncGenerator[bytes, None]:
        async with transport.stream("GET", target, timeout_s=limit_s) as response:
            if response.status != 200:
                body = await response.content.read(_ERROR_BYTES)
                raise refusal(response.status, lower(response.headers), body)
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                yield chunk

    async def attempt(limit_s: float) -> Path:
        part = _part(path)
        try:
            with part.open("wb") as file:
                async with aclosing(chunks(limit_s)) as coming:
                    async for chunk in coming:
                        file.write(chunk)
            part.replace(path)
        finally:
            _removed(part)
        return path

    return await transport.again(attempt)


def _removed(part: Path) -> None:
    """Take away what is left of a file, without hiding why it is."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Return the name under which a file is written until it is whole."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


async def _written(chunks: AsyncGenerator[bytes, None], picture: Picture, path: Path) -> Saved:
    """Write the chunks beside `path`, check them, and put the file in place."""
    part = _part(path)
    try:
        digest, head, count = hashlib.sha256(), b"", 0
        with part.open("wb") as file:
            async with aclosing(chunks):
                async for chunk in chunks:
                    digest.update(chunk)
                    head += chunk[: HEAD_BYTES - len(head)]
                    count += len(chunk)
                    file.write(chunk)
            saved = _checked(picture, path, head, digest.hexdigest(), count)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        part.replace(saved.path)
        await asyncio.to_thread(sync_folder, path.parent)
    finally:
        _removed(part)
    return saved


def _checked(picture: Picture, path: Path, head: bytes, digest: str, count: int) -> Saved:
    if picture.sha256 is not None and digest != picture.sha256:
        raise _Torn(f"{path.name}: {count} bytes came, and not those of {picture.job_id}")
    try:
        measured = measure(head)
    except ValueError as error:
        raise _Torn(f"{path.name}: what came is no picture: {error}") from error
    named = path.suffix.lower() in SUFFIXES
    target = path if named else path.with_name(path.name + ENDINGS[measured.mime])
    return Saved(
        path=target,
        sha256=digest,
        bytes=count,
        mime=measured.mime,
        width=measured.width,
        height=measured.height,
    )


def renewed(picture: Picture, fresh: Picture) -> Picture:
    """Return a picture with the link and the digest of a fresh look at its job."""
    return msgspec.structs.replace(picture, link=fresh.link, sha256=fresh.sha256)
