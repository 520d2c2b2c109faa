"""Pictures inside answers: base64 woven into JSON, its exact length known before the first byte.

Owns the streaming from storage and from files of partial images; no whole picture is ever in
memory. Which fields surround the picture is the callers' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pybase64

from safelight.api.exchange import Exchange
from safelight.entropy import ENTROPY
from safelight.storage import CHUNK_BYTES, BlobStore, Chunk
from safelight.types import BlobRef

Picture = BlobRef | Path
Segment = bytes | BlobRef | Path


class Weaver:
    """Builds a JSON document with pictures in it.

    `place` gives a string to put into the payload where the picture's base64 belongs; `weave`
    encodes the payload and cuts it there. The strings are random: no caller can send one.
    """

    def __init__(self) -> None:
        self._pictures: dict[bytes, Picture] = {}

    def place(self, picture: Picture) -> str:
        """Return the string that stands for the picture's base64."""
        mark = ENTROPY.token_hex(16)
        self._pictures[mark.encode()] = picture
        return mark

    def weave(self, payload: object) -> list[Segment]:
        """Return `payload` as JSON, in segments; pictures in the order of the document."""
        rest = msgspec.json.encode(payload)
        found = sorted((rest.index(mark), mark) for mark in self._pictures)
        segments: list[Segment] = []
        done = 0
        for position, mark in found:
            segments += [rest[done:position], self._pictures[mark]]
            done = position + len(mark)
        return [*segments, rest[done:]]


def base64_length(size: int) -> int:
    """Return the number of base64 characters of `size` bytes, padding included."""
    return (size + 2) // 3 * 4


def total_length(segments: list[Segment]) -> int:
    """Return the bytes that `write_segments` will write."""
    return sum(_length(segment) for segment in segments)


def _length(segment: Segment) -> int:
    if isinstance(segment, bytes):
        return len(segment)
    size = segment.bytes if isinstance(segment, BlobRef) else segment.stat().st_size
    return base64_length(size)


async def write_segments(
    exchange: Exchange, segments: list[Segment], chunk_bytes: int | None = None
) -> None:
    """Write the segments, pictures as base64.

    Args:
        exchange: whose answer.
        segments: of it.
        chunk_bytes: how much of a picture is read at a time; None: as there is room for it.

    Raises:
        StorageError: a picture cannot be read; the answer is then cut short.
        ClientGone: the caller has hung up.
    """
    if chunk_bytes is None:
        async with exchange.services.sending.place(total_length(segments), begun=True) as chunk:
            await write_segments(exchange, segments, chunk)
        return
    async for piece in pieces_of(exchange.services.storage, segments, chunk_bytes):
        await exchange.write(piece)


async def pieces_of(
    storage: BlobStore, segments: list[Segment], chunk_bytes: int = CHUNK_BYTES
) -> AsyncIterator[bytes]:
    """Yield the bytes of the segments, pictures as base64.

    Args:
        storage: where they are.
        segments: of a document.
        chunk_bytes: how much of a picture is read at a time, a multiple of 3.

    Raises:
        StorageError: a picture cannot be read.
    """
    for segment in segments:
        if isinstance(segment, bytes):
            yield segment
            continue
        if isinstance(segment, BlobRef):
            chunks = storage.read(segment.digest, length=segment.bytes, chunk_bytes=chunk_bytes)
        else:
            chunks = _file_chunks(segment, chunk_bytes)
        async for text in _base64(chunks):
            yield text


async def _base64(chunks: AsyncIterator[Chunk]) -> AsyncIterator[bytes]:
    rest: Chunk = b""
    async for chunk in chunks:
        whole = rest + chunk if rest else chunk
        # Stores yield multiples of 3; a short read must not put padding into the middle.
        cut = len(whole) - len(whole) % 3
        rest = whole[cut:]
        if cut:
            yield pybase64.b64encode(whole[:cut] if rest else whole)
    if rest:
        yield pybase64.b64encode(rest)


async def _file_chunks(path: Path, chunk_bytes: int) -> AsyncIterator[Chunk]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, chunk_bytes):
            yield chunk
    finally:
        file.close()
