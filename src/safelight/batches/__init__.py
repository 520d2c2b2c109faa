"""Batches: the rows, and every change of state; `lines` has those of their lines.

Each verb is a function on an open transaction with its guard in the WHERE. A batch is worked on in
visits: whoever begins one writes its name into the row, and an older visit that is still at work
writes no more (`Superseded`). This module moves no money and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from safelight.db import Row, Transaction

_OPEN = "('validating', 'in_progress', 'finalizing', 'cancelling')"


class BatchStatus(StrEnum):
    """How far a batch is, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing will change any more."""
        return self in (
            BatchStatus.FAILED,
            BatchStatus.COMPLETED,
            BatchStatus.EXPIRED,
            BatchStatus.CANCELLED,
        )


class LineFault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a batch; `line` counts from 1, None: with all of it."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. Times in milliseconds since 1970, `keep_output_s` in seconds.

    `completed` and `failed` of its `total` lines are those of its end; before, see `counts`.
    """

    id: str
    customer_id: str
    key_id: str
    input_file_id: str
    input_digest: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    keep_output_s: int
    origin: str
    status: BatchStatus
    idempotency_key: str | None = None
    created_at: int
    expires_at: int
    reminders: int = 0
    progress_at: int = 0
    starved_at: int | None = None
    model: str | None = None
    errors: tuple[LineFault, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    usage: dict[str, Any] | None = None

    def asks_like(self, other: BatchRow) -> bool:
        """Return whether both ask for the same."""
        mine, others = (
            (
                one.input_file_id,
                one.endpoint,
                one.completion_window,
                one.metadata,
                one.keep_output_s,
            )
            for one in (self, other)
        )
        return mine == others


class Counts(msgspec.Struct, frozen=True):
    """How many lines have ended, and how."""

    completed: int
    failed: int


class Superseded(Exception):
    """The batch has another visit, or another status, than the one that writes; nothing changed."""


def insert(tx: Transaction, batch: BatchRow) -> None:
    """Insert a new batch."""
    tx.execute(
        "INSERT INTO batch (id, customer_id, key_id, input_file_id, input_digest, endpoint, "
        "completion_window, metadata, keep_output_s, idempotency_key, origin, status, touched_at, "
        "progress_at, created_at, expires_at) VALUES (:id, :customer_id, :key_id, :input_file_id, "
        ":input_digest, :endpoint, :completion_window, :metadata, :keep_output_s, "
        ":idempotency_key, :origin, "
        ":status, :created_at, :created_at, :created_at, :expires_at)",
        {
            "id": batch.id,
            "customer_id": batch.customer_id,
            "key_id": batch.key_id,
            "input_file_id": batch.input_file_id,
            "input_digest": batch.input_digest,
            "endpoint": batch.endpoint,
            "completion_window": batch.completion_window,
            "metadata": None if batch.metadata is None else _json(batch.metadata),
            "keep_output_s": batch.keep_output_s,
            "idempotency_key": batch.idempotency_key,
            "origin": batch.origin,
            "status": batch.status.value,
            "created_at": batch.created_at,
            "expires_at": batch.expires_at,
        },
    )


def get(tx: Transaction, batch_id: str) -> BatchRow | None:
    """Return a batch of any customer, or None."""
    row = tx.one("SELECT * FROM batch WHERE id = :id", {"id": batch_id})
    return None if row is None else _batch(row)


def by_idempotency_key(tx: Transaction, customer_id: str, key: str) -> BatchRow | None:
    """Return the batch that a customer made with an Idempotency-Key, or None."""
    row = tx.one(
        "SELECT * FROM batch WHERE customer_id = :customer AND idempotency_key = :key",
        {"customer": customer_id, "key": key},
    )
    return None if row is None else _batch(row)


def newest_like(tx: Transaction, batch: BatchRow, *, since_ms: int) -> BatchRow | None:
    """Return the newest batch of the same key that asks for the same, or None."""
    rows = tx.all(
        "SELECT * FROM batch WHERE input_file_id = :file AND key_id = :key "
        "AND created_at >= :since ORDER BY created_at DESC, id DESC",
        {"file": batch.input_file_id, "key": batch.key_id, "since": since_ms},
    )
    return next((found for row in rows if (found := _batch(row)).asks_like(batch)), None)


def page(
    tx: Transaction, customer_id: str | None, *, after: str | None, limit: int
) -> list[tuple[BatchRow, Counts]]:
    """Return a customer's batches, or everybody's, with their counts, newest first.

    Raises:
        LookupError: `after` is no batch of the customer.
    """
    conditions = ["created_at >= 0"] if customer_id is None else ["customer_id = :customer"]
    values: dict[str, object] = {"customer": customer_id, "limit": limit}
    if after is not None:
        last = get(tx, after)
        if last is None or customer_id not in (None, last.customer_id):
            raise LookupError(after)
        conditions.append("(created_at, id) < (:at, :after)")
        values |= {"at": last.created_at, "after": after}
    rows = tx.all(
        f"SELECT * FROM batch WHERE {' AND '.join(conditions)} "
        "ORDER BY created_at DESC, id DESC LIMIT :limit",
        values,
    )
    found = [_batch(row) for row in rows]
    return [(batch, counts(tx, batch)) for batch in found]


def count_open(tx: Transaction, customer_id: str) -> int:
    """Return how many batches of a customer have not ended."""
    row = tx.one(
        "SELECT COUNT(*) AS batches FROM batch "
        f"WHERE customer_id = :customer AND status IN {_OPEN}",
        {"customer": customer_id},
    )
    return 0 if row is None else int(row["batches"])


def counts(tx: Transaction, batch: BatchRow) -> Counts:
    """Return how many lines of a batch have ended."""
    if batch.status.ended:
        return Counts(batch.completed, batch.failed)
    rows = tx.all(
        "SELECT state, COUNT(*) AS lines FROM batch_line WHERE batch_id = :id GROUP BY state",
        {"id": batch.id},
    )
    by_state = {row["state"]: int(row["lines"]) for row in rows}
    failed = sum(by_state.get(state, 0) for state in ("failed", "expired", "cancelled"))
    return Counts(by_state.get("completed", 0), failed)


def overdue(tx: Transaction, *, before_ms: int, limit: int) -> list[BatchRow]:
    """Return open batches that no visit has touched since then."""
    rows = tx.all(
        f"SELECT * FROM batch WHERE status IN {_OPEN} "
        "AND touched_at <= :before ORDER BY touched_at, id LIMIT :limit",
        {"before": before_ms, "limit": limit},
    )
    return [_batch(row) for row in rows]


def remind(tx: Transaction, batch_id: str) -> int | None:
    """Count one more reminder of an open batch; None: it has ended."""
    changed = tx.execute(
        "UPDATE batch SET reminders = reminders + 1, touched_at = :now "
        f"WHERE id = :id AND status IN {_OPEN}",
        {"id": batch_id, "now": tx.now_ms},
    )
    batch = get(tx, batch_id) if changed else None
    return None if batch is None else batch.reminders


def take(tx: Transaction, batch_id: str, visit: str) -> BatchRow | None:
    """Begin a visit, and end whichever is at work; None: the batch has ended."""
    changed = tx.execute(
        f"UPDATE batch SET visit = :visit, touched_at = :now WHERE id = :id AND status IN {_OPEN}",
        {"id": batch_id, "visit": visit, "now": tx.now_ms},
    )
    return get(tx, batch_id) if changed else None


def hold(tx: Transaction, batch: BatchRow, visit: str) -> None:
    """Be sure that the visit goes on, in the status in which it knows the batch.

    Raises:
        Superseded: it does not.
    """
    changed = tx.execute(
        "UPDATE batch SET touched_at = :now WHERE id = :id AND visit = :visit AND status = :status",
        {"id": batch.id, "visit": visit, "status": batch.status.value, "now": tx.now_ms},
    )
    if not changed:
        raise Superseded(batch.id)


def note_progress(tx: Transaction, batch_id: str) -> None:
    """Note that a visit has changed something."""
    tx.execute(
        "UPDATE batch SET progress_at = :now WHERE id = :id", {"id": batch_id, "now": tx.now_ms}
    )


def begin(tx: Transaction, batch_id: str, *, model: str | None, total: int) -> None:
    """Let a validated batch begin; under `hold`."""
    tx.execute(
        "UPDATE batch SET status = 'in_progress', in_progress_at = :now, model = :model, "
        "total = :total WHERE id = :id AND status = 'validating'",
        {"id": batch_id, "model": model, "total": total, "now": tx.now_ms},
    )


def fail(tx: Transaction, batch_id: str, faults: Sequence[LineFault]) -> None:
    """End a batch whose input is wrong, without having bought anything; under `hold`."""
    tx.execute(
        "UPDATE batch SET status = 'failed', failed_at = :now, errors = :errors "
        "WHERE id = :id AND status = 'validating'",
        {"id": batch_id, "errors": _json(list(faults)), "now": tx.now_ms},
    )


def note_starving(tx: Transaction, batch_id: str, fault: LineFault | None) -> None:
    """Note that the balance does not cover the next line, since when; None: that it does again."""
    if fault is None:
        tx.execute(
            "UPDATE batch SET starved_at = NULL, errors = NULL WHERE id = :id", {"id": batch_id}
        )
        return
    tx.execute(
        "UPDATE batch SET starved_at = COALESCE(starved_at, :now), errors = :errors WHERE id = :id",
        {"id": batch_id, "errors": _json([fault]), "now": tx.now_ms},
    )


def cancel(tx: Transaction, batch_id: str) -> bool:
    """Let nothing more of a batch begin; False where it is not to be cancelled any more."""
    return bool(
        tx.execute(
            "UPDATE batch SET status = 'cancelling', cancelling_at = :now, progress_at = :now "
            "WHERE id = :id AND status IN ('validating', 'in_progress')",
            {"id": batch_id, "now": tx.now_ms},
        )
    )


def cancel_open(tx: Transaction, *, until_ms: int) -> int:
    """Cancel every batch that was made by then and may still buy; return how many."""
    return tx.execute(
        "UPDATE batch SET status = 'cancelling', cancelling_at = :now, progress_at = :now "
        "WHERE status IN ('validating', 'in_progress') AND created_at <= :until",
        {"now": tx.now_ms, "until": until_ms},
    )


def finalize(tx: Transaction, batch_id: str) -> None:
    """Say that all lines have ended and the files are being written; under `hold`."""
    tx.execute(
        "UPDATE batch SET status = 'finalizing', finalizing_at = :now "
        "WHERE id = :id AND status = 'in_progress'",
        {"id": batch_id, "now": tx.now_ms},
    )


def finish(
    tx: Transaction,
    batch: BatchRow,
    *,
    status: BatchStatus,
    output_file_id: str | None,
    error_file_id: str | None,
    usage: dict[str, Any],
) -> None:
    """End a batch with its files; under `hold`."""
    found = counts(tx, batch)
    at = {"completed": "completed_at", "expired": "expired_at", "cancelled": "cancelled_at"}[status]
    tx.execute(
        f"UPDATE batch SET status = :status, {at} = :now, output_file_id = :output, "
        "error_file_id = :error, completed = :completed, failed = :failed, usage = :usage, "
        "starved_at = NULL, errors = NULL WHERE id = :id",
        {
            "id": batch.id,
            "status": status.value,
            "output": output_file_id,
            "error": error_file_id,
            "completed": found.completed,
            "failed": found.failed,
            "usage": _json(usage),
            "now": tx.now_ms,
        },
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _batch(row: Row) -> BatchRow:
    values = {name: row[name] for name in BatchRow.__struct_fields__}
    errors, metadata, usage = row["errors"], row["metadata"], row["usage"]
    values |= {
        "status": BatchStatus(row["status"]),
        "errors": () if errors is None else msgspec.json.decode(errors, type=tuple[LineFault, ...]),
        "metadata": None if metadata is None else msgspec.json.decode(metadata),
        "usage": None if usage is None else msgspec.json.decode(usage),
    }
    return BatchRow(**values)
