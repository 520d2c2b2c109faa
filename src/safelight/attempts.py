"""Attempts: one row for each upstream call, written before its first byte leaves.

Owns the rows of `attempt` and what is counted from them: what upstreams sold to nobody (the figures
of each account are read in accounts.py). Every verb is a function on an open transaction. This
module decides nothing, prices nothing and moves no money.
"""

from __future__ import annotations

import msgspec

from safelight.db import Transaction
from safelight.types import Job, Micros, Received


def begin(
    tx: Transaction, job: Job, *, k: int, account: str, group: str, input_images: int = 0
) -> bool:
    """Journal that a call is about to leave; False when the job is not ours any more."""
    changed = tx.execute(
        "UPDATE job SET state = 'in_progress', stage = 'sent', attempts = attempts + 1, "
        "started_at = COALESCE(started_at, :now) "
        "WHERE id = :id AND epoch = :epoch AND state IN ('queued', 'in_progress')",
        {"id": job.id, "epoch": job.epoch, "now": tx.now_ms},
    )
    if not changed:
        return False
    tx.execute(
        "INSERT INTO attempt (job_id, epoch, k, account, limiter_group, sent_at, channel, "
        "price_micros, input_images) VALUES (:id, :epoch, :k, :account, :group, :now, :channel, "
        ":price, :inputs)",
        {
            "id": job.id,
            "epoch": job.epoch,
            "k": k,
            "account": account,
            "group": group,
            "now": tx.now_ms,
            "channel": job.request.channel,
            "price": job.price_micros,
            "inputs": input_images,
        },
    )
    return True


def end(
    tx: Transaction,
    job_id: str,
    epoch: int,
    k: int,
    *,
    outcome: str,
    code: str | None,
    sold: bool | None,
    upstream_request_id: str | None,
) -> None:
    """Journal how an attempt failed and whether the upstream has billed it (None: unknown)."""
    tx.execute(
        "UPDATE attempt SET outcome = :outcome, code = :code, sold = :sold, ended_at = :now, "
        "upstream_request_id = COALESCE(:request, upstream_request_id) "
        "WHERE job_id = :id AND epoch = :epoch AND k = :k",
        {
            "id": job_id,
            "epoch": epoch,
            "k": k,
            "outcome": outcome,
            "code": code,
            "sold": None if sold is None else int(sold),
            "now": tx.now_ms,
            "request": upstream_request_id,
        },
    )


def receive(
    tx: Transaction,
    job_id: str,
    epoch: int,
    k: int,
    received: Received,
    *,
    cost_micros: Micros | None = None,
) -> None:
    """Journal that a complete answer lies in the spool; from here on nothing is bought again.

    `cost_micros` is what the vendor bills for it, None where that is not known. It stays with the
    attempt even if its picture turns out to be unusable.
    """
    usage = None if received.usage is None else msgspec.json.encode(received.usage).decode()
    tx.execute(
        "UPDATE attempt SET outcome = 'ok', sold = 1, ended_at = :now, digest = :digest, "
        "bytes = :bytes, upstream_request_id = COALESCE(:request, upstream_request_id), "
        "usage = COALESCE(:usage, usage), "
        "vendor_cost_micros = COALESCE(:cost, vendor_cost_micros) "
        "WHERE job_id = :id AND epoch = :epoch AND k = :k",
        {
            "id": job_id,
            "epoch": epoch,
            "k": k,
            "now": tx.now_ms,
            "digest": received.digest,
            "bytes": received.bytes,
            "request": received.upstream_request_id,
            "usage": usage,
            "cost": cost_micros,
        },
    )
    tx.execute(
        "UPDATE job SET stage = 'received', usage = COALESCE(:usage, usage) "
        "WHERE id = :id AND state IN ('queued', 'in_progress')",
        {"id": job_id, "usage": usage},
    )


def lose(tx: Transaction, job_id: str) -> None:
    """Mark attempts whose process died as lost; the upstream may have billed them or not."""
    tx.execute(
        "UPDATE attempt SET outcome = 'lost', sold = NULL, ended_at = :now "
        "WHERE job_id = :id AND outcome IS NULL",
        {"id": job_id, "now": tx.now_ms},
    )


class Waste(msgspec.Struct, frozen=True):
    """Images that upstreams sold and nobody was given: probably billed, and perhaps billed."""

    sold: int
    unknown: int


def waste(tx: Transaction) -> dict[str, Waste]:
    """Return the waste by account."""
    rows = tx.all(
        "SELECT account, SUM(CASE WHEN sold = 1 AND settled = 0 THEN 1 ELSE 0 END) AS sold, "
        "SUM(CASE WHEN sold IS NULL AND settled = 0 THEN 1 ELSE 0 END) AS unknown "
        "FROM attempt WHERE ended_at IS NOT NULL GROUP BY account"
    )
    return {row["account"]: Waste(row["sold"], row["unknown"]) for row in rows}
