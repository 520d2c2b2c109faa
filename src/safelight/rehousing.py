"""Moving the pictures of a data folder to another store.

Owns the conditions of a move. Blobs never change and are named by their bytes, so they may be
copied while a gateway serves; only the switch needs that nobody does. A move that was interrupted,
or could not switch, is simply made again: what the target has already is read and hashed there,
not sent again. Which store a data folder has is `storage.address`'s business.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from safelight import files, installations, lifetimes
from safelight.clock import SystemClock
from safelight.db import Database, Transaction
from safelight.errors import ConfigError
from safelight.gateway.process_files import living, starting
from safelight.moving import PROCESSES, refuse_if_alive
from safelight.opening import open_database
from safelight.storage import BlobStore, address
from safelight.storage.opening import open_at

Progress = Callable[[str], None]

_LOST = "pictures are missing in the source"
AT_ONCE = 4
"""Blobs that are copied at one time."""
LISTED_MAX = 1000


class Rehousing(msgspec.Struct, frozen=True, kw_only=True):
    """What a move has done.

    `missing` are digests that the source does not have whole, `switched` whether the data folder
    belongs to the target now, `why_not` what stood in the way.
    """

    source: str
    target: str
    blobs: int
    bytes: int
    missing: tuple[str, ...]
    switched: bool
    why_not: str = ""


async def move_pictures(
    data_dir: Path,
    source_url: str,
    target_url: str,
    *,
    despite_missing: bool = False,
    progress: Progress = lambda _: None,
) -> Rehousing:
    """Copy every blob that the books name to another store, then let the data folder belong to it.

    Args:
        data_dir: whose pictures they are.
        source_url: s3://..., or `file:` for the data folder.
        target_url: the same, and another one.
        despite_missing: switch although the source has lost pictures.
        progress: told what is being done.

    Raises:
        ConfigError: the source is not this folder's, the target is another installation's, or one
            of the two cannot be opened.
        StorageError: a store refuses for good.
    """
    source_url = address.in_one_spelling(source_url, named="--from")
    target_url = address.in_one_spelling(target_url, named="--to")
    if source_url == target_url:
        raise ConfigError("source and target are the same store")
    address.of_folder(data_dir, source_url)
    async with _opened(data_dir, source_url, target_url) as (db, source, target):
        await _check_owner(db, target, source_url, target_url)
        copying = _Copying(source, target, progress)
        await copying.run(await db.read(_named))
        await copying.run(await db.read(_named))  # what came or went meanwhile
        why_not = _LOST
        if despite_missing or not copying.missing:
            why_not = await _switch(data_dir, db, copying, target_url)
    return Rehousing(
        source=address.in_words(source_url),
        target=address.in_words(target_url),
        blobs=copying.blobs,
        bytes=copying.bytes,
        missing=tuple(sorted(copying.missing)[:LISTED_MAX]),
        switched=not why_not,
        why_not=why_not,
    )


@asynccontextmanager
async def _opened(
    data_dir: Path, source_url: str, target_url: str
) -> AsyncIterator[tuple[Database, BlobStore, BlobStore]]:
    db = open_database(data_dir, SystemClock(), check=False)
    source, target = open_at(source_url, data_dir), open_at(target_url, data_dir)
    try:
        yield db, source, target
    finally:
        source.close()
        target.close()
        await db.close()


async def _check_owner(db: Database, target: BlobStore, source_url: str, target_url: str) -> None:
    """Mark the target as this installation's.

    Raises:
        ConfigError: it is another one's, or the books say that their pictures are elsewhere.
    """
    new_id = f"ins_{os.urandom(12).hex()}"
    ours, noted = await db.write(
        lambda tx: installations.identify(tx, new_id=new_id, store=source_url)
    )
    if noted != source_url:
        raise ConfigError(
            f"the pictures of these books are in {address.in_words(noted)}; give that as --from"
        )
    if await target.claim(ours) != ours:
        raise ConfigError(
            f"{address.in_words(target_url)} belongs to another installation; choose another "
            "bucket or prefix"
        )


class _Copying:
    """Carries blobs from one store to another, a few at a time, and counts."""

    def __init__(self, source: BlobStore, target: BlobStore, progress: Progress) -> None:
        self.blobs = self.bytes = 0
        self.missing: list[str] = []
        self.done: set[str] = set()
        self._source = source
        self._target = target
        self._progress = progress

    async def run(self, named: set[str]) -> None:
        """Carry those that were not carried yet."""
        left = iter(sorted(named - self.done))
        total = len(named | self.done)
        # What was deleted meanwhile was not lost.
        self.missing = [digest for digest in self.missing if digest in named]

        async def some() -> None:
            for digest in left:
                await self._carry(digest)
                self._progress(f"pictures: {len(self.done):,} of {total:,}")

        ends = await asyncio.gather(*(some() for _ in range(AT_ONCE)), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _carry(self, digest: str) -> None:
        self.done.add(digest)
        if not await self._source.exists(digest):
            self.missing.append(digest)
            return
        path = await self._source.local_path(digest)
        size = path.stat().st_size
        # Both sides are hashed here: the source's bytes, and what the target gives back.
        await self._target.put(path, digest)
        self.blobs += 1
        self.bytes += size


async def _switch(data_dir: Path, db: Database, copying: _Copying, target_url: str) -> str:
    """Let the data folder belong to the target; return what stands in the way, or nothing."""
    if living(data_dir / PROCESSES):
        return "a gateway serves the data folder: stop it and move again, what is left is little"
    async with starting(data_dir):
        if living(data_dir / PROCESSES):
            return "a gateway serves the data folder: stop it and move again"
        try:
            await refuse_if_alive(db, data_dir)
        except ConfigError as error:
            return str(error)
        # What came while the first copy was made; from here on nothing comes.
        await copying.run(await db.read(_named))
        await db.write(lambda tx: installations.move_store(tx, target_url))
        address.note(data_dir, target_url)
    return ""


def _named(tx: Transaction) -> set[str]:
    return lifetimes.named_blobs(tx) | files.named_blobs(tx)
