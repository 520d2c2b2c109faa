"""The vendor's own file beside pixels that were made of it: kept, and named in the settling commit.

Owns what is kept and how; `lifetimes` has the rows. An original is worth keeping because the vendor
signed it (C2PA) and new pixels end that signature. It is no part of the order: where it cannot be
kept the picture is delivered all the same, and its digest stands in the receipt.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from safelight import images, lifetimes, removals
from safelight.db import Transaction
from safelight.errors import InvalidImage, StorageError
from safelight.gateway.parts import Parts
from safelight.gateway.removing import blobs_in_use
from safelight.types import BlobRef, Received

log = logging.getLogger("safelight.storage")


class Originals:
    """The original of one job's picture, if it has one that is kept.

    Args:
        parts: rooms below.
    """

    __slots__ = ("_kept", "_mark", "_parts")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept: BlobRef | None = None
        self._mark = ""

    async def keep(self, received: Received, job_id: str) -> None:
        """Keep an answer of which other pixels were made, if the operator wants such ones kept."""
        wanted = self._parts.retention.originals
        self._kept = None
        if wanted == "none":
            return
        try:
            if wanted == "signed" and not await asyncio.to_thread(images.signed, received.path):
                return
            found = await asyncio.to_thread(images.describe, Path(received.path))
            self._mark = await self._parts.read(
                lambda tx: removals.mark_of(tx, found.digest), job_id=job_id
            )
            await self._parts.storage.put(received.path, found.digest, given=True)
        except (InvalidImage, StorageError, OSError):
            log.warning("original not kept", exc_info=True, extra={"job_id": job_id})
            return
        self._kept = found

    def claim(self, tx: Transaction, digest: str, *, mark: str | None) -> bool:
        """Claim a picture's bytes, and its original's; return whether the original is there.

        In the order of their digests, as `removals.claim` wants it.

        Raises:
            removals.Going: the picture's bytes are not; nothing was written.
        """
        before = self._kept is not None and self._kept.digest < digest
        there = before and self._is_there(tx)
        removals.claim(tx, digest, mark=mark, in_use=blobs_in_use)
        return there if before else self._is_there(tx)

    def note(self, tx: Transaction, image_id: str) -> None:
        """Name the kept original beside its picture."""
        assert self._kept is not None, "claimed before"
        lifetimes.keep_original(tx, image_id, self._kept)

    def _is_there(self, tx: Transaction) -> bool:
        if self._kept is None:
            return False
        try:
            removals.claim(tx, self._kept.digest, mark=self._mark, in_use=blobs_in_use)
        except removals.Going:
            return False  # somebody lets the same bytes go at this moment; the picture goes on
        return True
