"""Admin keys: who operates the gateway over HTTP, and how far.

Owns the rows of `admin_key`. The text of a key is `key_text`'s: stored is only a peppered digest.
What a role may do is the table of routes' business (`api/admin/`).
"""

from __future__ import annotations

import hmac
from enum import StrEnum

import msgspec

from safelight import key_text
from safelight.db import Row, Transaction


class Role(StrEnum):
    """How far a key goes; each role includes those before it."""

    VIEWER = "viewer"
    """Sees everything, changes nothing."""
    OPERATOR = "operator"
    """Runs the house: customers, keys, money, jobs, pictures, accounts."""
    OWNER = "owner"
    """Also says who the operators are."""

    def covers(self, wanted: Role) -> bool:
        """Return whether this role may do what `wanted` may."""
        order = tuple(Role)
        return order.index(self) >= order.index(wanted)


class AdminKey(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key as lists show it. Times in milliseconds since 1970."""

    id: str
    name: str
    role: Role
    last4: str
    created_at: int
    revoked_at: int | None


_COLUMNS = "SELECT id, name, role, last4, created_at, revoked_at FROM admin_key "


def new_key() -> tuple[str, str]:
    """Return a fresh admin key and its public id."""
    return key_text.new_key(key_text.ADMIN)


def well_formed(key: str) -> bool:
    """Return whether this can be an admin key at all."""
    return key_text.well_formed(key, key_text.ADMIN)


def add(tx: Transaction, *, key: str, key_id: str, name: str, role: Role, pepper: bytes) -> None:
    """Store what is needed to recognise a key."""
    tx.execute(
        "INSERT INTO admin_key (id, name, role, digest, last4, created_at) "
        "VALUES (:id, :name, :role, :digest, :last4, :now)",
        {
            "id": key_id,
            "name": name,
            "role": str(role),
            "digest": key_text.digest(key, pepper),
            "last4": key[-4:],
            "now": tx.now_ms,
        },
    )


def find(tx: Transaction, key: str, pepper: bytes) -> AdminKey | None:
    """Return the key in use with this text, or None."""
    digest = key_text.digest(key, pepper)
    row = tx.one(
        "SELECT id, name, role, last4, created_at, revoked_at, digest FROM admin_key "
        "WHERE digest = :digest AND revoked_at IS NULL",
        {"digest": digest},
    )
    if row is None or not hmac.compare_digest(row["digest"], digest):
        return None
    return _key(row)


def get(tx: Transaction, key_id: str) -> AdminKey | None:
    """Return a key, in use or not, or None."""
    row = tx.one(_COLUMNS + "WHERE id = :id", {"id": key_id})
    return None if row is None else _key(row)


def all_keys(tx: Transaction) -> list[AdminKey]:
    """Return every key, oldest first; they are few."""
    return [_key(row) for row in tx.all(_COLUMNS + "ORDER BY created_at, id")]


def any_in_use(tx: Transaction) -> bool:
    """Return whether anybody can operate this gateway over HTTP."""
    found = tx.one("SELECT 1 FROM admin_key WHERE revoked_at IS NULL ORDER BY id LIMIT 1")
    return found is not None


def revoke(tx: Transaction, key_id: str) -> bool:
    """End a key; return False when there is no such key in use."""
    return bool(
        tx.execute(
            "UPDATE admin_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL",
            {"id": key_id, "now": tx.now_ms},
        )
    )


def other_owner(tx: Transaction, key_id: str) -> bool:
    """Return whether another key in use is an owner's, which stays so until the transaction ends.

    Locks the owners' keys: two that revoke each other must not both succeed.
    """
    tx.execute("UPDATE admin_key SET revoked_at = NULL WHERE role = 'owner' AND revoked_at IS NULL")
    row = tx.one(
        "SELECT 1 FROM admin_key WHERE role = 'owner' AND revoked_at IS NULL AND id <> :id "
        "ORDER BY id LIMIT 1",
        {"id": key_id},
    )
    return row is not None


def _key(row: Row) -> AdminKey:
    values = {name: row[name] for name in AdminKey.__struct_fields__}
    return AdminKey(**{**values, "role": Role(row["role"])})
