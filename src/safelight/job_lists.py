"""Many jobs at a look: pages of a customer's list, signs of change, the line of those that wait.

Owns the questions that read only a few columns of many jobs and answer with ids; the jobs
themselves are read by jobs.py. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from safelight.db import Row, Transaction
from safelight.types import Job, JobState

LINE_MAX = 20_000
"""Most waiting jobs that are put in line; those behind have no place yet."""

Sign = tuple[object, ...]
"""Of equal signs of a job, nothing that its watchers are told has changed between them."""


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs of a customer; times in milliseconds since 1970, both bounds included."""

    states: tuple[JobState, ...] = ()
    channel: str | None = None
    request_id: str | None = None
    batch_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


def page(
    tx: Transaction,
    customer_id: str | None,
    chosen: JobFilter,
    *,
    after: str | None,
    newest_first: bool,
    limit: int,
) -> list[str]:
    """Return the ids of a customer's jobs, or of everybody's, in the order of their acceptance.

    Args:
        tx: a transaction.
        customer_id: whose; None: everybody's.
        chosen: which of them.
        after: id of the last job already seen, which need not be one of the chosen.
        newest_first: whether to go back in time.
        limit: most ids to return.

    Raises:
        LookupError: the customer has no job `after`.
    """
    conditions = ["created_at >= 0"] if customer_id is None else ["customer_id = :customer"]
    values: dict[str, object] = {"customer": customer_id, "limit": limit}
    # Everybody's are found by state: that is the index which has them in order.
    states = chosen.states or (tuple(JobState) if customer_id is None else ())
    for condition, name, value in (
        ("channel = :channel", "channel", chosen.channel),
        ("request_id = :request", "request", chosen.request_id),
        ("batch_id = :batch", "batch", chosen.batch_id),
        ("created_at >= :from", "from", chosen.from_ms),
        ("created_at <= :to", "to", chosen.to_ms),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = value
    if after is not None:
        seen = _place(tx, customer_id, after)
        beyond = "<" if newest_first else ">"
        # The first bound is implied by the others; it is what an index can use.
        conditions.append(
            f"created_at {beyond}= :at AND (created_at {beyond} :at OR id {beyond} :seen)"
        )
        values |= {"at": seen["created_at"], "seen": after}
    way = "DESC" if newest_first else "ASC"
    order = f"ORDER BY created_at {way}, id {way} LIMIT :limit"
    if not states:
        rows = tx.all(f"SELECT id FROM job WHERE {' AND '.join(conditions)} {order}", values)
        return [row["id"] for row in rows]
    # A page of each state, and of these pages the first: an index has each in its order, but not
    # all of them together, and would read every job of theirs to sort it.
    each = f"SELECT id, created_at FROM job WHERE {' AND '.join(conditions)} AND "
    found = []
    for state in set(states):
        # Those of one customer are found by an index with the state in it, everybody's by an index
        # of one state, which no database takes for a value that it learns later.
        chosen_state = "state = :state" if customer_id else _STATE_ALONE[state]
        found += tx.all(f"{each}{chosen_state} {order}", {**values, "state": str(state)})
    found.sort(key=lambda row: (row["created_at"], row["id"]), reverse=newest_first)
    return [row["id"] for row in found[:limit]]


_OPEN = "state IN ('queued', 'in_progress')"
_STATE_ALONE = {
    state: f"state = '{state}'" if state.terminal else f"state = '{state}' AND {_OPEN}"
    for state in JobState
}


def _place(tx: Transaction, customer_id: str | None, job_id: str) -> Row:
    row = tx.one("SELECT created_at, customer_id FROM job WHERE id = :id", {"id": job_id})
    if row is None or customer_id not in (None, row["customer_id"]):
        raise LookupError(job_id)
    return row


def signs(tx: Transaction, job_ids: Sequence[str]) -> dict[str, Sign]:
    """Return, by id, what changes whenever something happens to a job or to one of its attempts."""
    if not job_ids:
        return {}
    names = {f"id{place}": job_id for place, job_id in enumerate(job_ids)}
    rows = tx.all(
        "SELECT j.id, j.state, j.stage, j.epoch, j.attempts, j.started_at, j.cancel_requested_at, "
        "(SELECT COUNT(*) FROM attempt a WHERE a.job_id = j.id AND a.ended_at IS NOT NULL) "
        "AS ended "
        f"FROM job j WHERE j.id IN ({', '.join(':' + name for name in names)})",
        names,
    )
    return {row["id"]: tuple(row[key] for key in _SIGNS) for row in rows}


_SIGNS = ("state", "stage", "epoch", "attempts", "started_at", "cancel_requested_at", "ended")


class Line(msgspec.Struct, frozen=True):
    """The waiting jobs of all channels, in the order in which they probably go.

    Args:
        places: by job, how many of the same channel are before it.
        lengths: by channel, how many wait.
        at: when it was looked at, milliseconds since 1970.
    """

    places: dict[str, int]
    lengths: dict[str, int]
    at: int

    def place_of(self, job: Job) -> int | None:
        """Return how many are before a queued job; None: it is in no line, or too far behind.

        One that came after the look is behind all that were there.
        """
        if job.id in self.places:
            return self.places[job.id]
        return self.lengths.get(job.request.channel, 0) if job.created_at > self.at else None


def line(tx: Transaction) -> Line:
    """Return the jobs that wait for a process.

    Those of a more urgent class go first, then the lower priority, then the older one. It is an
    estimate: customers take turns, and who comes later may have more urgent ones.
    """
    rows = tx.all(
        "SELECT id, channel FROM job WHERE state = 'queued' AND lease_owner IS NULL "
        "ORDER BY CASE job_class WHEN 'interactive' THEN 0 WHEN 'job' THEN 1 ELSE 2 END, "
        "priority, created_at, id LIMIT :limit",
        {"limit": LINE_MAX},
    )
    found = Line({}, {}, tx.now_ms)
    for row in rows:
        before = found.lengths.get(row["channel"], 0)
        found.places[row["id"]] = before
        found.lengths[row["channel"]] = before + 1
    return found


def count_failed(tx: Transaction, request_id: str) -> int:
    """Return how many jobs of a request have ended without a picture, by a failure."""
    row = tx.one(
        "SELECT COUNT(*) AS jobs FROM job WHERE request_id = :request AND failure IS NOT NULL",
        {"request": request_id},
    )
    return 0 if row is None else int(row["jobs"])
