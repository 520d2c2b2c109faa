"""Paused accounts: the operator wants no new attempt from them until they are resumed.

Owns the rows of `account_pause`, which all processes read every few seconds and which outlive
restarts. What a pause means for a decision is the pool's business.
"""

from __future__ import annotations

import msgspec

from safelight.db import Transaction


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A paused account. `paused_at` in milliseconds since 1970."""

    account: str
    reason: str
    paused_by: str
    paused_at: int


def pause(tx: Transaction, account: str, *, reason: str, by: str) -> bool:
    """Pause an account; False where it was paused, which stays as it is."""
    return bool(
        tx.execute(
            "INSERT INTO account_pause (account, reason, paused_by, paused_at) "
            "VALUES (:account, :reason, :by, :now) ON CONFLICT (account) DO NOTHING",
            {"account": account, "reason": reason, "by": by, "now": tx.now_ms},
        )
    )


def resume(tx: Transaction, account: str) -> bool:
    """Let an account go on; False where it was not paused."""
    return bool(
        tx.execute("DELETE FROM account_pause WHERE account = :account", {"account": account})
    )


def all_pauses(tx: Transaction) -> dict[str, Pause]:
    """Return the paused accounts by name."""
    rows = tx.all(
        "SELECT account, reason, paused_by, paused_at FROM account_pause ORDER BY account"
    )
    return {row["account"]: Pause(**dict(row)) for row in rows}
