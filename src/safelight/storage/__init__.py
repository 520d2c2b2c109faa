"""The seam to blob stores: pictures under the SHA-256 of their bytes.

A blob is written once and never changed. Implementations: `disk.py`, and `objects.py` for S3 and
its compatibles; `address.py` says which of them a data folder has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Chunk = bytes | bytearray
"""Some bytes of a blob, for whoever gets them: the store keeps no hand on them."""

CHUNK_BYTES = 384 * 1024
"""What `read` yields at once; a multiple of 3, so that each chunk can become base64 by itself.

A chunk and its text stay in a core's own cache. Twice or half as much cost the same CPU; what is
larger costs memory where many answers are sent at once.
"""

Proof = Callable[[int], bool]
"""Reads an open file from its first byte to its last, by `safelight.windows`, and refuses, by an
exception of its own, what is not as it should be. True: no byte can have changed unseen. Blocks; it
is called in a thread."""


@dataclass(frozen=True)
class StoredBlob:
    """A blob as it is listed; `stored_at` in milliseconds since 1970, by the store's clock."""

    digest: str
    bytes: int
    stored_at: int


class BlobStore(Protocol):
    """Durable bytes by digest (lower-case hex SHA-256)."""

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        """Keep the bytes of the file `source` under `digest`, durably, and read them back.

        When this returns, the bytes survive power loss and were read back with that digest.
        What is already there is read back, too, and replaced if it is damaged.

        Args:
            source: stays.
            digest: of its bytes.
            given: whether `source` is never written to again, whatever happens: then its own file
                may become the blob, and is only removed by its owner.
            proof: reads the bytes before they have their name; of a given source it reads them
                back, and where it says False the digest is compared as well.

        Raises:
            StorageError: no space, no access, or the bytes read back have another digest.
            Exception: whatever `proof` raises; nothing was kept then.
        """
        ...

    def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AsyncIterator[Chunk]:
        """Yield the blob's bytes from `start`, in chunks of at most `chunk_bytes`.

        Args:
            digest: which blob.
            start: how many bytes are left out.
            length: how many are read; None: all.
            chunk_bytes: a multiple of 3.

        Raises:
            StorageError: there is no such blob, or it cannot be read.
        """
        ...

    async def local_path(self, digest: str) -> Path:
        """Return a local file with the blob's bytes, to read only, soon.

        Raises:
            StorageError: there is no such blob.
        """
        ...

    async def exists(self, digest: str) -> bool:
        """Return whether the blob is there.

        Raises:
            StorageError: the store does not say.
        """
        ...

    async def delete(self, digest: str) -> None:
        """Remove the blob's bytes; nothing happens where there is none.

        Raises:
            StorageError: it is not known whether they are gone.
        """
        ...

    def stored(self) -> AsyncIterator[StoredBlob]:
        """Yield what is stored, in no order; what changes meanwhile may be listed or not.

        Raises:
            StorageError: the store does not say.
        """
        ...

    async def presigned(self, digest: str, *, seconds: int) -> str | None:
        """Return an address that gives the blob to whoever has it, for so long.

        None where the store has none: the gateway then sends the bytes itself.

        Raises:
            StorageError: it cannot be signed.
        """
        ...

    async def claim(self, owner: str) -> str:
        """Return whose store it is; the first to ask says so, for good.

        Raises:
            StorageError: the store does not answer.
        """
        ...

    async def free_bytes(self) -> int:
        """Return how many more bytes can be kept (for the admission watermark)."""
        ...

    def close(self) -> None:
        """Finish what runs, and let go of threads and connections."""
        ...
