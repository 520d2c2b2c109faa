"""Keeping pictures, or letting them go: pins, deletion on request, expiry, and what nobody names.

Owns when a row lets go of its bytes. A row always lets go first, in a transaction that also notes
the bytes as to be removed; then `removing` removes them unless another row names them. So a process
that dies in between leaves nothing behind that the next one would not find.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from safelight import (
    customers,
    destinations,
    image_lists,
    installations,
    jobs,
    lifetimes,
    removals,
)
from safelight.config import RetentionConfig
from safelight.db import Transaction
from safelight.errors import Gone, InvalidRequest, InvalidValue, NotFound, StorageError
from safelight.gateway.parts import Parts
from safelight.gateway.removing import Removing, blobs_in_use
from safelight.types import ImageFormat, ImageRecord

log = logging.getLogger("safelight.storage")

SWEEP_S = 60.0
PAGE = 200
"""Most rows that let go in one transaction."""
STRAYS_EVERY_S = 86_400.0
"""How often the whole store is listed, over all processes."""
Noted = Callable[[Transaction, ImageRecord, ImageRecord], None]
"""Is told, in the transaction that changes a picture, of it before and after."""
NO_IMAGE = "No image has this id, or its link has expired."


class Original(NamedTuple):
    """The vendor's own file, kept beside a picture that was made of it."""

    digest: str
    bytes: int
    format: ImageFormat


class Retention:
    """Keeps and lets go for one process.

    Args:
        parts: rooms below.
        config: how long.
        removing: removes bytes.
    """

    def __init__(self, parts: Parts, config: RetentionConfig, removing: Removing) -> None:
        self._parts = parts
        self._config = config
        self._removing = removing

    # --- for customers -------------------------------------------------------------------------

    async def image(self, customer_id: str, image_id: str) -> ImageRecord:
        """Return a customer's picture.

        Raises:
            NotFound: none of this customer has the id.
            Gone: it was deleted or has expired.
        """
        return await self._parts.db.read(lambda tx: _own(tx, customer_id, image_id))

    async def page(
        self, wanted: image_lists.Wanted, *, after: str | None, limit: int
    ) -> image_lists.Page:
        """Return pictures of a customer, newest first, behind the picture `after`.

        Raises:
            InvalidValue: `after` is no picture of this customer.
        """
        try:
            return await self._parts.db.read(
                lambda tx: image_lists.page(tx, wanted, after=after, limit=limit)
            )
        except LookupError:
            message = "'after' must be the id of one of your pictures."
            raise InvalidValue(message, param="after") from None

    async def pin(
        self, customer_id: str, image_id: str, *, noted: Noted | None = None
    ) -> ImageRecord:
        """Keep a picture until it is unpinned, and carry it to the customer's bucket if it has one.

        Raises:
            NotFound: none of this customer has the id.
            Gone: it was deleted or has expired.
        """

        def work(tx: Transaction) -> ImageRecord:
            before = _own(tx, customer_id, image_id)
            lifetimes.pin(tx, customer_id, image_id)
            if destinations.of_customer(tx, customer_id) is not None:
                destinations.carry(tx, customer_id, image_id)
            return _changed(tx, before, noted)

        return await self._parts.db.write(work)

    async def unpin(
        self, customer_id: str, image_id: str, *, noted: Noted | None = None
    ) -> ImageRecord:
        """Let a picture expire again, as late from now as a new one would.

        Raises:
            NotFound: none of this customer has the id.
            Gone: it was deleted or has expired.
        """

        def work(tx: Transaction) -> ImageRecord:
            found = _own(tx, customer_id, image_id)
            keep_s = self._config.keep_s(found.link_ttl_s) or 0
            lifetimes.unpin(tx, customer_id, image_id, keep_s=keep_s)
            return _changed(tx, found, noted)

        return await self._parts.db.write(work)

    async def delete(self, customer_id: str, image_id: str, *, noted: Noted | None = None) -> None:
        """Delete a picture: its bytes are gone when this returns, unless another row names them.

        Where the store does not answer now they go as soon as it does. To delete what is deleted
        changes nothing.

        Raises:
            NotFound: none of this customer has the id.
        """

        def work(tx: Transaction) -> list[str]:
            before = jobs.get_image(tx, image_id)
            try:
                digest = lifetimes.delete(tx, customer_id, image_id, "requested")
            except LookupError:
                raise NotFound(NO_IMAGE) from None
            if digest is not None and before is not None:
                _changed(tx, before, noted)
            going = [] if digest is None else [digest]
            going += lifetimes.originals_of_deleted(tx, going)
            removals.want(tx, going)
            return going

        for digest in await self._parts.db.write(work):
            await self._removing.remove(digest)

    async def original(self, customer_id: str, image_id: str) -> Original:
        """Return the vendor's own file that a customer's picture was made of.

        Raises:
            NotFound: none of this customer has the id, or no such file is kept.
            Gone: the picture was deleted or has expired.
        """

        def look(tx: Transaction) -> Original:
            _own(tx, customer_id, image_id)
            found = lifetimes.original_of(tx, image_id)
            if found is None:
                raise NotFound(
                    "No other file is kept of this picture: it was delivered as the vendor made "
                    "it, or its original was not signed. The receipt of its job has the digest.",
                    param="id",
                )
            return Original(*found)

        return await self._parts.db.read(look)

    async def end_links(self, customer_id: str) -> None:
        """End every link of a customer that was signed until now; pictures stay, new links work."""
        await self._parts.db.write(lambda tx: customers.raise_link_epoch(tx, customer_id))

    # --- by itself -----------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Let go what is over and remove what nobody names; return how many blobs were removed."""
        while await self._parts.db.write(self._let_go) >= PAGE:
            pass
        removed = await self._removing.work()
        if self._config.strays_s and await self._parts.db.write(_begin_strays):
            removed += await self.sweep_strays()
        if removed:
            log.info("blobs removed", extra={"blobs": removed})
        return removed

    def _let_go(self, tx: Transaction) -> int:
        config = self._config
        digests = lifetimes.expire(tx, limit=PAGE)
        inputs = lifetimes.let_go_inputs(
            tx, keep_s=config.inputs_s, keep_failed_s=config.failed_inputs_s, limit=PAGE
        )
        removals.want(tx, digests + inputs + lifetimes.originals_of_deleted(tx, digests))
        removals.forget(tx)
        return max(len(digests), len(inputs))

    async def sweep_strays(self) -> int:
        """Remove bytes that no row names, such as inputs of orders that were refused.

        Returns:
            How many blobs were removed.
        """
        if not await self._is_ours():
            return 0
        before_ms = self._parts.clock.now_ms() - round(self._config.strays_s * 1000)
        page: list[str] = []
        try:
            async for blob in self._parts.storage.stored():
                if blob.stored_at <= before_ms:
                    page.append(blob.digest)
                if len(page) >= PAGE:
                    await self._want_unnamed(page)
                    page = []
        except StorageError:
            log.exception("the store cannot be listed")
        await self._want_unnamed(page)
        return await self._removing.work()

    async def _want_unnamed(self, digests: list[str]) -> None:
        named = await self._parts.db.read(lambda tx: blobs_in_use(tx, digests))
        strays = set(digests) - named
        if strays:
            await self._parts.db.write(lambda tx: removals.want(tx, strays))

    async def _is_ours(self) -> bool:
        """Return whether the store is this installation's; in no other is there any stray."""
        known = await self._parts.db.read(installations.known)
        if known is None:
            return False
        try:
            owner = await self._parts.storage.claim(known[0])
        except StorageError:
            log.exception("the store's mark cannot be read")
            return False
        if owner != known[0]:
            log.error("the store belongs to another installation", extra={"owner": owner})
        return owner == known[0]


def note_settled(tx: Transaction, *, customer_id: str, request_id: str, image_id: str) -> None:
    """Have a picture carried to its customer's own bucket, in the transaction that settles it."""
    destinations.note_picture(tx, customer_id=customer_id, request_id=request_id, image_id=image_id)


def wish(tx: Transaction, *, customer_id: str, request_id: str) -> None:
    """Note that an order's pictures are to be carried to the customer's own bucket.

    Raises:
        InvalidRequest: the customer has none.
    """
    if destinations.of_customer(tx, customer_id) is None:
        raise InvalidRequest(
            "This account has no bucket of its own to persist to; ask your operator to set one, or "
            "leave 'persist' out.",
            code="no_destination",
            param="persist",
        )
    destinations.wish(tx, request_id)


def refuse_gone(records: list[ImageRecord]) -> None:
    """Refuse to hand out again what is gone.

    Raises:
        Gone: one of them was deleted or has expired.
    """
    if any(one.deleted_at is not None for one in records):
        raise Gone(
            "The picture of this order was deleted or has expired. The order stays as it is; send "
            "a new one, without this Idempotency-Key, for a new picture."
        )


def _changed(tx: Transaction, before: ImageRecord, noted: Noted | None) -> ImageRecord:
    after = jobs.get_image(tx, before.id)
    assert after is not None, "rows of pictures stay"
    if noted is not None:
        noted(tx, before, after)
    return after


def _own(tx: Transaction, customer_id: str, image_id: str) -> ImageRecord:
    found = jobs.get_image(tx, image_id)
    if found is None or found.customer_id != customer_id:
        raise NotFound(NO_IMAGE)
    if found.deleted_at is not None:
        raise Gone("This picture was deleted, or its time is over. Order a new one.")
    return found


def _begin_strays(tx: Transaction) -> bool:
    return installations.begin_round(tx, "strays", not_within_s=STRAYS_EVERY_S)
