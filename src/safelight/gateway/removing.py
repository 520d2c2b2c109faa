"""Removing bytes that no row names, and making sure that rows only name bytes that are there.

Owns who counts as naming a blob, and the steps of a
removal: condemned in a transaction, removed from the store, over. The rule behind it is in
`removals`. Who lets go of a picture, and when, is `retention`'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from safelight import files, images, lifetimes, removals
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.errors import StorageError, Unavailable
from safelight.gateway.input_marks import InputMarks
from safelight.gateway.parts import Parts
from safelight.storage import BlobStore
from safelight.types import ImageRequest

log = logging.getLogger("safelight.storage")

PAGE = 100
"""Most blobs that are condemned in one transaction."""
PROMPT_S = 60.0
"""Bytes are removed at once after they were condemned, or, after a pause, not at all: meanwhile
another process may have begun anew, and the bytes may have been kept again."""


def blobs_in_use(tx: Transaction, digests: Collection[str]) -> set[str]:
    """Return those of the digests whose bytes a row needs: of a picture, an input or a file."""
    return lifetimes.blobs_in_use(tx, digests) | files.blobs_in_use(tx, digests)


async def keep_input(
    parts: Parts, path: Path, digest: str, proof: images.InputProof, *, given: bool = True
) -> None:
    """Keep a caller's picture, so that an order may name it.

    Args:
        parts: rooms below.
        path: its bytes.
        digest: of these.
        proof: verifies them as they are read back.
        given: whether nobody writes to that file any more, so that it may become the blob.

    Raises:
        InvalidImage: the proof refuses it.
        StorageError: it cannot be kept.
        Unavailable: the database does not answer.
    """
    mark = await parts.db.read(lambda tx: removals.mark_of(tx, digest))
    await parts.storage.put(path, digest, given=given, proof=proof)
    parts.marks.note(digest, mark)


def inputs_of(request: ImageRequest) -> list[str]:
    """Return the digests of the pictures that a request brings along, each once."""
    given = [ref.digest for ref in request.inputs]
    if request.mask is not None:
        given.append(request.mask.digest)
    return sorted(set(given))


def claim_inputs(tx: Transaction, request: ImageRequest, marks: InputMarks) -> None:
    """Make sure that the inputs of an order are there; before anything of it is written.

    Raises:
        Unavailable: one was removed since it was kept; the retry of the request keeps it again.
    """
    try:
        for digest in inputs_of(request):
            removals.claim(tx, digest, mark=marks.of(digest), in_use=blobs_in_use)
    except removals.Going:
        raise Unavailable(
            "A picture of the request has just been deleted here; nothing was charged. Send the "
            "request again.",
            code="input_deleted",
            retry_after_s=1,
            should_retry=True,
        ) from None


class Removing:
    """Removes for one process.

    Args:
        parts: rooms below.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def remove(self, digest: str) -> None:
        """Remove the bytes of one blob now, if no row names them."""
        parts = self._parts
        await remove_these(parts.db, parts.storage, parts.clock, [digest], mark=parts.new_id("rm"))

    async def work(self) -> int:
        """Remove the bytes of all that may go now; return of how many."""
        parts, removed = self._parts, 0
        while True:
            mark = parts.new_id("rm")
            done, more = await remove_page(parts.db, parts.storage, parts.clock, mark=mark)
            removed += done
            if not more:
                return removed


async def remove_page(
    db: Database, store: BlobStore, clock: Clock, *, mark: str
) -> tuple[int, bool]:
    """Remove the bytes of some that may go now; return of how many, and whether there may be more.

    Args:
        db: the database.
        store: the bytes.
        clock: says when it has taken too long.
        mark: a new one.
    """
    digests = await db.read(lambda tx: removals.due(tx, limit=PAGE))
    if not digests:
        return 0, False
    removed = await remove_these(db, store, clock, digests, mark=mark)
    return removed, len(digests) == PAGE


async def remove_these(
    db: Database, store: BlobStore, clock: Clock, digests: list[str], *, mark: str
) -> int:
    """Remove the bytes of those that are wanted to go and that no row names; return of how many."""
    going = await db.write(lambda tx: removals.condemn(tx, digests, mark=mark, in_use=blobs_in_use))
    until, gone = clock.monotonic() + PROMPT_S, []
    for digest in going:
        if clock.monotonic() > until:
            break  # what was begun and not finished is begun anew, later, by whoever looks
        try:
            await store.delete(digest)
        except StorageError:
            # The request may still take effect: nobody may rely on the bytes meanwhile.
            log.exception("blob not removed", extra={"digest": digest})
            continue
        gone.append(digest)
    await db.write(lambda tx: removals.finish(tx, gone, mark=mark))
    return len(gone)
