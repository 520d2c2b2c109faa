"""Heartbeats: the rows of the processes that serve this database.

Owns the rows of `process`. A row is there from before the first job of its process until it leaves,
or until others have taken over all that it left. `beats` is raised at every sign of life and only
ever compared: nobody subtracts one machine's time from another's. This module judges nobody;
`gateway.processes` does.
"""

from __future__ import annotations

import msgspec

from safelight.db import Transaction


def beat(tx: Transaction, owner: str, host: str, beats: int) -> None:
    """Give a sign of life; register the process where its row is missing.

    That is so at its start, and after a pause in which others took it for dead.

    Args:
        tx: a transaction that may write.
        owner: the process.
        host: its machine, for people.
        beats: a count that the process itself keeps, never the same twice: a row that was removed
            and comes back then shows life too.
    """
    tx.execute(
        "INSERT INTO process (owner, host, beats, started_at, beat_at) "
        "VALUES (:owner, :host, :beats, :now, :now) "
        "ON CONFLICT (owner) DO UPDATE SET beats = :beats, beat_at = :now",
        {"owner": owner, "host": host, "beats": beats, "now": tx.now_ms},
    )


def all_beats(tx: Transaction) -> dict[str, int]:
    """Return the count of every registered process."""
    return {row["owner"]: row["beats"] for row in tx.all("SELECT owner, beats FROM process")}


def beats_of(tx: Transaction, owner: str) -> int | None:
    """Return the count of one process; None when it is not registered."""
    row = tx.one("SELECT beats FROM process WHERE owner = :owner", {"owner": owner})
    return None if row is None else int(row["beats"])


def remove(tx: Transaction, owner: str) -> None:
    """Remove a process's row."""
    tx.execute("DELETE FROM process WHERE owner = :owner", {"owner": owner})


class ProcessRow(msgspec.Struct, frozen=True, kw_only=True):
    """A registered process, for people. Times in milliseconds since 1970."""

    owner: str
    host: str
    started_at: int
    beat_at: int


def all_processes(tx: Transaction) -> list[ProcessRow]:
    """Return every registered process, the oldest first."""
    rows = tx.all("SELECT owner, host, started_at, beat_at FROM process ORDER BY started_at, owner")
    return [ProcessRow(**dict(row)) for row in rows]
