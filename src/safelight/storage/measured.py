"""A blob store that counts: how long its operations take, and which of them fail.

Owns nothing but the watch; what is stored where is the store's business that stands behind it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from safelight.errors import StorageError
from safelight.metrics import Metrics
from safelight.storage import CHUNK_BYTES, BlobStore, Chunk, Proof, StoredBlob


class MeasuredStore:
    """A store (see `safelight.storage.BlobStore`) before another one.

    Args:
        store: does the work.
        metrics: counts.
    """

    def __init__(self, store: BlobStore, metrics: Metrics) -> None:
        self.store = store
        self._metrics = metrics

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        """Keep bytes; a picture that its proof refuses is no failure of the store."""
        with self._measured("put"):
            await self.store.put(source, digest, given=given, proof=proof)

    def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AsyncIterator[Chunk]:
        """Yield bytes; what is measured is the time to the first of them."""
        chunks = self.store.read(digest, start=start, length=length, chunk_bytes=chunk_bytes)
        return _Reading(chunks, self)

    async def local_path(self, digest: str) -> Path:
        """Return a local file with the bytes."""
        with self._measured("local_path"):
            return await self.store.local_path(digest)

    async def exists(self, digest: str) -> bool:
        """Return whether the blob is there."""
        with self._measured("exists"):
            return await self.store.exists(digest)

    async def delete(self, digest: str) -> None:
        """Remove the bytes."""
        with self._measured("delete"):
            await self.store.delete(digest)

    def stored(self) -> AsyncIterator[StoredBlob]:
        """Yield what is stored; it lasts as long as there is something, and is not measured."""
        return self.store.stored()

    async def presigned(self, digest: str, *, seconds: int) -> str | None:
        """Return an address at the store itself."""
        with self._measured("presigned"):
            return await self.store.presigned(digest, seconds=seconds)

    async def claim(self, owner: str) -> str:
        """Return whose store it is."""
        return await self.store.claim(owner)

    async def free_bytes(self) -> int:
        """Return how many more bytes can be kept."""
        return await self.store.free_bytes()

    def close(self) -> None:
        """Close the store behind."""
        self.store.close()

    def note(self, operation: str, began: float) -> None:
        """Count an operation that went well, begun then by `time.perf_counter`."""
        self._metrics.blob.observe(time.perf_counter() - began, operation)

    def note_failure(self, operation: str) -> None:
        """Count an operation that the store failed."""
        self._metrics.blob_failures.add(operation)

    @contextmanager
    def _measured(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (StorageError, OSError):
            self.note_failure(operation)
            raise
        self.note(operation, began)


class _Reading:
    """A blob's chunks, handed on as they come; the first one is timed."""

    def __init__(self, chunks: AsyncIterator[Chunk], measured: MeasuredStore) -> None:
        self._chunks = chunks
        self._measured = measured
        self._began: float | None = time.perf_counter()

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await anext(self._chunks)
        except (StorageError, OSError):
            self._measured.note_failure("read")
            raise
        if self._began is not None:
            self._measured.note("read", self._began)
            self._began = None
        return chunk

    async def aclose(self) -> None:
        """Let go of the blob before its end."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()
