"""The seam to blob stores: pictures under the SHA-256 of their bytes.

A blob is written once and never changed. Implementations: `storage/disk.py` (an object store
later).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Durable bytes by digest (lower-case hex SHA-256)."""

    async def put(self, source: Path, digest: str) -> None:
        """Keep a copy of the file `source` under `digest`, durably, and read it back.

        When this returns, the bytes survive power loss and were read back with that digest.
        What is already there is read back, too, and replaced if it is damaged. `source` stays.

        Raises:
            StorageError: no space, no access, or the bytes read back have another digest.
        """
        ...

    def read(
        self, digest: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the blob's bytes in chunks of at most 768 KiB (a multiple of 3), from `start`.

        Raises:
            StorageError: there is no such blob, or it cannot be read.
        """
        ...

    async def local_path(self, digest: str) -> Path:
        """Return a local file with the blob's bytes, to read only.

        Raises:
            StorageError: there is no such blob.
        """
        ...

    async def exists(self, digest: str) -> bool:
        """Return whether the blob is there."""
        ...

    async def free_bytes(self) -> int:
        """Return how many more bytes can be kept (for the admission watermark)."""
        ...
