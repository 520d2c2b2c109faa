"""What was found before: rows of `finding`, and who verifies now.

A finding is kept when it is first confirmed, so that it raises one alarm over all processes and
restarts, and until an operator accepts it its customer stays stopped. Owns these two tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from safelight import ledger
from safelight.db import Transaction
from safelight.gateway.verification.findings import Finding

REASON_MAX = 300


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that was kept. Times in milliseconds since 1970; `accepted_at` None: it counts."""

    customer_id: str
    mark: str
    found_at: int
    accepted_at: int | None
    accepted_reason: str | None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that counts, for people; `customer` None where it is nobody's."""

    customer_id: str
    customer: str | None
    words: str
    found_at: int


def begin(tx: Transaction, *, not_within_s: float) -> bool:
    """Say that this process verifies now; False when another began less than that ago."""
    return bool(
        tx.execute(
            "INSERT INTO verification (id, began_at) VALUES (1, :now) "
            "ON CONFLICT (id) DO UPDATE SET began_at = :now "
            # A time to come was written before the clock was set back.
            "WHERE verification.began_at <= :not_since OR verification.began_at > :now",
            {"now": tx.now_ms, "not_since": tx.now_ms - round(not_within_s * 1000)},
        )
    )


def ended(tx: Transaction) -> None:
    """Say that the verification which began last has been done."""
    tx.execute("UPDATE verification SET ended_at = :now WHERE id = 1", {"now": tx.now_ms})


def last_run(tx: Transaction) -> tuple[int | None, int | None]:
    """Return when a verification last began and when one last ended, milliseconds since 1970."""
    row = tx.one("SELECT began_at, ended_at FROM verification WHERE id = 1")
    return (None, None) if row is None else (row["began_at"], row["ended_at"])


def standing(tx: Transaction, *, limit: int) -> list[Standing]:
    """Return what was found and nobody has accepted, oldest first."""
    rows = tx.all(
        "SELECT f.customer_id, c.name AS customer, f.words, f.found_at FROM finding f "
        "LEFT JOIN customer c ON c.id = f.customer_id WHERE f.accepted_at IS NULL "
        "ORDER BY f.found_at, f.mark LIMIT :limit",
        {"limit": limit},
    )
    return [Standing(**dict(row)) for row in rows]


def read(tx: Transaction) -> dict[tuple[str, str], Known]:
    """Return everything that was kept, by customer id and mark."""
    rows = tx.all(
        "SELECT customer_id, mark, found_at, accepted_at, accepted_reason FROM finding "
        "ORDER BY customer_id, mark"
    )
    return {(row["customer_id"], row["mark"]): Known(**dict(row)) for row in rows}


def split(
    findings: Sequence[Finding], kept: Mapping[tuple[str, str], Known]
) -> tuple[list[Finding], list[Finding]]:
    """Return those that count, and those that an operator has accepted."""
    accepted = {which for which, one in kept.items() if one.accepted_at is not None}
    return (
        [one for one in findings if (one.customer_id, one.mark) not in accepted],
        [one for one in findings if (one.customer_id, one.mark) in accepted],
    )


def note(tx: Transaction, findings: Sequence[Finding]) -> list[Finding]:
    """Keep findings and return those that are new."""
    return [
        one
        for one in findings
        if tx.execute(
            "INSERT INTO finding (customer_id, mark, words, found_at) "
            "VALUES (:customer, :mark, :words, :now) ON CONFLICT (customer_id, mark) DO NOTHING",
            {"customer": one.customer_id, "mark": one.mark, "words": str(one), "now": tx.now_ms},
        )
    ]


def keep(tx: Transaction, findings: Sequence[Finding]) -> list[Finding]:
    """Keep confirmed findings and stop the customers of those nobody accepted; return the new."""
    new = note(tx, findings)
    counting, _ = split(findings, read(tx))
    for one in counting:
        ledger.freeze(tx, one.customer_id, f"verify: {one}"[:REASON_MAX])
    return new


def accept(tx: Transaction, customer_id: str, reason: str) -> tuple[str, ...]:
    """Accept what was found of a customer until now; return it in words."""
    values = {"customer": customer_id, "now": tx.now_ms, "reason": reason}
    which = "WHERE customer_id = :customer AND accepted_at IS NULL"
    rows = tx.all(f"SELECT words FROM finding {which} ORDER BY found_at, mark", values)
    tx.execute(f"UPDATE finding SET accepted_at = :now, accepted_reason = :reason {which}", values)
    return tuple(row["words"] for row in rows)
