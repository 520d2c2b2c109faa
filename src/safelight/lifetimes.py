"""How long pictures are kept: expiry, pins, deletion, and the inputs that orders brought along.

Owns these columns of the rows of images, and the rows of inputs. A row outlives its bytes: what is
deleted here is a picture for nobody any more, and stays on statement, receipt and job. Removes no
bytes (`removals` says how that is done) and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from safelight.db import Row, Transaction
from safelight.types import BlobRef, ImageFormat

Reason = Literal["expired", "requested", "purged"]

_IN_A_BATCH = (
    "EXISTS (SELECT 1 FROM job j JOIN batch b ON b.id = j.batch_id WHERE j.id = image.job_id AND "
    "COALESCE(b.completed_at, b.expired_at, b.cancelled_at, :now) + image.link_ttl_s * 1000 > :now)"
)
"""Its batch has not ended, or the links in the batch's output file still live."""


# --- pictures ----------------------------------------------------------------------------------


def pin(tx: Transaction, customer_id: str, image_id: str) -> bool:
    """Keep a customer's picture until it is unpinned; False where it has none, or none any more."""
    return bool(
        tx.execute(
            "UPDATE image SET pinned_at = COALESCE(pinned_at, :now) "
            "WHERE id = :id AND customer_id = :customer AND deleted_at IS NULL",
            {"id": image_id, "customer": customer_id, "now": tx.now_ms},
        )
    )


def unpin(tx: Transaction, customer_id: str, image_id: str, *, keep_s: int) -> bool:
    """Let a picture expire again, not before `keep_s` seconds from now (0: it does not expire).

    False where the customer has no such picture, or not any more.
    """
    floor = tx.now_ms + keep_s * 1000 if keep_s else None
    return bool(
        tx.execute(
            "UPDATE image SET expires_at = CASE WHEN pinned_at IS NULL THEN expires_at "
            "WHEN :keep = 0 THEN NULL WHEN expires_at > :floor THEN expires_at ELSE :floor END, "
            "pinned_at = NULL WHERE id = :id AND customer_id = :customer AND deleted_at IS NULL",
            {"id": image_id, "customer": customer_id, "keep": keep_s, "floor": floor or 0},
        )
    )


def delete(tx: Transaction, customer_id: str, image_id: str, reason: Reason) -> str | None:
    """Let a picture's bytes go, pinned or not; return its digest, None where it is gone already.

    Raises:
        LookupError: the customer has no such picture.
    """
    values = {"id": image_id, "customer": customer_id}
    row = tx.one("SELECT digest FROM image WHERE id = :id AND customer_id = :customer", values)
    if row is None:
        raise LookupError(image_id)
    gone = tx.execute(
        "UPDATE image SET deleted_at = :now, deleted_reason = :reason "
        "WHERE id = :id AND customer_id = :customer AND deleted_at IS NULL",
        {**values, "now": tx.now_ms, "reason": reason},
    )
    return str(row["digest"]) if gone else None


def keep_original(tx: Transaction, image_id: str, original: BlobRef) -> None:
    """Note the vendor's file that a picture was made of: it is kept as long as the picture."""
    tx.execute(
        "UPDATE image SET original_digest = :digest, original_bytes = :bytes, "
        "original_format = :format WHERE id = :id",
        {
            "id": image_id,
            "digest": original.digest,
            "bytes": original.bytes,
            "format": original.format,
        },
    )


def original_of(tx: Transaction, image_id: str) -> tuple[str, int, ImageFormat] | None:
    """Return digest, bytes and format of the file that a picture was made of, if it is kept."""
    row = tx.one(
        "SELECT original_digest, original_bytes, original_format FROM image "
        "WHERE id = :id AND original_digest IS NOT NULL AND deleted_at IS NULL",
        {"id": image_id},
    )
    if row is None:
        return None
    return row["original_digest"], row["original_bytes"], row["original_format"]


def originals_of_deleted(tx: Transaction, digests: Collection[str]) -> list[str]:
    """Return the originals of those pictures, by their digests, whose bytes were let go."""
    if not digests:
        return []
    names = {f"d{place}": digest for place, digest in enumerate(sorted(digests))}
    rows = tx.all(
        "SELECT DISTINCT original_digest FROM image WHERE original_digest IS NOT NULL "
        f"AND deleted_at IS NOT NULL AND digest IN ({', '.join(':' + name for name in names)}) "
        "ORDER BY original_digest",
        names,
    )
    return [row["original_digest"] for row in rows]


def count(tx: Transaction, customer_id: str) -> int:
    """Return how many pictures of a customer are there."""
    row = tx.one(
        "SELECT COUNT(*) AS images FROM image WHERE customer_id = :customer AND deleted_at IS NULL",
        {"customer": customer_id},
    )
    assert row is not None
    return int(row["images"])


def was_deleted(tx: Transaction, customer_id: str, image_id: str) -> bool:
    """Return whether a customer had a picture that is gone."""
    row = tx.one(
        "SELECT 1 FROM image WHERE id = :id AND customer_id = :customer AND deleted_at IS NOT NULL",
        {"id": image_id, "customer": customer_id},
    )
    return row is not None


def expire(tx: Transaction, *, limit: int) -> list[str]:
    """Let the bytes of pictures go whose time is over; return their digests."""
    rows = tx.all(
        "SELECT id, customer_id FROM image WHERE deleted_at IS NULL AND pinned_at IS NULL "
        f"AND expires_at <= :now AND NOT {_IN_A_BATCH} ORDER BY expires_at, id LIMIT :limit",
        {"now": tx.now_ms, "limit": limit},
    )
    return _delete_all(tx, rows, "expired")


def purge(tx: Transaction, customer_id: str, *, limit: int) -> list[str]:
    """Let the bytes of a customer's pictures go, pinned or not; return their digests."""
    rows = tx.all(
        "SELECT id, customer_id FROM image WHERE customer_id = :customer AND deleted_at IS NULL "
        "ORDER BY id LIMIT :limit",
        {"customer": customer_id, "limit": limit},
    )
    return _delete_all(tx, rows, "purged")


def _delete_all(tx: Transaction, rows: list[Row], reason: Reason) -> list[str]:
    gone = [delete(tx, row["customer_id"], row["id"], reason) for row in rows]
    return [digest for digest in gone if digest is not None]


# --- inputs of orders ----------------------------------------------------------------------------


def keep_inputs(tx: Transaction, request_id: str, digests: Iterable[str]) -> None:
    """Note which pictures a request brought along; after the request's own row."""
    for digest in sorted(set(digests)):
        tx.execute(
            "INSERT INTO request_input (request_id, digest) VALUES (:request, :digest)",
            {"request": request_id, "digest": digest},
        )


def let_go_inputs(tx: Transaction, *, keep_s: float, keep_failed_s: float, limit: int) -> list[str]:
    """Let the inputs of ended requests go; return their digests.

    Args:
        tx: a transaction that may write.
        keep_s: seconds after the end of a job with a picture.
        keep_failed_s: seconds after the end of one without.
        limit: most inputs.
    """
    rows = tx.all(
        "SELECT r.request_id, r.digest FROM request_input r WHERE NOT EXISTS "
        "(SELECT 1 FROM job j WHERE j.request_id = r.request_id "
        "AND (j.state IN ('queued', 'in_progress') OR j.completed_at > "
        "CASE WHEN j.state = 'completed' THEN :before ELSE :failed_before END)) "
        "ORDER BY r.request_id, r.digest LIMIT :limit",
        {
            "before": tx.now_ms - round(keep_s * 1000),
            "failed_before": tx.now_ms - round(keep_failed_s * 1000),
            "limit": limit,
        },
    )
    for row in rows:
        tx.execute(
            "DELETE FROM request_input WHERE request_id = :request_id AND digest = :digest", row
        )
    return [row["digest"] for row in rows]


def purge_inputs(tx: Transaction, customer_id: str) -> list[str]:
    """Let the inputs of a customer's ended requests go at once; return their digests."""
    rows = tx.all(
        "SELECT i.request_id, i.digest FROM request_input i JOIN request r ON r.id = i.request_id "
        "WHERE r.customer_id = :customer AND NOT EXISTS (SELECT 1 FROM job j "
        "WHERE j.request_id = r.id AND j.state IN ('queued', 'in_progress')) "
        "ORDER BY i.request_id, i.digest",
        {"customer": customer_id},
    )
    for row in rows:
        tx.execute(
            "DELETE FROM request_input WHERE request_id = :request_id AND digest = :digest", row
        )
    return [row["digest"] for row in rows]


# --- what is named -------------------------------------------------------------------------------


def blobs_in_use(tx: Transaction, digests: Collection[str]) -> set[str]:
    """Return those of the digests whose bytes a picture or an input needs."""
    if not digests:
        return set()
    names = {f"d{place}": digest for place, digest in enumerate(sorted(digests))}
    listed = ", ".join(f":{name}" for name in names)
    rows = tx.all(
        f"SELECT digest FROM image WHERE digest IN ({listed}) AND deleted_at IS NULL "
        "UNION SELECT original_digest AS digest FROM image "
        f"WHERE original_digest IN ({listed}) AND deleted_at IS NULL "
        f"UNION SELECT digest FROM request_input WHERE digest IN ({listed})",
        names,
    )
    return {row["digest"] for row in rows}


def named_blobs(tx: Transaction) -> set[str]:
    """Return every digest whose bytes a picture or an input needs."""
    rows = tx.all(
        "SELECT digest FROM image WHERE deleted_at IS NULL UNION SELECT digest FROM request_input "
        "UNION SELECT original_digest AS digest FROM image "
        "WHERE original_digest IS NOT NULL AND deleted_at IS NULL"
    )
    return {row["digest"] for row in rows}
