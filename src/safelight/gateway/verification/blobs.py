"""Image rows against the store: are picture and kept original there, do they have their bytes?

Looks outside of any snapshot, at a few blobs at a time. What the store cannot read just now is
counted, not reported: only what it reads and what it says is not there can contradict a row.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from safelight.db import Database, Row
from safelight.errors import StorageError
from safelight.gateway.verification.findings import Check, Finding, found
from safelight.storage import BlobStore

AT_ONCE = 2
"""Blobs looked at together: the store serves customers beside it."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Kind:
    """One of the blobs that an image row may name: its columns, and what can be wrong with it."""

    digest: str
    bytes: str
    missing: Check
    damaged: Check


_KINDS = (
    _Kind("digest", "bytes", Check.BLOB_MISSING, Check.BLOB_DAMAGED),
    _Kind("original_digest", "original_bytes", Check.ORIGINAL_MISSING, Check.ORIGINAL_DAMAGED),
)


class BlobLook:
    """Compares blobs with their image rows, and counts."""

    def __init__(self, db: Database, store: BlobStore) -> None:
        self.findings: list[Finding] = []
        self.looked_at = self.hashed = self.hashed_bytes = self.unread = 0
        self._db = db
        self._store = store
        self._now_ms = 0

    async def look(self, rows: Collection[Row], *, to_hash: Collection[str]) -> None:
        """Look for the blobs of each image row; read and hash those of the images in `to_hash`.

        Of a picture that was deleted, or whose time is over, none is looked for.
        """
        self._now_ms = await self._db.read(lambda tx: tx.now_ms)
        waiting = [
            (row, kind)
            for row in rows
            for kind in _KINDS
            if row[kind.digest] is not None and not _may_be_gone(row, self._now_ms)
        ]
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(waiting, to_hash))

    async def _work(self, waiting: list[tuple[Row, _Kind]], to_hash: Collection[str]) -> None:
        while waiting:
            row, kind = waiting.pop()
            self.looked_at += 1
            try:
                fault = await self._compare(row, kind, hashed=row["id"] in to_hash)
            except StorageError:
                self.unread += 1
                continue
            if fault is not None and await self._still_said(row, kind):
                self.findings.append(fault)

    async def _compare(self, row: Row, kind: _Kind, *, hashed: bool) -> Finding | None:
        digest, size = row[kind.digest], row[kind.bytes]
        if not _DIGEST.fullmatch(digest) or not await self._store.exists(digest):
            return _of(row, kind.missing, f"no blob {digest}", f"{size} bytes")
        if not hashed:
            return None
        real, length = hashlib.sha256(), 0
        async for chunk in self._store.read(digest):
            await asyncio.to_thread(real.update, chunk)
            length += len(chunk)
        self.hashed += 1
        self.hashed_bytes += length
        if (real.hexdigest(), length) == (digest, size):
            return None
        stored = f"{length} bytes with SHA-256 {real.hexdigest()}"
        return _of(row, kind.damaged, stored, f"{size} bytes with SHA-256 {digest}")

    async def _still_said(self, row: Row, kind: _Kind) -> bool:
        """Read the row again: the store was looked at after its snapshot."""
        said = await self._db.read(
            lambda tx: tx.one(
                "SELECT digest, original_digest, deleted_at FROM image WHERE id = :id",
                {"id": row["id"]},
            )
        )
        if said is None or said["deleted_at"] is not None:
            return False
        return bool(said[kind.digest] == row[kind.digest])


def _may_be_gone(row: Row, now_ms: int) -> bool:
    """Return whether a picture's bytes were let go, or may be at any moment."""
    if row["deleted_at"] is not None:
        return True
    over = row["expires_at"] is not None and row["expires_at"] <= now_ms
    return over and row["pinned_at"] is None


def _of(row: Row, check: Check, stored: str, expected: str) -> Finding:
    return found(check, row["customer_id"], row["id"], stored=stored, expected=expected)
