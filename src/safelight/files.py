"""Files of customers: what they upload for batches and edits, and what batches leave for them.

Owns the rows. The bytes are blobs under their digest; a blob is in use as long as a row here names
it. A file that is deleted, or whose time is over, is there for nobody any more, but its row stays.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from safelight.db import Row, Transaction

_THERE = "deleted_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
_OPEN = "('validating', 'in_progress', 'finalizing', 'cancelling')"
_READ = f"EXISTS (SELECT 1 FROM batch b WHERE b.input_file_id = file.id AND b.status IN {_OPEN})"


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file. Times in milliseconds since 1970; `expires_at` None: it stays until it is deleted."""

    id: str
    customer_id: str
    purpose: str
    filename: str
    digest: str
    bytes: int
    created_at: int
    expires_at: int | None


class InUse(Exception):
    """A batch that has not ended reads the file; nothing was changed."""


def lock(tx: Transaction, customer_id: str) -> None:
    """Let nobody else add, delete or use files of a customer until the transaction ends."""
    tx.lock(f"files:{customer_id}")


def insert(tx: Transaction, file: FileRow) -> None:
    """Insert a file whose blob is kept."""
    tx.execute(
        "INSERT INTO file (id, customer_id, purpose, filename, digest, bytes, created_at, "
        "expires_at) VALUES (:id, :customer_id, :purpose, :filename, :digest, :bytes, "
        ":created_at, :expires_at)",
        msgspec.structs.asdict(file),
    )


def get(tx: Transaction, customer_id: str, file_id: str) -> FileRow | None:
    """Return a customer's file, or None where there is none, or none any more."""
    row = tx.one(
        f"SELECT * FROM file WHERE id = :id AND customer_id = :customer AND {_THERE}",
        {"id": file_id, "customer": customer_id, "now": tx.now_ms},
    )
    return None if row is None else _file(row)


def page(
    tx: Transaction,
    customer_id: str,
    *,
    purpose: str | None,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> list[FileRow]:
    """Return a customer's files in the order of their making.

    Args:
        tx: a snapshot.
        customer_id: whose.
        purpose: only those of it.
        after: id of the last file already seen; it may be gone by now.
        limit: most files.
        newest_first: the other way round.

    Raises:
        LookupError: `after` never was a file of the customer.
    """
    values: dict[str, object] = {"customer": customer_id, "now": tx.now_ms, "limit": limit}
    where = ""
    if purpose is not None:
        where += " AND purpose = :purpose"
        values["purpose"] = purpose
    if after is not None:
        last = tx.one(
            "SELECT created_at FROM file WHERE id = :id AND customer_id = :customer",
            {"id": after, "customer": customer_id},
        )
        if last is None:
            raise LookupError(after)
        where += f" AND (created_at, id) {'<' if newest_first else '>'} (:at, :after)"
        values |= {"at": last["created_at"], "after": after}
    way = "DESC" if newest_first else "ASC"
    rows = tx.all(
        f"SELECT * FROM file WHERE customer_id = :customer AND {_THERE}{where} "
        f"ORDER BY created_at {way}, id {way} LIMIT :limit",
        values,
    )
    return [_file(row) for row in rows]


def bytes_of(tx: Transaction, customer_id: str) -> int:
    """Return how many bytes the files have together that a customer uploaded."""
    row = tx.one(
        "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM file "
        f"WHERE customer_id = :customer AND purpose <> 'batch_output' AND {_THERE}",
        {"customer": customer_id, "now": tx.now_ms},
    )
    return 0 if row is None else int(row["bytes"])


def delete(tx: Transaction, customer_id: str, file_id: str) -> FileRow | None:
    """Delete a customer's file under `lock`; None where there is none.

    Raises:
        InUse: a batch reads it.
    """
    found = get(tx, customer_id, file_id)
    if found is None:
        return None
    gone = tx.execute(
        f"UPDATE file SET deleted_at = :now WHERE id = :id AND deleted_at IS NULL AND NOT {_READ}",
        {"id": file_id, "now": tx.now_ms},
    )
    if not gone:
        raise InUse(file_id)
    return found


def expire(tx: Transaction, *, limit: int) -> list[FileRow]:
    """Delete at most `limit` files whose time is over and that no open batch reads."""
    rows = tx.all(
        "SELECT * FROM file WHERE deleted_at IS NULL AND expires_at <= :now "
        f"AND NOT {_READ} ORDER BY expires_at, id LIMIT :limit",
        {"now": tx.now_ms, "limit": limit},
    )
    for row in rows:
        tx.execute(
            "UPDATE file SET deleted_at = :now WHERE id = :id AND deleted_at IS NULL",
            {"id": row["id"], "now": tx.now_ms},
        )
    return [_file(row) for row in rows]


def blobs_in_use(tx: Transaction, digests: Collection[str]) -> set[str]:
    """Return those of the digests whose blobs a file still needs."""
    if not digests:
        return set()
    names = {f"digest{place}": digest for place, digest in enumerate(sorted(digests))}
    rows = tx.all(
        "SELECT DISTINCT digest FROM file WHERE deleted_at IS NULL "
        f"AND digest IN ({', '.join(':' + name for name in names)})",
        names,
    )
    return {row["digest"] for row in rows}


def named_blobs(tx: Transaction) -> set[str]:
    """Return every digest whose blob a file needs."""
    rows = tx.all("SELECT DISTINCT digest FROM file WHERE deleted_at IS NULL")
    return {row["digest"] for row in rows}


def _file(row: Row) -> FileRow:
    return FileRow(**{key: row[key] for key in FileRow.__struct_fields__})
