"""Commit marks: what became of a commit whose answer was lost with the connection.

Each transaction that writes leaves one row in `commit_mark`, under an id made before, in the round
trip of its commit. Who does not know whether it committed inserts the same id as void. The unique
index makes that a decision: either the mark is there, so the transaction has committed; or ours is
there now, and the transaction, should it still be alive, can never commit any more. An insert that
meets a transaction in the middle of its commit waits for its end.

A look without an insert would not do: the transaction could commit just after it. Decides nothing
about what is repeated.
"""

from __future__ import annotations

import re
import secrets

from safelight.db.postgres_session import Session

KEPT_MS = 600_000
"""Marks are asked for within seconds; older ones are removed."""
_ID = re.compile(r"[0-9a-f]{32}")


def new_mark() -> str:
    """Return an id for a transaction, 128 random bits."""
    return secrets.token_hex(16)


def leave(mark: str, now_ms: int) -> str:
    """Return the SQL that leaves a mark; it goes out beside the COMMIT, so it has no parameters."""
    assert _ID.fullmatch(mark)
    return f"INSERT INTO commit_mark (id, at, void) VALUES ('{mark}', {int(now_ms)}, 0)"


def committed(session: Session, mark: str, now_ms: int) -> bool:
    """Return whether the transaction of this mark has committed; False also forbids it for ever.

    May be asked again when the answer to this is lost as well.

    Raises:
        psycopg.Error: the server cannot say now.
    """
    session.connection.execute(
        "INSERT INTO commit_mark (id, at, void) VALUES (%s, %s, 1) ON CONFLICT (id) DO NOTHING",
        [mark, now_ms],
    )
    row = session.connection.execute(
        "SELECT void FROM commit_mark WHERE id = %s", [mark]
    ).fetchone()
    assert row is not None
    return not row["void"]


def remove_old(session: Session, now_ms: int) -> None:
    """Remove the marks that nobody asks for any more.

    Raises:
        psycopg.Error: not now.
    """
    session.connection.execute("DELETE FROM commit_mark WHERE at < %s", [now_ms - KEPT_MS])
