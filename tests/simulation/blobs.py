"""A blob store in virtual time: pictures in memory, slow and failing as the seed says.

One `Shelf` is what survives; each process has a `SimulatedStore` of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from safelight.errors import StorageError
from safelight.storage import CHUNK_BYTES, Proof, StoredBlob
from safelight.storage.disk import translated
from simulation.lives import nevermore
from simulation.weather import Weather

ROOM = 10**12


class Shelf:
    """What is kept.

    Args:
        folder: where files are made of blobs that are asked for as files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs: dict[str, bytes] = {}
        self.owner = ""


class SimulatedStore:
    """One process's way to the shelf (see `safelight.storage.BlobStore`).

    Args:
        shelf: what all processes share.
        die: ends the process, and says where.
        weather: what goes wrong.
        rng: draws latencies.
    """

    def __init__(
        self, shelf: Shelf, die: Callable[[str], None], weather: Weather, rng: random.Random
    ) -> None:
        self._shelf = shelf
        self._die = die
        self._weather = weather
        self._rng = rng

    async def put(
        self,
        source: Path,
        digest: str,
        *,
        given: bool = False,  # noqa: ARG002
        proof: Proof | None = None,
    ) -> None:
        slow = self._weather.lasts("store-slow")
        await asyncio.sleep(self._rng.uniform(1, 20) if slow else self._rng.uniform(0.001, 0.02))
        if self._weather.lasts("store-failing"):
            raise StorageError("No access.")
        with translated("keep a blob"), source.open("rb", buffering=0) as file:
            if proof is not None:
                proof(file.fileno())
            data = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
        read_back = data[:-1] if self._weather.strikes("misread-blob") else data
        found = hashlib.sha256(read_back).hexdigest()
        if found != digest:
            raise StorageError(f"The bytes read back as {found}, not as {digest}.")
        self._shelf.blobs[digest] = data
        if self._weather.strikes("die-after-put"):
            self._die("after a put")
            await nevermore()

    async def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,  # noqa: ARG002
    ) -> AsyncIterator[bytes]:
        data = self._blob(digest)
        yield data[start : None if length is None else start + length]

    async def local_path(self, digest: str) -> Path:
        path = self._shelf.folder / digest
        path.write_bytes(self._blob(digest))
        return path

    async def exists(self, digest: str) -> bool:
        return digest in self._shelf.blobs

    async def delete(self, digest: str) -> None:
        await asyncio.sleep(self._rng.uniform(0.001, 0.02))
        if self._weather.lasts("store-failing"):
            raise StorageError("No access.")
        self._shelf.blobs.pop(digest, None)

    async def stored(self) -> AsyncIterator[StoredBlob]:
        for digest, data in sorted(self._shelf.blobs.items()):
            yield StoredBlob(digest, len(data), 0)

    async def presigned(self, digest: str, *, seconds: int) -> str | None:  # noqa: ARG002
        return None

    async def claim(self, owner: str) -> str:
        self._shelf.owner = self._shelf.owner or owner
        return self._shelf.owner

    async def free_bytes(self) -> int:
        return ROOM

    def close(self) -> None:
        return None

    def _blob(self, digest: str) -> bytes:
        if digest not in self._shelf.blobs:
            raise StorageError(f"There is no blob {digest}.")
        return self._shelf.blobs[digest]
