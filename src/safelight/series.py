"""Series: what happened in each minute, hour or day, for plots.

Owns the sums over ended jobs, attempts and checks of links by the time they ended or were sent.
Each is read from one span of one index (`job_ended`, `attempt_by_time`), and a span has a bounded
number of steps, so that no plot reads the books from their beginning. Changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from safelight.db import Row, Transaction
from safelight.quantiles import seconds_within
from safelight.types import Micros

Step = Literal["minute", "hour", "day"]
STEP_S: dict[Step, int] = {"minute": 60, "hour": 3600, "day": 86_400}
POINTS_MAX = 1500
"""Most steps of one series: a day of minutes, two months of hours, four years of days."""

_HIDEABLE = ("throttled", "quota", "auth", "capability", "fast", "slow", "bad_output", "local")
"""Faults that another attempt may absorb; the caller's own and processes that died are not."""


class TooMany(Exception):
    """The span has more steps than a series may have."""


@dataclass(kw_only=True)
class Point:
    """One step. `at` is its beginning, unix seconds; money in micro-dollars.

    Attributes:
        completed: jobs that ended with a picture.
        failed: that ended without one, and were not cancelled.
        visible: of those the ones that callers saw as 429 or 5xx.
        attempts: upstream calls that were sent.
        outcomes: their ends, `ok`, a fault class, `lost` or `superseded`.
        hidden_errors: failed attempts of jobs that ended with a picture.
        throttled: those of them that were a vendor's 429.
        settled_micros: prices of the completed jobs.
        vendor_cost_micros: known cost of the attempts.
        links_tried: downloads of links from outside.
        links_good: those of them that brought the right bytes.
    """

    at: int
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    visible: int = 0
    attempts: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    hidden_errors: int = 0
    throttled: int = 0
    settled_micros: Micros = 0
    vendor_cost_micros: Micros = 0
    links_tried: int = 0
    links_good: int = 0
    milliseconds: Counter[int] = field(default_factory=Counter)
    """How long pictures took from the first attempt to the end, in steps of a hundredth."""

    def seconds(self, share: float) -> float | None:
        """Return the time within which `share` of the pictures were made; None: there were none."""
        return seconds_within(self.milliseconds, share)

    @property
    def link_success(self) -> float | None:
        """Share of the downloads from outside that were right; None: none was tried."""
        return self.links_good / self.links_tried if self.links_tried else None

    @property
    def mean_s(self) -> float | None:
        """How long pictures took on average, seconds."""
        made = self.milliseconds.total()
        whole = sum(step * count for step, count in self.milliseconds.items())
        return whole / made / 1000 if made else None


def read(tx: Transaction, step: Step, *, from_s: int, to_s: int) -> list[Point]:
    """Return a point for each step of a span, empty ones too.

    Args:
        tx: a transaction.
        step: how long a step is; steps begin on whole ones of unix time (days in UTC).
        from_s: inclusive lower bound, unix seconds; the step it lies in is shown whole.
        to_s: exclusive upper bound.

    Raises:
        TooMany: there are more than `POINTS_MAX` steps.
    """
    length_s = STEP_S[step]
    first, last = from_s // length_s, -(-to_s // length_s)
    if last - first > POINTS_MAX:
        raise TooMany(f"{last - first} steps; at most {POINTS_MAX}")
    points = {at: Point(at=at * length_s) for at in range(first, last)}
    values = {
        "step": length_s * 1000,
        "from": first * length_s * 1000,
        "to": last * length_s * 1000,
    }
    for row in tx.all(_ENDED, values):
        _add_jobs(points[row["at"]], row)
    for row in tx.all(_VISIBLE, {**values, **_SERVER_FAULTS}):
        points[row["at"]].visible += row["jobs"]
    for row in tx.all(_SENT, values):
        _add_attempts(points[row["at"]], row)
    for row in tx.all(_CHECKED, values):
        points[row["step"]].links_tried = row["tried"]
        points[row["step"]].links_good = row["good"]
    return [points[at] for at in range(first, last)]


class EndedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that ended a moment ago. `completed_at` in milliseconds since 1970."""

    id: str
    customer_id: str
    channel: str
    state: str
    completed_at: int


def ended_between(
    tx: Transaction, *, from_ms: int, to_ms: int, sample: int
) -> tuple[dict[str, int], list[EndedJob]]:
    """Return how many jobs ended in a span, by state, and the newest of them.

    Args:
        tx: a transaction.
        from_ms: inclusive lower bound, milliseconds since 1970.
        to_ms: exclusive upper bound.
        sample: most jobs to return.
    """
    values = {"from": from_ms, "to": to_ms, "limit": sample}
    span = "FROM job WHERE completed_at >= :from AND completed_at < :to "
    counts = tx.all(f"SELECT state, COUNT(*) AS jobs {span}GROUP BY state", values)
    rows = tx.all(
        f"SELECT id, customer_id, channel, state, completed_at {span}"
        "ORDER BY completed_at DESC, id LIMIT :limit",
        values,
    )
    return {row["state"]: row["jobs"] for row in counts}, [EndedJob(**dict(row)) for row in rows]


_TOOK = "(completed_at - started_at)"
# As in the figures of accounts: 10 ms below a second, 0.1 s below 20 s, 0.5 s beyond.
_ENDED = (
    "SELECT completed_at / :step AS at, state, "
    "CASE WHEN state <> 'completed' OR started_at IS NULL THEN NULL "
    f"WHEN {_TOOK} < 1000 THEN {_TOOK} / 10 * 10 WHEN {_TOOK} < 20000 "
    f"THEN {_TOOK} / 100 * 100 ELSE {_TOOK} / 500 * 500 END AS took, COUNT(*) AS jobs, "
    "CAST(SUM(price_micros) AS BIGINT) AS price FROM job "
    "WHERE completed_at >= :from AND completed_at < :to "
    "GROUP BY completed_at / :step, state, took"
)
_VISIBLE = (
    "SELECT completed_at / :step AS at, COUNT(*) AS jobs FROM job "
    "WHERE completed_at >= :from AND completed_at < :to AND state = 'failed' "
    "AND (failure LIKE :server OR failure LIKE :busy) GROUP BY completed_at / :step"
)
# A quote inside a message is escaped in JSON, so that no words of an upstream look like this.
_SERVER_FAULTS = {"server": '%"status":5__,%', "busy": '%"status":429,%'}
_SENT = (
    "SELECT a.sent_at / :step AS at, a.outcome, j.state, COUNT(*) AS attempts, "
    "CAST(COALESCE(SUM(a.vendor_cost_micros), 0) AS BIGINT) AS cost FROM attempt a "
    "JOIN job j ON j.id = a.job_id WHERE a.sent_at >= :from AND a.sent_at < :to "
    "GROUP BY a.sent_at / :step, a.outcome, j.state"
)

_CHECKED = (
    "SELECT at / :step AS step, CAST(SUM(tried) AS BIGINT) AS tried, "
    "CAST(SUM(good) AS BIGINT) AS good FROM link_check WHERE at >= :from AND at < :to "
    "GROUP BY at / :step"
)


def _add_jobs(point: Point, row: Row) -> None:
    match row["state"]:
        case "completed":
            point.completed += row["jobs"]
            point.settled_micros += row["price"]
            if row["took"] is not None:
                point.milliseconds[row["took"]] += row["jobs"]
        case "failed":
            point.failed += row["jobs"]
        case _:
            point.cancelled += row["jobs"]


def _add_attempts(point: Point, row: Row) -> None:
    point.attempts += row["attempts"]
    point.vendor_cost_micros += row["cost"]
    outcome = row["outcome"]
    if outcome is None:
        return
    point.outcomes[outcome] += row["attempts"]
    if row["state"] == "completed" and outcome in _HIDEABLE:
        point.hidden_errors += row["attempts"]
        if outcome == "throttled":
            point.throttled += row["attempts"]
