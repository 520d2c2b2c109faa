"""Attempts: one row for each upstream call, written before its first byte leaves.

Owns the rows of `attempt` and what is counted from them: what upstreams sold to nobody (the figures
of each account are read in accounts.py). Every verb is a function on an open transaction. This
module decides nothing, prices nothing and moves no money.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from safelight.db import Row, Transaction
from safelight.types import LANE_GROUP, Job, Micros, Received


def begin(
    tx: Transaction, job: Job, *, k: int, account: str, group: str, input_images: int = 0
) -> bool:
    """Journal that a call is about to leave; False when the job is not ours, or not wanted."""
    changed = tx.execute(
        "UPDATE job SET state = 'in_progress', stage = 'sent', attempts = attempts + 1, "
        "started_at = COALESCE(started_at, :now) "
        "WHERE id = :id AND epoch = :epoch AND state IN ('queued', 'in_progress') "
        "AND cancel_requested_at IS NULL",
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
    """Journal that a complete answer lies in the spool, before something long is done with it.

    `cost_micros` is what the vendor bills for it, None where that is not known. It stays with the
    attempt even if its picture turns out to be unusable.
    """
    usage = note_answer(tx, job_id, epoch, k, received, cost_micros=cost_micros)
    tx.execute(
        # Of the current epoch only: the stage is that of whoever is at work on the job now.
        "UPDATE job SET stage = 'received', usage = COALESCE(:usage, usage) "
        "WHERE id = :id AND epoch = :epoch AND state IN ('queued', 'in_progress')",
        {"id": job_id, "epoch": epoch, "usage": usage},
    )


def note_answer(
    tx: Transaction,
    job_id: str,
    epoch: int,
    k: int,
    received: Received,
    *,
    cost_micros: Micros | None = None,
) -> str | None:
    """Journal an attempt's complete answer alone; return its usage as it is kept."""
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
    return usage


def under_way(tx: Transaction, job_id: str) -> bool:
    """Return whether a call for the job is out, or has left a picture that may yet be delivered."""
    row = tx.one(
        "SELECT COUNT(*) AS calls FROM attempt "
        "WHERE job_id = :id AND (outcome IS NULL OR outcome = 'ok')",
        {"id": job_id},
    )
    return row is not None and bool(row["calls"])


def lose(tx: Transaction, job_id: str) -> None:
    """Mark attempts whose process died as lost; the upstream may have billed them or not."""
    tx.execute(
        "UPDATE attempt SET outcome = 'lost', sold = NULL, ended_at = :now "
        "WHERE job_id = :id AND outcome IS NULL",
        {"id": job_id, "now": tx.now_ms},
    )


def left_open(tx: Transaction, *, before_ms: int) -> list[str]:
    """Return jobs that ended before a moment and have attempts whose end nobody has journalled."""
    rows = tx.all(
        "SELECT DISTINCT a.job_id FROM attempt a JOIN job j ON j.id = a.job_id "
        "WHERE a.outcome IS NULL AND j.completed_at < :before",
        {"before": before_ms},
    )
    return sorted(row["job_id"] for row in rows)


class Waste(msgspec.Struct, frozen=True):
    """Images that upstreams sold and nobody was given: probably billed, and perhaps billed."""

    sold: int
    unknown: int


def waste(tx: Transaction) -> dict[str, Waste]:
    """Return the waste by account; what is still out for a job that has ended is unknown."""
    rows = tx.all(
        "SELECT a.account, "
        "SUM(CASE WHEN a.outcome IS NOT NULL AND a.sold = 1 THEN 1 ELSE 0 END) AS sold, "
        "SUM(CASE WHEN a.outcome IS NULL OR a.sold IS NULL THEN 1 ELSE 0 END) AS unknown "
        "FROM attempt a JOIN job j ON j.id = a.job_id WHERE a.settled = 0 "
        "AND (a.outcome IS NOT NULL OR j.completed_at IS NOT NULL) GROUP BY a.account"
    )
    return {row["account"]: Waste(row["sold"], row["unknown"]) for row in rows}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream call as it was journalled. Times in milliseconds since 1970.

    `outcome` is None while the call runs. `sold`: probably billed by the upstream; None: nobody can
    say (it runs, or it left and was not answered). `settled`: its picture is the customer's.
    """

    job_id: str
    epoch: int
    k: int
    account: str
    group: str
    sent_at: int
    ended_at: int | None
    outcome: str | None
    code: str | None
    sold: bool | None
    settled: bool
    upstream_request_id: str | None
    cost_micros: Micros | None
    digest: str | None = None
    """Of the file that was answered."""

    @property
    def seconds(self) -> float | None:
        """How long the call took, or None while it runs."""
        return None if self.ended_at is None else (self.ended_at - self.sent_at) / 1000


_READ = (
    "SELECT job_id, epoch, k, account, limiter_group, sent_at, ended_at, outcome, code, sold, "
    "settled, upstream_request_id, vendor_cost_micros, digest FROM attempt "
)


def of_jobs(tx: Transaction, job_ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
    """Return the attempts of some jobs by job, in the order in which they were sent."""
    if not job_ids:
        return {}
    names = {f"id{place}": job_id for place, job_id in enumerate(job_ids)}
    rows = tx.all(
        _READ + f"WHERE job_id IN ({', '.join(':' + name for name in names)}) "
        "ORDER BY job_id, sent_at, epoch, k",
        names,
    )
    found: dict[str, list[Attempt]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(_attempt(row))
    return {job_id: tuple(made) for job_id, made in found.items()}


def sent_between(
    tx: Transaction, *, account: str | None, group: str | None, from_ms: int, to_ms: int
) -> list[Attempt]:
    """Return what left for one account, or for one limiter group, in the order of leaving.

    Args:
        tx: a transaction.
        account: the account's name, or None.
        group: the limiter group's name, or None; one of both is given.
        from_ms: inclusive lower bound of the moment of leaving, milliseconds since 1970.
        to_ms: exclusive upper bound of it.
    """
    # What went to the vendor's Batch API is counted apart there, and billed to the same group.
    whose = "account = :name" if group is None else "limiter_group IN (:name, :name_batch)"
    rows = tx.all(
        _READ + f"WHERE {whose} AND sent_at >= :from AND sent_at < :to "
        "ORDER BY sent_at, job_id, epoch, k",
        {
            "name": account if group is None else group,
            "name_batch": f"{group}{LANE_GROUP}",
            "from": from_ms,
            "to": to_ms,
        },
    )
    return [_attempt(row) for row in rows]


def names(tx: Transaction) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the accounts and the limiter groups that anything has ever left for; it reads all."""
    rows = tx.all("SELECT DISTINCT account, limiter_group FROM attempt")
    accounts = {row["account"] for row in rows}
    groups = {row["limiter_group"].removesuffix(LANE_GROUP) for row in rows}
    return tuple(sorted(accounts)), tuple(sorted(groups))


def _attempt(row: Row) -> Attempt:
    known = row["outcome"] is not None and row["sold"] is not None
    return Attempt(
        job_id=row["job_id"],
        digest=row["digest"],
        epoch=row["epoch"],
        k=row["k"],
        account=row["account"],
        group=row["limiter_group"],
        sent_at=row["sent_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
        code=row["code"],
        sold=bool(row["sold"]) if known else None,
        settled=bool(row["settled"]),
        upstream_request_id=row["upstream_request_id"],
        cost_micros=row["vendor_cost_micros"],
    )
