"""The backlog: jobs that are queued and that nobody runs yet.

Owns the narrow reads of those rows, thousands of which may wait, and the one update by which a
process takes a job out of the queue. No prompt is read here. The engine only reminds of these rows:
a job waits here exactly as long as it is queued and leased to nobody.
"""

from __future__ import annotations

import msgspec

from safelight.db import Row, Transaction

_WAITS = "state = 'queued' AND lease_owner IS NULL"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A job in the backlog. Times in milliseconds since 1970."""

    id: str
    customer_id: str
    priority: int
    not_before: int | None
    created_at: int


def take(tx: Transaction, job_id: str, *, owner: str) -> bool:
    """Lease a waiting job to `owner` under a new epoch.

    False when it is not waiting any more, not to begin yet, or cancelled.
    """
    return bool(
        tx.execute(
            "UPDATE job SET lease_owner = :owner, epoch = epoch + 1, taken_at = :now "
            f"WHERE id = :id AND {_WAITS} AND cancel_requested_at IS NULL "
            "AND COALESCE(not_before, 0) <= :now",
            {"id": job_id, "owner": owner, "now": tx.now_ms},
        )
    )


def find(tx: Transaction, job_id: str) -> Waiting | None:
    """Return a waiting job; None when it waits no more."""
    row = tx.one(_READ + "AND id = :id", {"id": job_id})
    return None if row is None else _waiting(row)


def page(tx: Transaction, *, after: tuple[int, str], until_ms: int, limit: int) -> list[Waiting]:
    """Return waiting jobs in the order of their coming.

    Args:
        tx: a transaction.
        after: `created_at` and id of the last one of the page before; (0, "") for the first.
        until_ms: of jobs that were accepted by then.
        limit: most jobs.
    """
    rows = tx.all(
        _READ + "AND (created_at > :at OR (created_at = :at AND id > :id)) "
        "AND created_at <= :until ORDER BY created_at, id LIMIT :limit",
        {"at": after[0], "id": after[1], "until": until_ms, "limit": limit},
    )
    return [_waiting(row) for row in rows]


def count(tx: Transaction) -> int:
    """Return how many jobs wait."""
    row = tx.one(f"SELECT COUNT(*) AS jobs FROM job WHERE {_WAITS}")
    return 0 if row is None else int(row["jobs"])


def count_of_key(tx: Transaction, key_id: str) -> int:
    """Return how many jobs of a key wait; those of batches are not counted."""
    row = tx.one(
        f"SELECT COUNT(*) AS jobs FROM job WHERE {_WAITS} AND key_id = :key AND batch_id IS NULL",
        {"key": key_id},
    )
    return 0 if row is None else int(row["jobs"])


_READ = f"SELECT id, customer_id, priority, not_before, created_at FROM job WHERE {_WAITS} "


def _waiting(row: Row) -> Waiting:
    return Waiting(
        id=row["id"],
        customer_id=row["customer_id"],
        priority=row["priority"],
        not_before=row["not_before"],
        created_at=row["created_at"],
    )
