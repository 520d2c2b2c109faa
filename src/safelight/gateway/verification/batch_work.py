"""Batches against their orders: does each line say what became of it?

Owns the reads that compare lines with requests and jobs, one batch in one snapshot: a line and its
order change together when it is accepted, and the line follows when its jobs have all ended. So
what is under way is never a contradiction. Changes nothing.
"""

from __future__ import annotations

from safelight.db import Row, Transaction
from safelight.gateway.verification.findings import Check, Finding, found

_ENDED = "('failed', 'completed', 'expired', 'cancelled')"
_OPEN = "('queued', 'in_progress')"
_LINES = (
    "SELECT l.line, l.state, "
    "(SELECT COUNT(*) FROM job j WHERE j.request_id = l.request_id AND j.state = 'completed') "
    "AS pictures FROM batch_line l JOIN batch b ON b.id = l.batch_id "
    "LEFT JOIN request r ON r.id = l.request_id WHERE l.batch_id = :batch AND ("
    # Its order is none of this batch and customer.
    "(l.request_id IS NOT NULL AND (r.id IS NULL OR r.customer_id <> b.customer_id "
    "OR COALESCE(r.batch_id, '') <> b.id)) "
    # It should have an order, or should not.
    "OR (l.state IN ('under_way', 'completed') AND l.request_id IS NULL) "
    "OR (l.state = 'waiting' AND l.request_id IS NOT NULL) "
    # It has pictures without saying so, or the other way round, or has ended before its jobs.
    "OR (l.state = 'completed') <> EXISTS (SELECT 1 FROM job j WHERE j.request_id = l.request_id "
    "AND j.state = 'completed') AND l.state <> 'under_way' "
    "OR (l.state <> 'under_way' AND EXISTS (SELECT 1 FROM job j "
    f"WHERE j.request_id = l.request_id AND j.state IN {_OPEN})) "
    # The batch has ended, and it has not.
    f"OR (b.status IN {_ENDED} AND l.state IN ('waiting', 'under_way'))) ORDER BY l.line"
)
_STRAYS = (
    "SELECT DISTINCT j.request_id FROM job j WHERE j.batch_id = :batch AND NOT EXISTS "
    "(SELECT 1 FROM batch_line l WHERE l.request_id = j.request_id AND l.batch_id = :batch) "
    "ORDER BY j.request_id"
)


def next_batch(tx: Transaction, after: str, *, customer_id: str | None = None) -> Row | None:
    """Return id and customer of the batch behind `after`, or None."""
    mine = "" if customer_id is None else " AND customer_id = :customer"
    values = {"after": after} if customer_id is None else {"after": after, "customer": customer_id}
    return tx.one(
        f"SELECT id, customer_id FROM batch WHERE id > :after{mine} ORDER BY id LIMIT 1", values
    )


def batch_faults(tx: Transaction, batch: Row) -> list[Finding]:
    """Return what is wrong between a batch's lines and what they ordered."""
    values = {"batch": batch["id"]}
    findings = [
        found(
            Check.LINE,
            batch["customer_id"],
            f"{batch['id']} line {row['line']}",
            stored=row["state"],
            expected=f"{row['pictures']} pictures",
        )
        for row in tx.all(_LINES, values)
    ]
    findings += [
        found(
            Check.LINE,
            batch["customer_id"],
            row["request_id"],
            stored="no line",
            expected=f"a line of {batch['id']}",
        )
        for row in tx.all(_STRAYS, values)
    ]
    return findings


def all_faults(tx: Transaction) -> list[Finding]:
    """Return what is wrong with all batches, read in one transaction."""
    findings: list[Finding] = []
    batch = next_batch(tx, "")
    while batch is not None:
        findings += batch_faults(tx, batch)
        batch = next_batch(tx, batch["id"])
    return findings
