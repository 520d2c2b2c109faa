"""Many pictures at a look: a customer's, or everybody's, by words of their prompts.

Owns the search. It reads pages of the newest pictures and looks at their prompts here, so that
letters of every script are found in either case on every database; one call looks at a bounded
number and says where the next goes on. Changes nothing.
"""

from __future__ import annotations

import msgspec

from safelight import image_rows
from safelight.db import Row, Transaction
from safelight.types import ImageRecord, ImageRequest, Micros

LOOK = 500
"""Pictures that one statement reads."""
LOOK_MAX = 5000
"""Most pictures that one call looks at."""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A picture with what its job knows."""

    record: ImageRecord
    prompt: str
    channel: str
    price_micros: Micros


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures, newest first. `last_id` is the last one that was looked at, to go on after."""

    found: tuple[Listed, ...]
    last_id: str | None
    has_more: bool


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which pictures: `words` must all be in the prompt, or begin the id or the digest."""

    customer_id: str | None = None
    words: tuple[str, ...] = ()
    pinned: bool | None = None


def words_of(search: str) -> tuple[str, ...]:
    """Return what is looked for."""
    return tuple(search.casefold().split())


def page(tx: Transaction, wanted: Wanted, *, after: str | None, limit: int) -> Page:
    """Return pictures whose bytes are there.

    Raises:
        LookupError: `after` is no picture of the customer.
    """
    at = None if after is None else _place(tx, wanted.customer_id, after)
    found: list[Listed] = []
    looked, last_id = 0, after
    size = LOOK if wanted.words else limit + 1
    while looked < LOOK_MAX:
        rows = _rows(tx, wanted, at, last_id, limit=size)
        for row in rows:
            listed = _listed(row)
            if _matches(listed, wanted.words):
                if len(found) == limit:
                    return Page(found=tuple(found), last_id=last_id, has_more=True)
                found.append(listed)
            at, last_id = row["i_created_at"], row["i_id"]
        looked += len(rows)
        if len(rows) < size:
            return Page(found=tuple(found), last_id=last_id, has_more=False)
    return Page(found=tuple(found), last_id=last_id, has_more=True)


def _place(tx: Transaction, customer_id: str | None, image_id: str) -> int:
    row = tx.one("SELECT created_at, customer_id FROM image WHERE id = :id", {"id": image_id})
    if row is None or customer_id not in (None, row["customer_id"]):
        raise LookupError(image_id)
    return int(row["created_at"])


def _rows(
    tx: Transaction, wanted: Wanted, at: int | None, last_id: str | None, *, limit: int
) -> list[Row]:
    conditions = ["i.deleted_at IS NULL", "i.created_at >= 0"]
    values: dict[str, object] = {"limit": limit}
    if wanted.customer_id is not None:
        conditions.append("i.customer_id = :customer")
        values["customer"] = wanted.customer_id
    if wanted.pinned is not None:
        conditions.append(f"i.pinned_at IS {'NOT ' if wanted.pinned else ''}NULL")
    if at is not None:
        # The first bound is implied by the other; it is what an index can use.
        conditions.append("i.created_at <= :at AND (i.created_at < :at OR i.id < :last)")
        values |= {"at": at, "last": last_id}
    return tx.all(
        f"SELECT j.id, j.customer_id, j.request, j.channel, j.price_micros, {image_rows.COLUMNS} "
        "FROM image i JOIN job j ON j.id = i.job_id JOIN customer c ON c.id = i.customer_id "
        "LEFT JOIN persisting p ON p.image_id = i.id "
        f"WHERE {' AND '.join(conditions)} ORDER BY i.created_at DESC, i.id DESC LIMIT :limit",
        values,
    )


def _listed(row: Row) -> Listed:
    return Listed(
        record=image_rows.record(row),
        prompt=msgspec.json.decode(row["request"], type=ImageRequest).prompt,
        channel=row["channel"],
        price_micros=row["price_micros"],
    )


def _matches(listed: Listed, words: tuple[str, ...]) -> bool:
    if not words:
        return True
    prompt, record = listed.prompt.casefold(), listed.record
    names = (record.id, record.job_id, record.blob.digest)
    return all(word in prompt or any(name.startswith(word) for name in names) for word in words)
