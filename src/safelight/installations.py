"""Which installation the books are of, where its pictures are, and rounds that one process makes.

Owns these rows. All processes on one database agree here about the store, whatever their data
folders have noted; and a store is only ever tidied by the installation whose mark it carries.
"""

from __future__ import annotations

from safelight.db import Transaction


def identify(tx: Transaction, *, new_id: str, store: str) -> tuple[str, str]:
    """Return the installation's id and the address of its store; the first to ask says both."""
    tx.execute(
        "INSERT INTO installation (only_one, id, store) VALUES (1, :id, :store) "
        "ON CONFLICT (only_one) DO NOTHING",
        {"id": new_id, "store": store},
    )
    row = tx.one("SELECT id, store FROM installation WHERE only_one = 1")
    assert row is not None
    return row["id"], row["store"]


def known(tx: Transaction) -> tuple[str, str] | None:
    """Return the same, or None where nobody has asked yet."""
    row = tx.one("SELECT id, store FROM installation WHERE only_one = 1")
    return None if row is None else (row["id"], row["store"])


def move_store(tx: Transaction, store: str) -> None:
    """Say that the pictures are elsewhere now."""
    tx.execute("UPDATE installation SET store = :store WHERE only_one = 1", {"store": store})


def begin_round(tx: Transaction, name: str, *, not_within_s: float) -> bool:
    """Begin a round unless any process has begun one so lately; a clock set back begins it too."""
    values = {"name": name, "now": tx.now_ms, "late": tx.now_ms - round(not_within_s * 1000)}
    tx.execute(
        "INSERT INTO round (name, began_at) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING", values
    )
    return bool(
        tx.execute(
            "UPDATE round SET began_at = :now "
            "WHERE name = :name AND (began_at <= :late OR began_at > :now)",
            values,
        )
    )
