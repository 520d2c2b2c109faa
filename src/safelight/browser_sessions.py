"""Sessions of browsers: a key that was shown once, and a cookie that stands for it since.

Owns the rows of `browser_session` and when one is over: twelve hours without a call, seven days in
all, on request, with its key, or while its customer is frozen. Lengths as OWASP's Session
Management Cheat Sheet has them for applications of such value (idle and absolute timeouts, both
kept by the server). Of what the cookie holds only a peppered digest is stored. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from safelight.db import Row, Transaction

IDLE_MS = 12 * 3600 * 1000
LONGEST_MS = 7 * 24 * 3600 * 1000
SEEN_MS = 60 * 1000
"""How exactly it is noted when a session was last used."""
KEPT_MS = 30 * 24 * 3600 * 1000
"""How long the rows of sessions that are over are kept."""
OF_A_KEY = 100
"""Sessions of one key; the oldest make room for new ones."""
AGENT_MAX = 200


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is not over. Times in milliseconds since 1970.

    One of both keys is there. `name` and `role` are the admin key's; of a customer's session the
    name is the customer's and there is no role.
    """

    id: str
    admin_key_id: str | None
    api_key_id: str | None
    customer_id: str | None
    keep_alive: bool
    name: str
    role: str | None
    address: str
    agent: str
    created_at: int
    seen_at: int

    @property
    def ends_at(self) -> int:
        """When it is over if nobody uses it any more."""
        return min(self.seen_at + IDLE_MS, self.created_at + LONGEST_MS)


_READ = (
    "SELECT s.id, s.admin_key_id, s.api_key_id, k.customer_id, COALESCE(k.keep_alive, 0) "
    "AS keep_alive, COALESCE(a.name, c.name) AS name, a.role, s.address, s.agent, s.created_at, "
    "s.seen_at FROM browser_session s "
    "LEFT JOIN admin_key a ON a.id = s.admin_key_id LEFT JOIN api_key k ON k.id = s.api_key_id "
    "LEFT JOIN customer c ON c.id = k.customer_id "
    "LEFT JOIN balance b ON b.customer_id = k.customer_id "
    "WHERE s.ended_at IS NULL AND s.seen_at > :idle_since AND s.created_at > :since "
    "AND a.revoked_at IS NULL AND k.revoked_at IS NULL AND b.frozen_at IS NULL "
)


def digest(secret: str, pepper: bytes) -> bytes:
    """Return what is stored of a cookie."""
    return hmac.digest(pepper, b"session:" + secret.encode(), hashlib.sha256)


def csrf_token(secret: str, pepper: bytes) -> str:
    """Return the token that state-changing calls of a session must carry, 64 hex digits.

    An HMAC over the cookie's secret (OWASP, Cross-Site Request Forgery Prevention Cheat Sheet: HMAC
    based token): bound to this one session, kept nowhere, and told only in an answer's body, which
    pages of other sites cannot read.
    """
    return hmac.digest(pepper, b"csrf:" + secret.encode(), hashlib.sha256).hex()


def begin(
    tx: Transaction,
    *,
    session_id: str,
    stored: bytes,
    admin_key_id: str | None = None,
    api_key_id: str | None = None,
    address: str,
    agent: str,
) -> None:
    """Insert a session, and remove rows of sessions that are long over or too many for a key."""
    tx.execute(
        "DELETE FROM browser_session WHERE seen_at < :before", {"before": tx.now_ms - KEPT_MS}
    )
    column, key = (
        ("admin_key_id", admin_key_id) if api_key_id is None else ("api_key_id", api_key_id)
    )
    tx.execute(
        f"DELETE FROM browser_session WHERE id IN (SELECT id FROM browser_session "
        f"WHERE {column} = :key ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET :kept)",
        {"key": key, "kept": OF_A_KEY - 1},
    )
    tx.execute(
        "INSERT INTO browser_session (id, digest, admin_key_id, api_key_id, address, agent, "
        "created_at, seen_at) VALUES (:id, :digest, :admin_key, :api_key, :address, :agent, "
        ":now, :now)",
        {
            "id": session_id,
            "digest": stored,
            "admin_key": admin_key_id,
            "api_key": api_key_id,
            "address": address,
            "agent": agent[:AGENT_MAX],
            "now": tx.now_ms,
        },
    )


def find(tx: Transaction, stored: bytes) -> Session | None:
    """Return the session with this digest unless it is over."""
    row = tx.one(_READ + "AND s.digest = :digest", {**_bounds(tx), "digest": stored})
    return None if row is None else _session(row)


def get(tx: Transaction, session_id: str) -> Session | None:
    """Return the session with this id unless it is over."""
    row = tx.one(_READ + "AND s.id = :id", {**_bounds(tx), "id": session_id})
    return None if row is None else _session(row)


def open_sessions(tx: Transaction, *, after: str | None = None, limit: int = 1000) -> list[Session]:
    """Return the sessions that are not over, newest first.

    Raises:
        LookupError: `after` is no session.
    """
    place, values = "", {**_bounds(tx), "limit": limit}
    if after is not None:
        seen = tx.one("SELECT created_at FROM browser_session WHERE id = :id", {"id": after})
        if seen is None:
            raise LookupError(after)
        place = "AND s.created_at <= :at AND (s.created_at < :at OR s.id < :after) "
        values |= {"at": seen["created_at"], "after": after}
    rows = tx.all(f"{_READ}{place}ORDER BY s.created_at DESC, s.id DESC LIMIT :limit", values)
    return [_session(row) for row in rows]


def touch(tx: Transaction, session_id: str) -> None:
    """Note that a session was used now."""
    tx.execute(
        "UPDATE browser_session SET seen_at = :now WHERE id = :id AND seen_at < :now",
        {"id": session_id, "now": tx.now_ms},
    )


def end(tx: Transaction, session_id: str) -> bool:
    """End a session; False when there is none that could be ended."""
    return bool(
        tx.execute(
            "UPDATE browser_session SET ended_at = :now WHERE id = :id AND ended_at IS NULL",
            {"id": session_id, "now": tx.now_ms},
        )
    )


def _bounds(tx: Transaction) -> dict[str, object]:
    return {"idle_since": tx.now_ms - IDLE_MS, "since": tx.now_ms - LONGEST_MS}


def _session(row: Row) -> Session:
    values = {name: row[name] for name in Session.__struct_fields__}
    return Session(**{**values, "keep_alive": bool(row["keep_alive"])})
