"""Files: what customers upload, and what batches leave for them.

Owns the way of an upload from a file on this machine to a durable one, quotas and the end of what
has expired. The bytes are blobs; `files` has the rows. Knows no HTTP, and not what is in a file.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from safelight import files, removals
from safelight.config_batches import FilesConfig
from safelight.db import Transaction
from safelight.errors import InvalidRequest, InvalidValue, NotFound, Unavailable
from safelight.files import FileRow
from safelight.gateway.parts import Parts
from safelight.gateway.removing import blobs_in_use

BATCH_PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"
PAGE = 100
"""Files that expire in one transaction."""


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are kept, and what their file will be called."""

    id: str
    purpose: str
    filename: str
    digest: str
    bytes: int
    mark: str
    """Of the newest removal of the same bytes, before they were kept (`removals`)."""


class Filing:
    """The files of all customers.

    Args:
        parts: rooms below.
        config: quotas and lifetimes.
    """

    def __init__(self, parts: Parts, config: FilesConfig) -> None:
        self._parts = parts
        self._config = config

    async def add(
        self, customer_id: str, path: Path, *, purpose: str, filename: str, keep_s: int | None
    ) -> FileRow:
        """Keep a copy of a local file; when this returns it is durable.

        Args:
            customer_id: whose.
            path: the bytes.
            purpose: what it is for; inputs of batches expire by themselves.
            filename: as its owner calls it.
            keep_s: how long, seconds; None: as long as its purpose says.

        Raises:
            InvalidRequest: `quota_exceeded`: the customer's files would be too large together.
            StorageError: it cannot be kept.
            Unavailable: the same bytes were deleted a moment ago.
        """
        if keep_s is None and purpose == BATCH_PURPOSE:
            keep_s = self._config.keep_s
        size = path.stat().st_size
        used = await self._parts.db.read(lambda tx: files.bytes_of(tx, customer_id))
        self._refuse_beyond_quota(used, size)
        staged = await self.stage(path, purpose=purpose, filename=filename)

        def work(tx: Transaction) -> FileRow:
            self.claim(tx, [staged])
            files.lock(tx, customer_id)
            self._refuse_beyond_quota(files.bytes_of(tx, customer_id), size)
            return self.insert(tx, customer_id, staged, keep_s=keep_s)

        return await self._parts.db.write(work)

    async def stage(self, path: Path, *, purpose: str, filename: str) -> Staged:
        """Keep the bytes of a local file, for a row that is yet to come.

        Raises:
            StorageError: they cannot be kept.
        """
        digest, size = await asyncio.to_thread(_digest_of, path)
        mark = await self._parts.db.read(lambda tx: removals.mark_of(tx, digest))
        await self._parts.storage.put(path, digest)
        return Staged(
            id=self._parts.new_id("file").replace("_", "-"),  # as OpenAI's look
            purpose=purpose,
            filename=filename,
            digest=digest,
            bytes=size,
            mark=mark,
        )

    def claim(self, tx: Transaction, staged: Iterable[Staged]) -> None:
        """Make sure that the bytes are there still; before anything else in the transaction.

        Raises:
            Unavailable: the same bytes were removed meanwhile; they are to be kept anew.
        """
        try:
            for one in sorted(staged, key=lambda one: one.digest):
                removals.claim(tx, one.digest, mark=one.mark, in_use=blobs_in_use)
        except removals.Going:
            raise Unavailable(
                "A file of the same content is just being deleted here; send it again.",
                code="file_deleted",
                retry_after_s=1,
                should_retry=True,
            ) from None

    def insert(
        self, tx: Transaction, customer_id: str, staged: Staged, *, keep_s: int | None
    ) -> FileRow:
        """Give a customer a file whose bytes are kept; what the gateway made has no quota."""
        row = FileRow(
            id=staged.id,
            customer_id=customer_id,
            purpose=staged.purpose,
            filename=staged.filename,
            digest=staged.digest,
            bytes=staged.bytes,
            created_at=tx.now_ms,
            expires_at=None if keep_s is None else tx.now_ms + keep_s * 1000,
        )
        files.insert(tx, row)
        return row

    def _refuse_beyond_quota(self, used: int, size: int) -> None:
        limit = self._config.customer_bytes
        if used + size > limit:
            raise InvalidRequest(
                f"Your files have {used:,} bytes together; with this one they would exceed your "
                f"{limit:,}. Delete files that you need no more (DELETE /v1/files/ID).",
                code="quota_exceeded",
                param="file",
            )

    async def file(self, customer_id: str, file_id: str) -> FileRow:
        """Return a customer's file.

        Raises:
            NotFound: no such file, one that is gone, or another customer's.
        """
        found = await self._parts.db.read(lambda tx: files.get(tx, customer_id, file_id))
        if found is None:
            raise no_such_file(file_id)
        return found

    async def page(
        self,
        customer_id: str,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> tuple[list[FileRow], bool]:
        """Return a customer's files in the order of their making, and whether more follow.

        Raises:
            InvalidValue: `after` is no file of the customer.
        """

        def look(tx: Transaction) -> list[FileRow]:
            return files.page(
                tx,
                customer_id,
                purpose=purpose,
                after=after,
                limit=limit + 1,
                newest_first=newest_first,
            )

        try:
            found = await self._parts.db.read(look)
        except LookupError:
            raise InvalidValue(
                "'after' must be the id of one of your files.", param="after"
            ) from None
        return found[:limit], len(found) > limit

    async def delete(self, customer_id: str, file_id: str) -> None:
        """Delete a customer's file; its bytes go when nothing else needs them.

        Raises:
            NotFound: no such file, or another customer's.
            InvalidRequest: `file_in_use`: a batch reads it.
        """

        def work(tx: Transaction) -> FileRow | None:
            files.lock(tx, customer_id)
            gone = files.delete(tx, customer_id, file_id)
            if gone is not None:
                removals.want(tx, [gone.digest])
            return gone

        try:
            gone = await self._parts.db.write(work)
        except files.InUse:
            raise InvalidRequest(
                "A batch that has not ended reads this file. Cancel the batch, or wait for it.",
                code="file_in_use",
                param="file_id",
            ) from None
        if gone is None:
            raise no_such_file(file_id)

    async def sweep(self) -> int:
        """Delete files whose time is over; return how many."""
        swept = 0
        while True:
            gone = await self._parts.db.write(_expire)
            swept += gone
            if gone < PAGE:
                return swept


def no_such_file(file_id: str) -> NotFound:
    """Return what is said of a file that is not there for this customer."""
    return NotFound(f"No file has the id {file_id!r}. It may have expired.", param="file_id")


def _expire(tx: Transaction) -> int:
    gone = files.expire(tx, limit=PAGE)
    removals.want(tx, [file.digest for file in gone])
    return len(gone)


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
