"""Owners: to which process each open job is leased, and for how long it may be.

Owns the narrow reads of the open rows of `job` by which ownership is watched: thousands of jobs may
be open, so no prompt is read here. Taking a job over is a change of its state and stays with the
others in `jobs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

import msgspec

from safelight.db import Row, Transaction
from safelight.types import LANE_OWNER

_LEASED = f"lease_owner IS NOT NULL AND lease_owner <> '{LANE_OWNER}'"
"""In the words of the index, which has no job in it that is with a vendor's Batch API."""
ASK_MAX = 500
"""Most jobs that one question names."""


class OpenJob(msgspec.Struct, frozen=True):
    """An open job as a watcher sees it; `owner` is empty where it is leased to nobody."""

    id: str
    owner: str
    epoch: int
    planned_s: float
    """How long it may be open, from when a process first had it to its deadline."""
    deadline_at: int
    """Milliseconds since 1970."""
    unwanted: bool = False
    """Whether its customer has asked that it be cancelled."""


_OPEN_JOB = (
    "SELECT id, COALESCE(lease_owner, '') AS owner, epoch, deadline_at, "
    "COALESCE(taken_at, created_at) AS began_at, cancel_requested_at FROM job "
)


def open_jobs(tx: Transaction) -> list[OpenJob]:
    """Return every open job that is leased to a process."""
    rows = tx.all(_OPEN_JOB + f"WHERE state IN ('queued', 'in_progress') AND {_LEASED}")
    return [_open_job(row) for row in rows]


def overdue_in_queue(tx: Transaction, *, before_ms: int, limit: int) -> list[OpenJob]:
    """Return jobs that nobody has begun and whose deadline was before that, the latest last."""
    rows = tx.all(
        _OPEN_JOB + "WHERE state = 'queued' AND lease_owner IS NULL AND deadline_at < :before "
        "ORDER BY deadline_at, id LIMIT :limit",
        {"before": before_ms, "limit": limit},
    )
    return [_open_job(row) for row in rows]


def _open_job(row: Row) -> OpenJob:
    return OpenJob(
        row["id"],
        row["owner"],
        row["epoch"],
        (row["deadline_at"] - row["began_at"]) / 1000,
        row["deadline_at"],
        row["cancel_requested_at"] is not None,
    )


def of_open_jobs(tx: Transaction) -> set[str]:
    """Return the processes to which open jobs are leased."""
    rows = tx.all(
        "SELECT DISTINCT lease_owner AS owner FROM job "
        f"WHERE state IN ('queued', 'in_progress') AND {_LEASED}"
    )
    return {row["owner"] for row in rows}


def open_among(tx: Transaction, job_ids: Collection[str]) -> set[str]:
    """Return those of the named jobs that have not ended."""
    found: set[str] = set()
    rest = iter(job_ids)
    for names in _named(rest):
        places = ", ".join(f":{name}" for name in names)
        rows = tx.all(
            f"SELECT id FROM job WHERE state IN ('queued', 'in_progress') AND id IN ({places})",
            names,
        )
        found.update(row["id"] for row in rows)
    return found


def _named(job_ids: Iterator[str]) -> Iterator[dict[str, str]]:
    while some := list(islice(job_ids, ASK_MAX)):
        yield {f"id{place}": job_id for place, job_id in enumerate(some)}
