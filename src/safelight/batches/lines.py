"""The lines of batches: their rows, and every change of state.

A line leaves `waiting` once, so what it orders is bought once: in the transaction that accepts its
request, or ends it without one. Its bytes stay in the input file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from safelight.batches import Superseded
from safelight.db import Row, Transaction
from safelight.types import JobFailure

INSERT_LINES = 200
"""Lines of one INSERT: 7 values each, of the 32,766 that SQLite takes."""
_UNENDED = "('queued', 'in_progress')"


class LineState(StrEnum):
    """What has become of a line."""

    WAITING = "waiting"
    UNDER_WAY = "under_way"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class AnswerForm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """In which form a line wants its pictures."""

    as_url: bool = True
    safety_identifier: str | None = None


class LineRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line; `start` and `length` in bytes of the file, without the line feed."""

    line: int
    id: str
    custom_id: str
    start: int
    length: int
    state: LineState = LineState.WAITING
    request_id: str | None = None
    answer: AnswerForm = AnswerForm()
    failure: JobFailure | None = None


def add_lines(tx: Transaction, batch_id: str, lines: Sequence[LineRow]) -> None:
    """Insert lines that wait; at most INSERT_LINES.

    Raises:
        UniqueViolation: another visit has inserted them.
    """
    values: dict[str, Any] = {"batch": batch_id}
    rows = []
    for place, line in enumerate(lines):
        rows.append(
            f"(:batch, :line{place}, :id{place}, :custom{place}, :start{place}, :length{place}, "
            "'waiting')"
        )
        values |= {
            f"line{place}": line.line,
            f"id{place}": line.id,
            f"custom{place}": line.custom_id,
            f"start{place}": line.start,
            f"length{place}": line.length,
        }
    if rows:
        tx.execute(
            "INSERT INTO batch_line (batch_id, line, id, custom_id, start, length, state) "
            f"VALUES {', '.join(rows)}",
            values,
        )


def forget_lines(tx: Transaction, batch_id: str) -> None:
    """Remove the lines of a batch that has not begun; under `hold`."""
    tx.execute("DELETE FROM batch_line WHERE batch_id = :id", {"id": batch_id})


def lines_in(
    tx: Transaction, batch_id: str, states: Iterable[LineState], *, after: int, limit: int
) -> list[LineRow]:
    """Return lines in these states behind line `after`, in their order."""
    words = ", ".join(f"'{state}'" for state in states)
    rows = tx.all(
        "SELECT * FROM batch_line WHERE batch_id = :id "
        f"AND state IN ({words}) AND line > :after ORDER BY line LIMIT :limit",
        {"id": batch_id, "after": after, "limit": limit},
    )
    return [_line(row) for row in rows]


def count_in(tx: Transaction, batch_id: str, state: LineState) -> int:
    """Return how many lines are in a state."""
    row = tx.one(
        "SELECT COUNT(*) AS lines FROM batch_line WHERE batch_id = :id AND state = :state",
        {"id": batch_id, "state": state.value},
    )
    return 0 if row is None else int(row["lines"])


def accept_line(
    tx: Transaction, batch_id: str, line: int, *, request_id: str, answer: AnswerForm
) -> None:
    """Note the request that a waiting line has become, in the transaction that accepts it.

    Raises:
        Superseded: the line does not wait any more.
    """
    changed = tx.execute(
        "UPDATE batch_line SET state = 'under_way', request_id = :request, answer = :answer "
        "WHERE batch_id = :batch AND line = :line AND state = 'waiting'",
        {"batch": batch_id, "line": line, "request": request_id, "answer": _json(answer)},
    )
    if not changed:
        raise Superseded(batch_id)


def refuse_line(tx: Transaction, batch_id: str, line: int, failure: JobFailure) -> None:
    """End a waiting line that was not accepted."""
    tx.execute(
        "UPDATE batch_line SET state = 'failed', failure = :failure "
        "WHERE batch_id = :batch AND line = :line AND state = 'waiting'",
        {"batch": batch_id, "line": line, "failure": _json(failure)},
    )


def drop_waiting(tx: Transaction, batch_id: str, state: LineState) -> int:
    """End all lines that still wait; return how many."""
    return tx.execute(
        "UPDATE batch_line SET state = :state WHERE batch_id = :batch AND state = 'waiting'",
        {"batch": batch_id, "state": state.value},
    )


class LineEnd(msgspec.Struct, frozen=True):
    """How the jobs of a line that is under way have ended."""

    line: int
    pictures: int
    cancelled: int
    failure: JobFailure | None


def ends_under_way(tx: Transaction, batch_id: str, *, limit: int) -> list[LineEnd]:
    """Return the lines under way whose jobs have all ended."""
    rows = tx.all(
        "SELECT l.line, CAST(SUM(CASE WHEN j.state = 'completed' THEN 1 ELSE 0 END) AS BIGINT) "
        "AS pictures, CAST(SUM(CASE WHEN j.state = 'cancelled' THEN 1 ELSE 0 END) AS BIGINT) "
        "AS cancelled, MIN(j.failure) AS failure "
        "FROM batch_line l JOIN job j ON j.request_id = l.request_id "
        "WHERE l.batch_id = :id AND l.state = 'under_way' GROUP BY l.line "
        f"HAVING SUM(CASE WHEN j.state IN {_UNENDED} THEN 1 ELSE 0 END) = 0 "
        "ORDER BY l.line LIMIT :limit",
        {"id": batch_id, "limit": limit},
    )
    return [
        LineEnd(row["line"], row["pictures"], row["cancelled"], _failure(row["failure"]))
        for row in rows
    ]


def open_jobs_under_way(tx: Transaction, batch_id: str) -> list[str]:
    """Return the ids of the jobs of a batch that have not ended and are to be cancelled singly.

    Without those that somebody has, and knows to be cancelled already.
    """
    rows = tx.all(
        "SELECT j.id FROM batch_line l JOIN job j ON j.request_id = l.request_id "
        f"WHERE l.batch_id = :id AND l.state = 'under_way' AND j.state IN {_UNENDED} "
        "AND (j.cancel_requested_at IS NULL OR j.lease_owner IS NULL) "
        "ORDER BY l.line, j.n",
        {"id": batch_id},
    )
    return [row["id"] for row in rows]


def end_line(tx: Transaction, batch_id: str, line: int, state: LineState) -> None:
    """End a line that was under way."""
    tx.execute(
        "UPDATE batch_line SET state = :state "
        "WHERE batch_id = :batch AND line = :line AND state = 'under_way'",
        {"batch": batch_id, "line": line, "state": state.value},
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _failure(text: str | None) -> JobFailure | None:
    return None if text is None else msgspec.json.decode(text, type=JobFailure)


def _line(row: Row) -> LineRow:
    answer = row["answer"]
    return LineRow(
        line=row["line"],
        id=row["id"],
        custom_id=row["custom_id"],
        start=row["start"],
        length=row["length"],
        state=LineState(row["state"]),
        request_id=row["request_id"],
        answer=AnswerForm() if answer is None else msgspec.json.decode(answer, type=AnswerForm),
        failure=_failure(row["failure"]),
    )
