"""Requests, jobs, attempts and images: their rows and every change of state.

Each verb is a function on an open transaction with its guard in the WHERE: success is taken from
any epoch while the job is open, failure only from the epoch that owns the job (docs/ledger.md says
why). This module moves no money and decides nothing; the gateway calls it beside the ledger in one
transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from safelight import image_rows
from safelight.db import Row, Transaction
from safelight.types import (
    LANE_OWNER,
    BlobRef,
    ImageRecord,
    ImageRequest,
    Job,
    JobClass,
    JobFailure,
    JobState,
    Metadata,
    Micros,
    SizePlan,
    Stage,
    Usage,
)

_JOB_COLUMNS = (
    f"SELECT j.*, {image_rows.COLUMNS} "
    "FROM job j JOIN customer c ON c.id = j.customer_id LEFT JOIN image i ON i.id = j.image_id "
    "LEFT JOIN persisting p ON p.image_id = i.id "
)

_REQUESTS = msgspec.json.Decoder(ImageRequest)
_SIZE_PLANS = msgspec.json.Decoder(SizePlan)

_LEASED = f"lease_owner IS NOT NULL AND lease_owner <> '{LANE_OWNER}'"
"""Of jobs that a process runs: in the words of the index, which has no other job in it."""


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the join rules see it. Times in milliseconds since 1970."""

    id: str
    customer_id: str
    key_id: str
    route: str
    fingerprint: bytes
    idempotency_key: str | None
    retry_of: str | None
    retry_count: int
    attached_by: str | None
    attached_until: int
    n: int
    created_at: int
    delivered_at: int | None
    batch_id: str | None = None


def insert_request(tx: Transaction, request: RequestRow) -> None:
    """Insert a request; its jobs follow in the same transaction.

    Raises:
        UniqueViolation: the Idempotency-Key is taken.
    """
    tx.execute(
        "INSERT INTO request (id, customer_id, key_id, route, fingerprint, idempotency_key, "
        "retry_of, retry_count, attached_by, attached_until, n, created_at, delivered_at, "
        "batch_id) VALUES (:id, :customer_id, :key_id, :route, :fingerprint, :idempotency_key, "
        ":retry_of, :retry_count, :attached_by, :attached_until, :n, :created_at, :delivered_at, "
        ":batch_id)",
        msgspec.structs.asdict(request),
    )


def insert_job(  # noqa: PLR0913  (the columns of one row)
    tx: Transaction,
    *,
    job_id: str,
    request: RequestRow,
    n: int,
    order: ImageRequest,
    size_plan: SizePlan,
    price_micros: Micros,
    reserve_id: str,
    lease_owner: str | None,
    deadline_at: int,
    budget_day: str,
    job_class: JobClass = JobClass.INTERACTIVE,
    priority: int = 100,
    not_before: int | None = None,
    batch_id: str | None = None,
    metadata: Metadata = (),
) -> None:
    """Insert one job, queued: leased to the process that will run it, or to nobody yet."""
    tx.execute(
        "INSERT INTO job (id, request_id, customer_id, key_id, n, channel, size, state, "
        "request, size_plan, price_micros, reserve_id, epoch, lease_owner, deadline_at, "
        "created_at, budget_day, job_class, priority, not_before, batch_id, metadata) VALUES "
        "(:id, :request_id, :customer_id, :key_id, :n, :channel, "
        ":size, 'queued', :request, :size_plan, :price_micros, :reserve_id, 1, "
        ":lease_owner, :deadline_at, :now, :budget_day, :job_class, :priority, :not_before, "
        ":batch_id, :metadata)",
        {
            "id": job_id,
            "request_id": request.id,
            "customer_id": request.customer_id,
            "key_id": request.key_id,
            "n": n,
            "channel": order.channel,
            "size": order.size,
            "request": _json(order),
            "size_plan": _json(size_plan),
            "price_micros": price_micros,
            "reserve_id": reserve_id,
            "lease_owner": lease_owner,
            "deadline_at": deadline_at,
            "now": tx.now_ms,
            "budget_day": budget_day,
            "job_class": job_class,
            "priority": priority,
            "not_before": not_before,
            "batch_id": batch_id,
            "metadata": _json(dict(metadata)) if metadata else None,
        },
    )


def get_job(tx: Transaction, job_id: str) -> Job | None:
    """Return a job with its image, or None."""
    row = tx.one(_JOB_COLUMNS + "WHERE j.id = :id", {"id": job_id})
    return None if row is None else _job(row)


def jobs_of(tx: Transaction, request_id: str) -> tuple[Job, ...]:
    """Return a request's jobs in order."""
    rows = tx.all(
        _JOB_COLUMNS + "WHERE j.request_id = :request ORDER BY j.n", {"request": request_id}
    )
    return tuple(_job(row) for row in rows)


def open_jobs_of(tx: Transaction, owners: Collection[str], *, limit: int) -> list[tuple[str, Job]]:
    """Return open jobs leased to one of these processes, with their owners.

    At most `limit`, each customer's oldest first: nobody's thousand jobs hold up another's one.
    """
    if not owners or limit < 1:
        return []
    names = {f"owner{place}": owner for place, owner in enumerate(sorted(owners))}
    rows = tx.all(
        _JOB_COLUMNS + "JOIN (SELECT id, created_at, "
        "ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY created_at, id) AS turn FROM job "
        "WHERE state IN ('queued', 'in_progress') "
        f"AND {_LEASED} AND lease_owner IN ({', '.join(':' + name for name in names)}) "
        "ORDER BY turn, created_at, id LIMIT :limit) o ON o.id = j.id "
        "ORDER BY o.turn, o.created_at, o.id",
        {**names, "limit": limit},
    )
    return [(row["lease_owner"], _job(row)) for row in rows]


def open_job_ids(tx: Transaction, *, until_ms: int) -> list[str]:
    """Return the ids of all open jobs that were accepted by then."""
    rows = tx.all(
        "SELECT id FROM job WHERE state IN ('queued', 'in_progress') AND created_at <= :until "
        "ORDER BY created_at, id",
        {"until": until_ms},
    )
    return [row["id"] for row in rows]


def requests_since(tx: Transaction, key_id: str, *, since_ms: int, until_ms: int) -> int:
    """Return how many requests of a key came in a time, without `since_ms` and batches' lines."""
    row = tx.one(
        "SELECT COUNT(*) AS requests FROM request WHERE key_id = :key "
        "AND created_at > :since AND created_at <= :until AND batch_id IS NULL",
        {"key": key_id, "since": since_ms, "until": until_ms},
    )
    return 0 if row is None else int(row["requests"])


def time_of_request(tx: Transaction, key_id: str, *, back: int, until_ms: int) -> int | None:
    """Return when the key's newest request but `back` came; None: there are not so many."""
    row = tx.one(
        "SELECT created_at FROM request "
        "WHERE key_id = :key AND created_at <= :until AND batch_id IS NULL "
        "ORDER BY created_at DESC LIMIT 1 OFFSET :back",
        {"key": key_id, "back": back, "until": until_ms},
    )
    return None if row is None else row["created_at"]


def count_open_of_key(tx: Transaction, key_id: str) -> int:
    """Return how many jobs of a key are leased to a process and have not ended."""
    row = tx.one(
        "SELECT COUNT(*) AS jobs FROM job WHERE key_id = :key "
        f"AND state IN ('queued', 'in_progress') AND {_LEASED}",
        {"key": key_id},
    )
    return 0 if row is None else int(row["jobs"])


def oldest_open_of_key(tx: Transaction, key_id: str, *, limit: int) -> tuple[Job, ...]:
    """Return the jobs of a key that have been open longest, of those that somebody runs."""
    rows = tx.all(
        _JOB_COLUMNS + "WHERE j.key_id = :key AND j.state IN ('queued', 'in_progress') "
        f"AND {_LEASED} "
        "ORDER BY j.created_at, j.n LIMIT :limit",
        {"key": key_id, "limit": limit},
    )
    return tuple(_job(row) for row in rows)


def among(tx: Transaction, job_ids: Sequence[str], *, ended: bool = False) -> list[Job]:
    """Return the named jobs in no order, or those of them that have ended."""
    if not job_ids:
        return []
    names = {f"id{place}": job_id for place, job_id in enumerate(job_ids)}
    which = "AND j.state NOT IN ('queued', 'in_progress')" if ended else ""
    rows = tx.all(
        _JOB_COLUMNS + f"WHERE j.id IN ({', '.join(':' + name for name in names)}) {which}", names
    )
    return [_job(row) for row in rows]


def get_image(tx: Transaction, image_id: str) -> ImageRecord | None:
    """Return an image of any customer, or None."""
    row = tx.one(
        # By its job, which is found by its id: asked for the image alone, all jobs would be read.
        _JOB_COLUMNS + "WHERE j.id = (SELECT job_id FROM image WHERE id = :id) AND i.id = :id",
        {"id": image_id},
    )
    return None if row is None else image_rows.record(row)


def take_over(tx: Transaction, job: Job, *, dead: str, owner: str) -> bool:
    """Lease an open job of a dead process to `owner` under a new epoch.

    False when it has ended or another process has taken it since `job` was read.
    """
    return bool(
        tx.execute(
            "UPDATE job SET epoch = epoch + 1, lease_owner = :owner WHERE id = :id "
            "AND state IN ('queued', 'in_progress') "
            "AND COALESCE(lease_owner, '') = :dead AND epoch = :epoch",
            {"id": job.id, "owner": owner, "dead": dead, "epoch": job.epoch},
        )
    )


def advance(tx: Transaction, job_id: str, stage: Stage) -> None:
    """Journal that an open job has finished a stage."""
    tx.execute(
        "UPDATE job SET stage = :stage WHERE id = :id AND state IN ('queued', 'in_progress')",
        {"id": job_id, "stage": stage},
    )


def complete(
    tx: Transaction,
    job: Job,
    *,
    epoch: int,
    k: int,
    image_id: str,
    blob: BlobRef,
    link_ttl_s: int,
    keep_s: int | None = None,
) -> bool:
    """End a job with its image, from any epoch; False when it has ended before.

    The image expires after `keep_s` seconds; None: it does not.
    """
    changed = tx.execute(
        "UPDATE job SET state = 'completed', stage = 'settled', image_id = :image, "
        "completed_at = :now, lease_owner = NULL, usage = COALESCE((SELECT a.usage FROM attempt a "
        "WHERE a.job_id = job.id AND a.epoch = :epoch AND a.k = :k), usage) "
        "WHERE id = :id AND state IN ('queued', 'in_progress')",
        {"id": job.id, "image": image_id, "now": tx.now_ms, "epoch": epoch, "k": k},
    )
    if not changed:
        return False
    tx.execute(
        "UPDATE attempt SET settled = 1 WHERE job_id = :id AND epoch = :epoch AND k = :k",
        {"id": job.id, "epoch": epoch, "k": k},
    )
    tx.execute(
        "INSERT INTO image (id, job_id, customer_id, digest, bytes, format, width, height, "
        "has_alpha, link_ttl_s, created_at, expires_at) VALUES (:id, :job, :customer, :digest, "
        ":bytes, :format, :width, :height, :has_alpha, :ttl, :now, :expires)",
        {
            **msgspec.structs.asdict(blob),
            "id": image_id,
            "job": job.id,
            "customer": job.customer_id,
            "has_alpha": int(blob.has_alpha),
            "ttl": link_ttl_s,
            "now": tx.now_ms,
            "expires": None if keep_s is None else tx.now_ms + keep_s * 1000,
        },
    )
    return True


def fail(tx: Transaction, job: Job, failure: JobFailure, *, cancelled: JobFailure) -> bool:
    """End a job without an image, from its current epoch only; False otherwise.

    One that its customer wanted cancelled ends as that, in the words of `cancelled`.
    """
    return bool(
        tx.execute(
            "UPDATE job SET "
            "state = CASE WHEN cancel_requested_at IS NULL THEN 'failed' ELSE 'cancelled' END, "
            "failure = CASE WHEN cancel_requested_at IS NULL THEN :failure ELSE :cancelled END, "
            "completed_at = :now, lease_owner = NULL WHERE id = :id AND "
            "(state = 'queued' OR state = 'in_progress') AND epoch = :epoch",
            {
                "id": job.id,
                "epoch": job.epoch,
                "failure": _json(failure),
                "cancelled": _json(cancelled),
                "now": tx.now_ms,
            },
        )
    )


def request_cancel(tx: Transaction, job_id: str) -> bool:
    """Note that an open job's customer does not want it any more; False when it has ended."""
    return bool(
        tx.execute(
            "UPDATE job SET cancel_requested_at = COALESCE(cancel_requested_at, :now) "
            "WHERE id = :id AND state IN ('queued', 'in_progress')",
            {"id": job_id, "now": tx.now_ms},
        )
    )


# --- who waits for a request ----------------------------------------------------------------


def request_by_idempotency_key(
    tx: Transaction, customer_id: str, route: str, key: str
) -> RequestRow | None:
    """Return the request that owns an Idempotency-Key, or None."""
    row = tx.one(
        "SELECT * FROM request WHERE customer_id = :customer AND route = :route "
        "AND idempotency_key = :key",
        {"customer": customer_id, "route": route, "key": key},
    )
    return None if row is None else _request(row)


def free_idempotency_key(tx: Transaction, request_id: str) -> None:
    """Let the key be used by a new request (the old one failed retryably, or is too old)."""
    tx.execute("UPDATE request SET idempotency_key = NULL WHERE id = :id", {"id": request_id})


def requests_to_join(
    tx: Transaction, *, key_id: str, fingerprint: bytes, since_ms: int, below_retry_count: int
) -> list[RequestRow]:
    """Return undelivered requests of equal body whose newest caller came before this retry.

    The call that the retry repeats had the count before: those come first, older ones first.
    """
    rows = tx.all(
        "SELECT * FROM request WHERE key_id = :key AND fingerprint = :fingerprint "
        "AND created_at >= :since AND delivered_at IS NULL AND retry_count < :count "
        "AND idempotency_key IS NULL "
        "ORDER BY retry_count DESC, created_at, id",
        {"key": key_id, "fingerprint": fingerprint, "since": since_ms, "count": below_retry_count},
    )
    return [_request(row) for row in rows]


def claim_request(
    tx: Transaction, request: RequestRow, *, owner: str, retry_count: int, until: int
) -> bool:
    """Attach a retry to a request, once per retry count; False when another was faster."""
    return bool(
        tx.execute(
            "UPDATE request SET attached_by = :owner, retry_count = :count, "
            "attached_until = :until "
            "WHERE id = :id AND retry_count = :seen AND delivered_at IS NULL",
            {
                "id": request.id,
                "owner": owner,
                "count": retry_count,
                "until": until,
                "seen": request.retry_count,
            },
        )
    )


def detach_request(tx: Transaction, request_id: str, *, retry_count: int) -> None:
    """Say that the caller who came with `retry_count` is gone without its answer."""
    tx.execute(
        "UPDATE request SET attached_by = NULL WHERE id = :id AND retry_count = :count",
        {"id": request_id, "count": retry_count},
    )


def deliver_request(tx: Transaction, request_id: str, *, retry_count: int) -> None:
    """Say that the whole answer was written to the caller who came with `retry_count`.

    An older caller's connection, which a proxy may have kept, ends nothing: its retry waits.
    """
    values = {"id": request_id, "now": tx.now_ms, "count": retry_count}
    tx.execute(
        "UPDATE request SET delivered_at = COALESCE(delivered_at, :now), attached_by = NULL "
        "WHERE id = :id AND retry_count = :count",
        values,
    )
    tx.execute(
        "UPDATE job SET delivered_at = :now "
        "WHERE request_id = :id AND delivered_at IS NULL AND state = 'completed'",
        values,
    )


# --- what the statement and the witnesses ask -----------------------------------------------


def statement_details(tx: Transaction, job_ids: list[str]) -> dict[str, Row]:
    """Return, by job id, what a statement line says of a job."""
    if not job_ids:
        return {}
    names = {f"id{place}": job_id for place, job_id in enumerate(job_ids)}
    rows = tx.all(
        "SELECT j.id, j.request_id, j.channel, j.size, j.size_plan, j.attempts, "
        "i.digest, i.width, i.height FROM job j LEFT JOIN image i ON i.id = j.image_id "
        f"WHERE j.id IN ({', '.join(':' + name for name in names)})",
        names,
    )
    return {row["id"]: row for row in rows}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _request(row: Row) -> RequestRow:
    return RequestRow(**{key: row[key] for key in RequestRow.__struct_fields__})


def _job(row: Row) -> Job:
    return Job(
        id=row["id"],
        request_id=row["request_id"],
        customer_id=row["customer_id"],
        key_id=row["key_id"],
        n=row["n"],
        state=JobState(row["state"]),
        stage=None if row["stage"] is None else Stage(row["stage"]),
        request=_REQUESTS.decode(row["request"]),
        size_plan=_SIZE_PLANS.decode(row["size_plan"]),
        price_micros=row["price_micros"],
        reserve_id=row["reserve_id"],
        epoch=row["epoch"],
        deadline_at=row["deadline_at"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        attempts=row["attempts"],
        image=None if row["i_id"] is None else image_rows.record(row),
        failure=_optional(row["failure"], JobFailure),
        usage=_optional(row["usage"], Usage),
        delivered_at=row["delivered_at"],
        budget_day=row["budget_day"],
        job_class=JobClass(row["job_class"]),
        priority=row["priority"],
        not_before=row["not_before"],
        cancel_requested_at=row["cancel_requested_at"],
        batch_id=row["batch_id"],
        metadata=_pairs(row["metadata"]),
    )


def _pairs(text: str | None) -> Metadata:
    return () if text is None else tuple(msgspec.json.decode(text, type=dict[str, str]).items())


def _optional(text: str | None, kind: type[Any]) -> Any:
    return None if text is None else msgspec.json.decode(text, type=kind)
