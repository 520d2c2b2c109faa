"""Vendor batches: lines sent on to a vendor's own Batch API; `items` has the jobs in them.

Owns the rows, and every change of state, each with its guard in the WHERE. A vendor batch is worked
on in visits, as a batch is: whoever begins one writes its name into the row, and an older visit
that is still at work writes no more (`Superseded`). This module moves no money, asks no vendor and
decides nothing.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from safelight.db import Row, Transaction
from safelight.types import LANE_GROUP

_READ = "SELECT * FROM vendor_batch "


class Status(StrEnum):
    """How far a vendor batch is."""

    COLLECTING = "collecting"
    """Lines are added."""
    PACKING = "packing"
    """Its lines are fixed, their attempts are journalled, its file is written and sent."""
    CREATING = "creating"
    """The file is with the vendor; the call that makes a batch of it may have left."""
    OUT = "out"
    """The vendor has it."""
    FETCHING = "fetching"
    """The vendor has ended it; what it left is read line by line."""
    ENDED = "ended"


class VendorBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor batch. Times in milliseconds since 1970; the columns are explained in 0016."""

    id: str
    batch_id: str
    account: str
    limiter_group: str
    status: Status
    reminders: int = 0
    due_at: int = 0
    tries: int = 0
    lines: int = 0
    bytes: int = 0
    created_at: int
    cancel_at: int
    return_at: int
    sending_at: int | None = None
    sent_at: int | None = None
    cancelled_at: int | None = None
    late_at: int | None = None
    ended_at: int | None = None
    input_file_id: str | None = None
    remote_id: str | None = None
    remote_status: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    reason: str | None = None

    @property
    def known_as(self) -> str:
        """The limiter group of its attempts: a vendor counts them apart from calls."""
        return self.limiter_group + LANE_GROUP


class Superseded(Exception):
    """The vendor batch has another visit, or another status, than the one that writes."""


def insert(tx: Transaction, batch: VendorBatch) -> None:
    """Insert a vendor batch that collects."""
    tx.execute(
        "INSERT INTO vendor_batch (id, batch_id, account, limiter_group, status, due_at, "
        "created_at, cancel_at, return_at) VALUES (:id, :batch, :account, :group, 'collecting', "
        ":created, :created, :cancel, :return)",
        {
            "id": batch.id,
            "batch": batch.batch_id,
            "account": batch.account,
            "group": batch.limiter_group,
            "created": batch.created_at,
            "cancel": batch.cancel_at,
            "return": batch.return_at,
        },
    )


def get(tx: Transaction, vendor_batch_id: str) -> VendorBatch | None:
    """Return a vendor batch, or None."""
    row = tx.one(_READ + "WHERE id = :id", {"id": vendor_batch_id})
    return None if row is None else _batch(row)


def collecting(tx: Transaction, batch_id: str) -> VendorBatch | None:
    """Return the vendor batch to which lines of a batch are added now, or None."""
    row = tx.one(
        _READ + "WHERE batch_id = :batch AND status = 'collecting' "
        "ORDER BY created_at DESC, id DESC LIMIT 1",
        {"batch": batch_id},
    )
    return None if row is None else _batch(row)


def add(tx: Transaction, vendor_batch_id: str, *, lines: int, size: int) -> bool:
    """Count lines of `size` bytes in; False where no more are collected."""
    return bool(
        tx.execute(
            "UPDATE vendor_batch SET lines = lines + :lines, bytes = bytes + :size "
            "WHERE id = :id AND status = 'collecting'",
            {"id": vendor_batch_id, "lines": lines, "size": size},
        )
    )


def listed(tx: Transaction, *, open_only: bool, limit: int) -> list[VendorBatch]:
    """Return vendor batches, newest first."""
    where = "WHERE status <> 'ended' " if open_only else ""
    rows = tx.all(
        _READ + where + "ORDER BY created_at DESC, id DESC LIMIT :limit", {"limit": limit}
    )
    return [_batch(row) for row in rows]


def overdue(tx: Transaction, *, before_ms: int, limit: int) -> list[VendorBatch]:
    """Return open vendor batches whose next look was due before that."""
    rows = tx.all(
        _READ + "WHERE status <> 'ended' AND due_at <= :before ORDER BY due_at, id LIMIT :limit",
        {"before": before_ms, "limit": limit},
    )
    return [_batch(row) for row in rows]


def open_of(tx: Transaction, batch_id: str) -> list[VendorBatch]:
    """Return the vendor batches of a batch that have not ended."""
    rows = tx.all(
        _READ + "WHERE batch_id = :batch AND status <> 'ended' ORDER BY created_at, id",
        {"batch": batch_id},
    )
    return [_batch(row) for row in rows]


def remind(
    tx: Transaction, vendor_batch_id: str, *, delay_ms: int, seen: int | None = None
) -> int | None:
    """Count one more reminder of an open vendor batch, the only one that counts from now on.

    None: it has ended, or has been reminded of since there were `seen` of them.
    """
    changed = tx.execute(
        "UPDATE vendor_batch SET reminders = reminders + 1, due_at = :due "
        "WHERE id = :id AND status <> 'ended' AND reminders = COALESCE(:seen, reminders)",
        {"id": vendor_batch_id, "due": tx.now_ms + delay_ms, "seen": seen},
    )
    found = get(tx, vendor_batch_id) if changed else None
    return None if found is None else found.reminders


# --- visits ---------------------------------------------------------------------------------


def take(
    tx: Transaction, vendor_batch_id: str, visit: str, *, number: int | None = None
) -> VendorBatch | None:
    """Begin a visit, and end whichever is at work.

    None: the vendor batch has ended, or the reminder `number` is not its newest: that one counts.
    """
    changed = tx.execute(
        "UPDATE vendor_batch SET visit = :visit, due_at = :now "
        "WHERE id = :id AND status <> 'ended' AND reminders = COALESCE(:number, reminders)",
        {"id": vendor_batch_id, "visit": visit, "now": tx.now_ms, "number": number},
    )
    return get(tx, vendor_batch_id) if changed else None


def taken(tx: Transaction, vendor_batch_id: str, visit: str) -> VendorBatch | None:
    """Return a vendor batch as it is now, if the visit goes on and it has not ended."""
    row = tx.one(
        _READ + "WHERE id = :id AND visit = :visit AND status <> 'ended'",
        {"id": vendor_batch_id, "visit": visit},
    )
    return None if row is None else _batch(row)


def hold(tx: Transaction, batch: VendorBatch, visit: str) -> None:
    """Be sure that the visit goes on, in the status in which it knows the vendor batch.

    Raises:
        Superseded: it does not.
    """
    changed = tx.execute(
        "UPDATE vendor_batch SET due_at = :now "
        "WHERE id = :id AND visit = :visit AND status = :status",
        {"id": batch.id, "visit": visit, "status": batch.status.value, "now": tx.now_ms},
    )
    if not changed:
        raise Superseded(batch.id)


def pack(tx: Transaction, vendor_batch_id: str) -> None:
    """Add no more lines; under `hold`."""
    _go(tx, vendor_batch_id, "collecting", "packing")


def sending(tx: Transaction, vendor_batch_id: str, *, input_file_id: str | None) -> None:
    """Note that the call which creates it at the vendor leaves after this; under `hold`.

    `input_file_id` None: again, with the file that is known.
    """
    tx.execute(
        "UPDATE vendor_batch SET status = 'creating', sending_at = :now, "
        "input_file_id = COALESCE(:file, input_file_id) WHERE id = :id",
        {"id": vendor_batch_id, "file": input_file_id, "now": tx.now_ms},
    )


def accepted(tx: Transaction, vendor_batch_id: str, *, remote_id: str, status: str) -> None:
    """Note that the vendor has it, and under which name; under `hold`."""
    tx.execute(
        "UPDATE vendor_batch SET status = 'out', sent_at = :now, remote_id = :remote, "
        "remote_status = :status, tries = 0, reason = NULL WHERE id = :id AND status = 'creating'",
        {"id": vendor_batch_id, "remote": remote_id, "status": status, "now": tx.now_ms},
    )


def looked(
    tx: Transaction,
    vendor_batch_id: str,
    *,
    status: str,
    output_file_id: str | None,
    error_file_id: str | None,
    ended: bool,
) -> None:
    """Note what the vendor says of it; with `ended` what it left is read next; under `hold`."""
    tx.execute(
        "UPDATE vendor_batch SET remote_status = :remote, output_file_id = :output, "
        "error_file_id = :error, tries = 0, reason = NULL, status = :status WHERE id = :id",
        {
            "id": vendor_batch_id,
            "remote": status,
            "output": output_file_id,
            "error": error_file_id,
            "status": "fetching" if ended else "out",
        },
    )


def note_cancelled(tx: Transaction, vendor_batch_id: str) -> None:
    """Note that the vendor was asked to cancel it; under `hold`."""
    tx.execute(
        "UPDATE vendor_batch SET cancelled_at = COALESCE(cancelled_at, :now) WHERE id = :id",
        {"id": vendor_batch_id, "now": tx.now_ms},
    )


def note_late(tx: Transaction, vendor_batch_id: str) -> None:
    """Note that nobody waits for it any more; under `hold`."""
    tx.execute(
        "UPDATE vendor_batch SET late_at = COALESCE(late_at, :now) WHERE id = :id",
        {"id": vendor_batch_id, "now": tx.now_ms},
    )


def note_trouble(tx: Transaction, vendor_batch_id: str, reason: str) -> None:
    """Count a failure; under `hold`."""
    tx.execute(
        "UPDATE vendor_batch SET tries = tries + 1, reason = :reason WHERE id = :id",
        {"id": vendor_batch_id, "reason": reason},
    )


def finish(tx: Transaction, vendor_batch_id: str, *, reason: str | None) -> None:
    """End it; under `hold`, when no job is in it any more."""
    tx.execute(
        "UPDATE vendor_batch SET status = 'ended', ended_at = :now, "
        "reason = COALESCE(:reason, reason) WHERE id = :id",
        {"id": vendor_batch_id, "reason": reason, "now": tx.now_ms},
    )


def _go(tx: Transaction, vendor_batch_id: str, before: str, after: str) -> None:
    tx.execute(
        "UPDATE vendor_batch SET status = :after WHERE id = :id AND status = :before",
        {"id": vendor_batch_id, "before": before, "after": after},
    )


def _batch(row: Row) -> VendorBatch:
    values = {name: row[name] for name in VendorBatch.__struct_fields__}
    return VendorBatch(**{**values, "status": Status(row["status"])})
