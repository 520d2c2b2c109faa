"""Blobs in a bucket: `ab/<digest>`, kept once, read back before they are promised.

Owns the same promise that the disk store gives, over a network: the source is hashed, written
unless it is there, read back as a reader would and hashed again. An object appears whole or not at
all, so one under its digest is never half written. Files that must be local are fetched into a
bounded cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from safelight.errors import StorageError
from safelight.storage import CHUNK_BYTES, Proof, StoredBlob
from safelight.storage.bucket import Bucket
from safelight.storage.cache import CacheFolder
from safelight.storage.disk import translated

CACHE_BYTES = 2 * 1024**3
AT_ONCE = 8
"""Pictures that are put at one time: each holds up to three parts of 5 MiB."""
SWEEP_S = 60.0
_OWNER_KEY = "safelight-owner"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)


class ObjectStore:
    """A `BlobStore` in a bucket. Any number of processes may use one at the same time.

    Args:
        bucket: where the objects are.
        cache: where local copies are.
    """

    def __init__(self, bucket: Bucket, cache: CacheFolder) -> None:
        self._bucket = bucket
        self._cache = cache
        self._puts = asyncio.Semaphore(AT_ONCE)
        self._swept_at = float("-inf")

    def __repr__(self) -> str:
        return f"ObjectStore({self._bucket!r})"

    async def put(
        self,
        source: Path,
        digest: str,
        *,
        given: bool = False,  # noqa: ARG002
        proof: Proof | None = None,
    ) -> None:
        """Keep the bytes of the file `source` under `digest`, durably, and read them back.

        A blob that is there is read back too, and not written again; a damaged one is replaced.
        `proof` reads the source; the object is read back by its digest. Given or not, the source is
        sent as it is.

        Raises:
            StorageError: the store refuses, or the bytes read back have another digest.
            Exception: whatever `proof` raises.
        """
        key = _key(digest)
        if proof is not None:
            await asyncio.to_thread(_proven, source, proof)
        size, found, media_type = await asyncio.to_thread(_look_at, source, digest)
        if found != digest:
            raise StorageError(f"The bytes read back as {found}, not as {digest}.")
        async with self._puts:
            there = await self._size_of(key)
            if there == size and await self._bucket.digest_of(key) == digest:
                return
            await self._bucket.upload(key, source, media_type=media_type, create=there is None)
            back = await self._bucket.digest_of(key)
            if back != digest:
                # Somebody else's damage may have been there first: write over it, once.
                await self._bucket.upload(key, source, media_type=media_type, create=False)
                back = await self._bucket.digest_of(key)
        if back != digest:
            raise StorageError(f"The bytes read back as {back}, not as {digest}.")

    async def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AsyncIterator[bytes]:
        """Yield the blob's bytes in chunks of at most `chunk_bytes`, from `start`.

        What is asked for at a time is three chunks: a request to a store is slow.

        Raises:
            StorageError: there is no such blob, or it cannot be read.
            ValueError: `start` or `length` is negative.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"a blob has no range of {length} bytes from {start}")
        key = _key(digest)
        window = 3 * chunk_bytes
        while length is None or length > 0:
            wanted = window if length is None else min(window, length)
            try:
                data = await self._bucket.read(key, start, wanted)
            except FileNotFoundError as error:
                raise _missing(digest) from error
            for at in range(0, len(data), chunk_bytes):
                yield data[at : at + chunk_bytes]
            if len(data) < wanted:
                return
            start += len(data)
            length = None if length is None else length - len(data)

    async def local_path(self, digest: str) -> Path:
        """Return a local copy of the blob, to read within a quarter of an hour.

        Raises:
            StorageError: there is no such blob, or no room for it here.
        """
        _key(digest)
        path = await asyncio.to_thread(self._cache.find, digest)
        if path is not None:
            return path
        await self._sweep_cache()
        incoming = await asyncio.to_thread(self._cache.begin, digest)
        try:
            async for chunk in self.read(digest):
                await asyncio.to_thread(incoming.write, chunk)
            return await asyncio.to_thread(incoming.commit)
        finally:
            incoming.close()

    async def exists(self, digest: str) -> bool:
        """Return whether the blob is there.

        Raises:
            StorageError: `digest` is none, or the store does not say.
        """
        return await self._size_of(_key(digest)) is not None

    async def delete(self, digest: str) -> None:
        """Remove the object and this machine's copy of it.

        Raises:
            StorageError: it is not known whether they are gone.
        """
        await self._bucket.delete(_key(digest))
        await asyncio.to_thread(self._cache.remove, digest)

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """Yield what the bucket lists.

        Raises:
            StorageError: the store does not say.
        """
        async for one in self._bucket.objects():
            digest = one.key.rpartition("/")[2]
            if _DIGEST.fullmatch(digest) and one.key == _key(digest):
                yield StoredBlob(digest, one.bytes, one.changed_at)

    async def presigned(self, digest: str, *, seconds: int) -> str | None:
        """Return an address that gives the blob by GET for so long.

        It dies with the credentials that sign it, if theirs is the shorter life.

        Raises:
            StorageError: there is nothing to sign with.
        """
        return await self._bucket.presigned(_key(digest), seconds=seconds)

    async def claim(self, owner: str) -> str:
        """Return whose store it is; the first to ask says so.

        Raises:
            StorageError: the store does not answer.
        """
        for _ in range(2):
            try:
                return (await self._bucket.read(_OWNER_KEY, 0, 1000)).decode().strip()
            except FileNotFoundError:
                await self._bucket.create(_OWNER_KEY, f"{owner}\n".encode())
        raise StorageError("The mark of the store's owner was written and is not there.")

    async def free_bytes(self) -> int:
        """Return how many bytes the disk of the local copies has left: a bucket has no end."""
        return await asyncio.to_thread(self._cache.free_bytes)

    def close(self) -> None:
        """Do nothing: connections end by themselves."""

    async def _size_of(self, key: str) -> int | None:
        return await self._bucket.size_of(key)

    async def _sweep_cache(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept_at > SWEEP_S:
            self._swept_at = now
            await asyncio.to_thread(self._cache.sweep)


def _key(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise StorageError(f"{digest!r} is no digest of 64 lower-case hex digits.")
    return f"{digest[:2]}/{digest}"


def _missing(digest: str) -> StorageError:
    return StorageError(f"There is no blob {digest}.")


def _proven(source: Path, proof: Proof) -> None:
    with translated("read the picture to keep"), source.open("rb", buffering=0) as file:
        proof(file.fileno())


def _look_at(source: Path, digest: str) -> tuple[int, str, str]:
    """Return a file's size, its digest, and the type that its first bytes say."""
    with translated(f"keep blob {digest}"), source.open("rb") as file:
        start = file.read(16)
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    for magic, media_type in _MAGIC:
        if magic.match(start):
            return size, found, media_type
    return size, found, "application/octet-stream"
