"""What Postgres's errors mean: session lost, to be repeated, refused, or a mistake of ours.

Knows SQLSTATEs and the words for callers; does nothing. The words name no host and no user: callers
of the API see them, the log has the driver's own.
"""

from __future__ import annotations

import psycopg

from safelight.errors import Unavailable

READ_ONLY = "database_read_only"
PLAN_OUTDATED = "0A000"
"""Among other things: the columns of a prepared statement have changed."""

_CONFLICTS = {"40001", "40P01"}
"""Serialization failure and deadlock: the same work may succeed in a moment."""
_SESSION_ENDS = ("08", "57P", "25P03", "25P04")
"""Connection exceptions, shutdowns, and the time-outs after which the server hangs up."""
_BUSY = {"55P03", "57014"}
"""A lock or a statement took longer than its time-out."""
_DISK_FULL = "53100"
_TAKES_NO_WRITES = "25006"
_DAMAGED = {"XX001", "XX002"}
_SERVER_AILS = ("53", "58", "XX")
"""No memory, no connections, failing files, internal errors."""


def is_conflict(error: psycopg.Error) -> bool:
    """Return whether Postgres asks to run the transaction again."""
    return error.sqlstate in _CONFLICTS


def is_lost(error: psycopg.Error, connection: psycopg.Connection[object]) -> bool:
    """Return whether the session is gone, or about to go, with its transaction."""
    if connection.closed:
        return True
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_SESSION_ENDS)


def refusal(error: psycopg.Error, *, writing: bool) -> Unavailable | None:
    """Return what callers are told when the server cannot, or None for a mistake of ours."""
    state = error.sqlstate or ""
    if state == _DISK_FULL:
        return Unavailable(
            "The disk of the gateway's database is full; the operator must free space on it. "
            "Nothing was charged.",
            code="storage_full",
        )
    if state == _TAKES_NO_WRITES:
        # A reader is told not to write: that is our own mistake.
        return _read_only() if writing else None
    if state in _DAMAGED:
        return _damaged()
    if state in _BUSY or state in _CONFLICTS:
        return busy()
    if state.startswith(_SERVER_AILS):
        return away("The gateway's database fails; send the request again.")
    return None


def away(
    words: str = "The gateway's database cannot be reached; send the request again.",
) -> Unavailable:
    """Return the answer while there is no server to ask."""
    return Unavailable(words, code="database_unavailable", retry_after_s=1, should_retry=True)


def busy() -> Unavailable:
    """Return the answer when others held what the work needs for too long."""
    return Unavailable(
        "The gateway's database is busy; send the request again. Nothing was charged.",
        code="database_busy",
        retry_after_s=1,
        should_retry=True,
    )


def _read_only() -> Unavailable:
    # A standby, for the moment of a change of servers: unlike a folder's, it passes by itself.
    return Unavailable(
        "The gateway's database takes no writes now; send the request again. Nothing was charged.",
        code=READ_ONLY,
        retry_after_s=1,
        should_retry=True,
    )


def _damaged() -> Unavailable:
    return Unavailable(
        "The gateway's database is damaged; the operator must restore it. Nothing was charged.",
        code="database_damaged",
    )
