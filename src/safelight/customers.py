"""Customers and their keys: who pays, and how they prove who they are.

Owns the rows of customers and of their keys, whose text is `key_text`'s: stored is only a peppered
digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection

import msgspec

from safelight import key_text
from safelight.db import Row, Transaction, UniqueViolation
from safelight.errors import AuthenticationFailed
from safelight.types import Balance, BudgetState, Identity, LimitChange


class KeyInfo(msgspec.Struct, frozen=True):
    """A key as lists show it; `balance_micros` is its customer's available money.

    Of the limits None is the configuration's default, 0 no limit; whoever lists adds the budgets.
    """

    id: str
    customer: str
    name: str
    last4: str
    created_at: int
    revoked_at: int | None
    balance_micros: int
    credit_line_micros: int = 0
    requests_per_minute: int | None = None
    max_in_flight: int | None = None
    budgets: tuple[BudgetState, ...] = ()
    frozen_at: int | None = None
    keep_alive: bool = False
    customer_id: str = ""


class CustomerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A customer as lists show it. Money in micro-dollars, times in milliseconds since 1970."""

    id: str
    name: str
    created_at: int
    balance: Balance
    frozen_at: int | None
    frozen_reason: str | None
    keys: int
    """Those in use."""


class KeyLimits(msgspec.Struct, frozen=True):
    """A key's own limits; None is the configuration's default, 0 no limit."""

    requests_per_minute: int | None
    max_in_flight: int | None


class NameTaken(Exception):
    """A customer of that name exists."""


def new_key() -> tuple[str, str]:
    """Return a fresh key of a customer and its public id."""
    return key_text.new_key(key_text.CUSTOMER)


def well_formed(key: str) -> bool:
    """Return whether the key's prefix, length and checksum are right."""
    return key_text.well_formed(key, key_text.CUSTOMER)


def digest(key: str, pepper: bytes) -> bytes:
    """Return what is stored of a key."""
    return key_text.digest(key, pepper)


def refused() -> AuthenticationFailed:
    """Return the one answer for every key that is not valid."""
    return AuthenticationFailed(
        "Incorrect API key provided. Send it as 'Authorization: Bearer sl_live_...'; "
        "ask your operator for a key (safelight keys create)."
    )


def create_customer(tx: Transaction, *, customer_id: str, name: str) -> None:
    """Insert a customer.

    Raises:
        NameTaken: another customer has the name.
    """
    try:
        tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, :now)",
            {"id": customer_id, "name": name, "now": tx.now_ms},
        )
    except UniqueViolation as error:
        raise NameTaken(name) from error


def find_customer(tx: Transaction, name: str) -> str | None:
    """Return the id of the customer of that name, or None."""
    row = tx.one("SELECT id FROM customer WHERE name = :name", {"name": name})
    return None if row is None else str(row["id"])


def customer_named(tx: Transaction, name: str) -> str:
    """Return the id of the customer of that name.

    Raises:
        LookupError: there is none.
    """
    found = find_customer(tx, name)
    if found is None:
        raise LookupError(f"no customer is named {name!r}")
    return found


def name_of(tx: Transaction, customer_id: str) -> str | None:
    """Return the name of the customer with that id, or None."""
    row = tx.one("SELECT name FROM customer WHERE id = :id", {"id": customer_id})
    return None if row is None else str(row["name"])


def names_of(tx: Transaction, customer_ids: Collection[str]) -> dict[str, str]:
    """Return the names of customers by id."""
    if not customer_ids:
        return {}
    ids = {f"id{place}": one for place, one in enumerate(sorted(set(customer_ids)))}
    rows = tx.all(
        f"SELECT id, name FROM customer WHERE id IN ({', '.join(':' + name for name in ids)})", ids
    )
    return {row["id"]: row["name"] for row in rows}


def rename(tx: Transaction, customer_id: str, name: str) -> None:
    """Give a customer another name; links, keys and books stay as they are.

    Raises:
        LookupError: no such customer.
        NameTaken: another customer has the name.
    """
    if name_of(tx, customer_id) is None:
        raise LookupError(f"no customer has the id {customer_id!r}")
    try:
        tx.execute(
            "UPDATE customer SET name = :name WHERE id = :id", {"id": customer_id, "name": name}
        )
    except UniqueViolation as error:
        raise NameTaken(name) from error


_INFO = (
    "SELECT c.id, c.name, c.created_at, b.posted_micros, b.held_micros, b.floor_micros, "
    "b.frozen_at, b.frozen_reason, (SELECT COUNT(*) FROM api_key k "
    "WHERE k.customer_id = c.id AND k.revoked_at IS NULL) AS keys "
    "FROM customer c JOIN balance b ON b.customer_id = c.id WHERE "
)


def get(tx: Transaction, customer_id: str) -> CustomerInfo | None:
    """Return a customer with its balance, or None."""
    row = tx.one(_INFO + "c.id = :id", {"id": customer_id})
    return None if row is None else _info(row)


def page(
    tx: Transaction, *, search: str = "", after: str | None = None, limit: int
) -> list[CustomerInfo]:
    """Return customers by name, of those whose name holds `search` in any case of ASCII letters.

    Raises:
        LookupError: `after` is no customer's id.
    """
    escaped = search.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    conditions, values = ["LOWER(c.name) LIKE :like ESCAPE '!'"], {"like": f"%{escaped}%"}
    if after is not None:
        seen = name_of(tx, after)
        if seen is None:
            raise LookupError(after)
        conditions.append("c.name > :after")
        values["after"] = seen
    rows = tx.all(
        f"{_INFO}{' AND '.join(conditions)} ORDER BY c.name LIMIT :limit",
        {**values, "limit": limit},
    )
    return [_info(row) for row in rows]


def _info(row: Row) -> CustomerInfo:
    posted, held = row["posted_micros"], row["held_micros"]
    return CustomerInfo(
        id=row["id"],
        name=row["name"],
        created_at=row["created_at"],
        balance=Balance(posted, held, posted - held, max(0, -row["floor_micros"])),
        frozen_at=row["frozen_at"],
        frozen_reason=row["frozen_reason"],
        keys=row["keys"],
    )


def any_customer(tx: Transaction) -> bool:
    """Return whether there is a customer at all (False on the first start)."""
    return tx.one("SELECT 1 FROM customer LIMIT 1") is not None


def add_key(
    tx: Transaction, *, key: str, key_id: str, customer_id: str, name: str, pepper: bytes
) -> None:
    """Store what is needed to recognise a key."""
    tx.execute(
        "INSERT INTO api_key (id, customer_id, name, digest, last4, created_at) "
        "VALUES (:id, :customer, :name, :digest, :last4, :now)",
        {
            "id": key_id,
            "customer": customer_id,
            "name": name,
            "digest": digest(key, pepper),
            "last4": key[-4:],
            "now": tx.now_ms,
        },
    )


def authenticate(tx: Transaction, key_digest: bytes) -> Identity:
    """Return who a key's digest speaks for.

    Raises:
        AuthenticationFailed: no such key, or it is revoked: one answer for both.
    """
    row = tx.one(
        "SELECT id, customer_id, digest, keep_alive FROM api_key "
        "WHERE digest = :digest AND revoked_at IS NULL",
        {"digest": key_digest},
    )
    if row is None or not hmac.compare_digest(row["digest"], key_digest):
        raise refused()
    return Identity(row["customer_id"], row["id"], keep_alive=bool(row["keep_alive"]))


def revoke_key(tx: Transaction, key_id: str) -> bool:
    """End a key; return False when there is no such key in use."""
    return bool(
        tx.execute(
            "UPDATE api_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL",
            {"id": key_id, "now": tx.now_ms},
        )
    )


def set_keep_alive(tx: Transaction, key_id: str, *, on: bool) -> bool:
    """Say whether plain answers to a key may begin with white space; False: no such key in use."""
    return bool(
        tx.execute(
            "UPDATE api_key SET keep_alive = :on WHERE id = :id AND revoked_at IS NULL",
            {"id": key_id, "on": int(on)},
        )
    )


def limits_of(tx: Transaction, key_id: str) -> KeyLimits:
    """Return a key's own limits; those of a key that is not there are the defaults."""
    row = tx.one(
        "SELECT requests_per_minute, max_in_flight FROM api_key WHERE id = :id", {"id": key_id}
    )
    if row is None:
        return KeyLimits(None, None)
    return KeyLimits(row["requests_per_minute"], row["max_in_flight"])


def change_limits(tx: Transaction, key_id: str, change: LimitChange) -> None:
    """Change how fast a key may ask, as far as `change` says; budgets are not this table's."""
    for column in ("requests_per_minute", "max_in_flight"):
        value = getattr(change, column)
        if value is not msgspec.UNSET:
            tx.execute(
                f"UPDATE api_key SET {column} = :value WHERE id = :id",
                {"value": value, "id": key_id},
            )


def customer_of_key(tx: Transaction, key_id: str) -> str | None:
    """Return the id of the customer of a key in use, or None."""
    row = tx.one(
        "SELECT customer_id FROM api_key WHERE id = :id AND revoked_at IS NULL", {"id": key_id}
    )
    return None if row is None else str(row["customer_id"])


_KEYS = (
    "SELECT k.id, k.customer_id, c.name AS customer, k.name, k.last4, k.created_at, k.revoked_at, "
    "k.requests_per_minute, k.max_in_flight, k.keep_alive, "
    "b.posted_micros - b.held_micros AS balance_micros, "
    "CASE WHEN b.floor_micros < 0 THEN -b.floor_micros ELSE 0 END AS credit_line_micros, "
    "b.frozen_at FROM api_key k "
    "JOIN customer c ON c.id = k.customer_id JOIN balance b ON b.customer_id = c.id "
)


def list_keys(tx: Transaction) -> list[KeyInfo]:
    """Return every key, oldest first."""
    return [_key(row) for row in tx.all(_KEYS + "ORDER BY k.created_at, k.id")]


def get_key(tx: Transaction, key_id: str) -> KeyInfo | None:
    """Return a key, in use or not, or None."""
    row = tx.one(_KEYS + "WHERE k.id = :id", {"id": key_id})
    return None if row is None else _key(row)


def key_page(
    tx: Transaction, *, customer_id: str | None = None, after: str | None = None, limit: int
) -> list[KeyInfo]:
    """Return keys of a customer, or of all, oldest first.

    Raises:
        LookupError: `after` is no key's id.
    """
    conditions, values = ["k.created_at >= 0"], {"limit": limit, "customer": customer_id}
    if customer_id is not None:
        conditions.append("k.customer_id = :customer")
    if after is not None:
        seen = tx.one("SELECT created_at FROM api_key WHERE id = :id", {"id": after})
        if seen is None:
            raise LookupError(after)
        conditions.append("(k.created_at, k.id) > (:at, :after)")
        values |= {"at": seen["created_at"], "after": after}
    rows = tx.all(
        f"{_KEYS}WHERE {' AND '.join(conditions)} ORDER BY k.created_at, k.id LIMIT :limit", values
    )
    return [_key(row) for row in rows]


def _key(row: Row) -> KeyInfo:
    return KeyInfo(**{**dict(row), "keep_alive": bool(row["keep_alive"])})


def raise_link_epoch(tx: Transaction, customer_id: str) -> None:
    """End every link of a customer that was signed until now."""
    tx.execute(
        "UPDATE customer SET link_epoch = link_epoch + 1 WHERE id = :id", {"id": customer_id}
    )
