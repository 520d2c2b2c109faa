"""The jobs in vendor batches: how each came in, and the one way by which it leaves.

Owns the rows of `vendor_item`, and the lease of a job that is in one: it is leased to no process
but to `LANE_OWNER`, so neither the queue nor a takeover touches it. Each way out is one update of
the job with that lease in its WHERE, so a job leaves once. Moves no money.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from safelight.db import Row, Transaction
from safelight.types import LANE_OWNER, Job

_OPEN = "state IN ('queued', 'in_progress')"


class ItemState(StrEnum):
    """What has become of a job's place in a vendor batch."""

    WAITING = "waiting"
    """Collected, not sent."""
    OUT = "out"
    """Sent; its attempt is journalled."""
    TAKEN = "taken"
    """Its picture came, and a run of the job verifies, stores and settles it."""
    REFUSED = "refused"
    """The job ended here: the vendor refused the prompt, or the customer cancelled it in time."""
    RETURNED = "returned"
    """The job is back in the live lane; the vendor makes no picture for it any more."""
    LATE = "late"
    """The job is back in the live lane; the vendor may still make its picture."""
    WASTED = "wasted"
    """The vendor made the picture, for a job that no longer needed it."""


class Item(msgspec.Struct, frozen=True):
    """A job's place in a vendor batch; `epoch` and `k` of its attempt, once it was sent."""

    job_id: str
    vendor_batch_id: str
    state: ItemState
    epoch: int | None = None
    k: int | None = None


def enter(tx: Transaction, job: Job, vendor_batch_id: str) -> None:
    """Put a job in that was placed in this transaction."""
    tx.execute(
        "UPDATE job SET lease_owner = :lane "
        "WHERE id = :id AND state = 'queued' AND lease_owner IS NULL",
        {"id": job.id, "lane": LANE_OWNER},
    )
    tx.execute(
        "INSERT INTO vendor_item (job_id, vendor_batch_id, state) VALUES (:job, :batch, 'waiting')",
        {"job": job.id, "batch": vendor_batch_id},
    )


def send(tx: Transaction, job: Job, vendor_batch_id: str) -> None:
    """Note that a job's attempt is journalled (`attempts.begin` with the next k)."""
    tx.execute(
        "UPDATE attempt SET vendor_batch_id = :batch "
        "WHERE job_id = :job AND epoch = :epoch AND k = :k",
        {"batch": vendor_batch_id, "job": job.id, "epoch": job.epoch, "k": job.attempts + 1},
    )
    tx.execute(
        "UPDATE vendor_item SET state = 'out', epoch = :epoch, k = :k "
        "WHERE job_id = :job AND state = 'waiting'",
        {"job": job.id, "epoch": job.epoch, "k": job.attempts + 1},
    )


def note(tx: Transaction, job_id: str, state: ItemState) -> None:
    """Note what has become of a job's place."""
    tx.execute(
        "UPDATE vendor_item SET state = :state WHERE job_id = :job",
        {"job": job_id, "state": state.value},
    )


def unwant(tx: Transaction, batch_id: str, *, limit: int) -> int:
    """Note that the customer wants no more of a batch's jobs that are here; return of how many."""
    return tx.execute(
        "UPDATE job SET cancel_requested_at = :now WHERE id IN (SELECT j.id FROM vendor_batch v "
        "JOIN vendor_item i ON i.vendor_batch_id = v.id JOIN job j ON j.id = i.job_id "
        "WHERE v.batch_id = :batch AND v.status <> 'ended' AND i.state IN ('waiting', 'out') "
        "AND j.cancel_requested_at IS NULL ORDER BY j.id LIMIT :limit) AND lease_owner = :lane",
        {"now": tx.now_ms, "batch": batch_id, "limit": limit, "lane": LANE_OWNER},
    )


def give_back(tx: Transaction, job: Job) -> bool:
    """Let a job wait in the queue like any other, under a new epoch.

    False: its customer has cancelled it, it has ended, or it is not here any more.
    """
    return bool(
        tx.execute(
            "UPDATE job SET state = 'queued', stage = NULL, lease_owner = NULL, epoch = epoch + 1 "
            f"WHERE id = :id AND {_OPEN} AND lease_owner = :lane AND epoch = :epoch "
            "AND cancel_requested_at IS NULL",
            {"id": job.id, "lane": LANE_OWNER, "epoch": job.epoch},
        )
    )


def take(tx: Transaction, job_id: str, *, owner: str) -> bool:
    """Lease a job whose picture has come to a process, under a new epoch.

    One that was late is taken, too, while it still waits in the queue. False: it has ended, or
    somebody runs it.
    """
    return bool(
        tx.execute(
            "UPDATE job SET lease_owner = :owner, epoch = epoch + 1, taken_at = :now, "
            "state = 'in_progress', started_at = COALESCE(started_at, :now) "
            f"WHERE id = :id AND {_OPEN} AND (lease_owner = :lane OR "
            "(lease_owner IS NULL AND state = 'queued' AND cancel_requested_at IS NULL))",
            {"id": job_id, "owner": owner, "lane": LANE_OWNER, "now": tx.now_ms},
        )
    )


# --- reading --------------------------------------------------------------------------------


def get(tx: Transaction, job_id: str) -> Item | None:
    """Return a job's place, or None: it was never in a vendor batch."""
    row = tx.one("SELECT * FROM vendor_item WHERE job_id = :job", {"job": job_id})
    return None if row is None else _item(row)


def in_state(
    tx: Transaction, vendor_batch_id: str, state: ItemState, *, after: str = "", limit: int
) -> list[Item]:
    """Return places in a state behind the job `after`, by the ids of their jobs."""
    rows = tx.all(
        "SELECT * FROM vendor_item WHERE vendor_batch_id = :batch AND state = :state "
        "AND job_id > :after ORDER BY job_id LIMIT :limit",
        {"batch": vendor_batch_id, "state": state.value, "after": after, "limit": limit},
    )
    return [_item(row) for row in rows]


def counts(tx: Transaction, vendor_batch_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many places of each vendor batch are in which state."""
    if not vendor_batch_ids:
        return {}
    names = {f"id{place}": one for place, one in enumerate(vendor_batch_ids)}
    rows = tx.all(
        "SELECT vendor_batch_id, state, COUNT(*) AS jobs FROM vendor_item WHERE vendor_batch_id IN "
        f"({', '.join(':' + name for name in names)}) GROUP BY vendor_batch_id, state",
        names,
    )
    found: dict[str, dict[str, int]] = {one: {} for one in vendor_batch_ids}
    for row in rows:
        found[row["vendor_batch_id"]][row["state"]] = int(row["jobs"])
    return found


def stranded(tx: Transaction, *, before_ms: int, limit: int) -> list[Item]:
    """Return places of open jobs that are still here, though their deadlines were before that."""
    rows = tx.all(
        "SELECT i.* FROM job j JOIN vendor_item i ON i.job_id = j.id "
        f"WHERE j.{_OPEN} AND j.lease_owner = :lane AND j.deadline_at < :before "
        "ORDER BY j.deadline_at, j.id LIMIT :limit",
        {"lane": LANE_OWNER, "before": before_ms, "limit": limit},
    )
    return [_item(row) for row in rows]


def count_of_batch(tx: Transaction, batch_id: str) -> int:
    """Return how many jobs of a batch are collected for a vendor, or with one."""
    row = tx.one(
        "SELECT COUNT(*) AS jobs FROM vendor_item i JOIN vendor_batch v "
        "ON v.id = i.vendor_batch_id WHERE v.batch_id = :batch AND v.status <> 'ended' "
        "AND i.state IN ('waiting', 'out')",
        {"batch": batch_id},
    )
    return 0 if row is None else int(row["jobs"])


def all_unwanted(tx: Transaction, vendor_batch_id: str) -> bool:
    """Return whether the customer has cancelled every job that is still out."""
    row = tx.one(
        "SELECT COUNT(*) AS jobs, "
        "COUNT(j.cancel_requested_at) AS unwanted FROM vendor_item i JOIN job j ON j.id = i.job_id "
        "WHERE i.vendor_batch_id = :batch AND i.state = 'out'",
        {"batch": vendor_batch_id},
    )
    return row is not None and row["jobs"] > 0 and row["jobs"] == row["unwanted"]


def _item(row: Row) -> Item:
    return Item(
        row["job_id"], row["vendor_batch_id"], ItemState(row["state"]), row["epoch"], row["k"]
    )
