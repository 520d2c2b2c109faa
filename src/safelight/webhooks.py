"""Webhooks: the addresses that are told about the ends of jobs, and what messages are signed with.

Owns the rows of registered addresses, of the addresses that orders bring, the numbers of secrets,
and how often a customer may have something sent by hand; the signature of the Standard Webhooks
specification and the headers that carry it. Messages are `deliveries`' business, calls `guarded`'s.

No secret is stored. A secret must be known in clear to sign with it, so a hash will not do, and a
cipher's key would have to lie beside `secrets.json` anyway. So it is derived, from a key in there
and from the row's id and `secret_number`: whoever reads the database alone can sign nothing, and
a rotation is a number that is raised by one.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal, get_args

import msgspec

from safelight.db import Row, Transaction

EventType = Literal[
    "job.completed",
    "job.failed",
    "job.cancelled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
]
EVENTS: tuple[EventType, ...] = get_args(EventType)
ALL_EVENTS = "*"
"""Those that are still to come, too."""
TEST_EVENT = "webhook.test"
SECRET_PREFIX = "whsec_"  # noqa: S105  (it begins every secret and is none)
MAX_PER_CUSTOMER = 20

Turn = Literal["test", "redelivery"]
TURNS_A_MINUTE: dict[Turn, int] = {"test": 6, "redelivery": 30}
"""So often may a customer have something sent by hand; as many at once."""

Disabled = Literal["owner", "gone", "failing"]
DeriveSecret = Callable[[str], bytes]
"""Gives the 32 secret bytes of a name; `keyring.Keyring.webhook_key`."""


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A registered address. Times in milliseconds since 1970.

    `key_id` narrows it to the jobs of one key; `events` are names of `EVENTS`, or `*` alone.
    """

    id: str
    customer_id: str
    key_id: str | None
    url: str
    events: tuple[str, ...]
    description: str
    created_at: int
    secret_number: int = 1
    previous_until: int = 0
    failing_since: int | None = None
    disabled_at: int | None = None
    disabled_reason: Disabled | None = None


class SecretNumber(msgspec.Struct, frozen=True):
    """Which secret of an owner signs, and until when (ms) the one before it signs too."""

    owner: str
    number: int
    previous_until: int

    def names(self, now_ms: int) -> list[str]:
        """Return the names of the secrets that sign now, the newest first."""
        numbers = [self.number]
        if self.previous_until > now_ms and self.number > 1:
            numbers.append(self.number - 1)
        return [f"{self.owner}:{number}" for number in numbers]


# --- signatures ---------------------------------------------------------------------------------


def shown_secret(secret: bytes) -> str:
    """Return a secret as receivers take it: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signatures(secrets: Iterable[bytes], *, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return the `webhook-signature` header, one signature for each secret.

    Standard Webhooks 1.0, "Signature scheme": `v1,` and the base64 of HMAC-SHA256 over id,
    timestamp and body with dots between; several are separated by spaces.
    """
    content = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    tags = (hmac.digest(secret, content, "sha256") for secret in secrets)
    return " ".join("v1," + base64.b64encode(tag).decode() for tag in tags)


def message_headers(
    secrets: Iterable[bytes], *, message_id: str, timestamp_s: int, body: bytes, user_agent: str
) -> dict[str, str]:
    """Return the headers of a message of the Standard Webhooks specification, signed."""
    return {
        "content-type": "application/json",
        "user-agent": user_agent,
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": signatures(
            secrets, message_id=message_id, timestamp_s=timestamp_s, body=body
        ),
    }


def iso(time_ms: int) -> str:
    """Return a time as RFC 3339 has it, in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


# --- registered addresses -----------------------------------------------------------------------


def insert(tx: Transaction, webhook: Webhook) -> bool:
    """Insert a webhook; False when the customer has as many as there may be."""
    tx.lock(f"webhooks {webhook.customer_id}")
    row = tx.one(
        "SELECT COUNT(*) AS webhooks FROM webhook WHERE customer_id = :customer",
        {"customer": webhook.customer_id},
    )
    if row is not None and row["webhooks"] >= MAX_PER_CUSTOMER:
        return False
    tx.execute(
        "INSERT INTO webhook (id, customer_id, key_id, url, events, description, created_at) "
        "VALUES (:id, :customer_id, :key_id, :url, :events, :description, :created_at)",
        {
            "id": webhook.id,
            "customer_id": webhook.customer_id,
            "key_id": webhook.key_id,
            "url": webhook.url,
            "events": _joined(webhook.events),
            "description": webhook.description,
            "created_at": webhook.created_at,
        },
    )
    return True


def get(tx: Transaction, webhook_id: str) -> Webhook | None:
    """Return a webhook of any customer, or None."""
    row = tx.one("SELECT * FROM webhook WHERE id = :id", {"id": webhook_id})
    return None if row is None else _webhook(row)


def of_key(tx: Transaction, customer_id: str, key_id: str) -> list[Webhook]:
    """Return the webhooks that a key may see: the customer's and its own, oldest first."""
    rows = tx.all(
        "SELECT * FROM webhook WHERE customer_id = :customer "
        "AND (key_id IS NULL OR key_id = :key) ORDER BY created_at, id",
        {"customer": customer_id, "key": key_id},
    )
    return [_webhook(row) for row in rows]


def change(tx: Transaction, webhook: Webhook) -> None:
    """Write what its owner may change: address, events, description, whether it is enabled."""
    tx.execute(
        "UPDATE webhook SET url = :url, events = :events, description = :description, "
        "failing_since = :failing_since, disabled_at = :disabled_at, "
        "disabled_reason = :disabled_reason WHERE id = :id",
        {
            "id": webhook.id,
            "url": webhook.url,
            "events": _joined(webhook.events),
            "description": webhook.description,
            "failing_since": webhook.failing_since,
            "disabled_at": webhook.disabled_at,
            "disabled_reason": webhook.disabled_reason,
        },
    )


def remove(tx: Transaction, webhook_id: str) -> None:
    """Remove a webhook with everything that it was or would have been told."""
    tx.execute("DELETE FROM webhook_delivery WHERE webhook_id = :id", {"id": webhook_id})
    tx.execute("DELETE FROM webhook WHERE id = :id", {"id": webhook_id})


def note_success(tx: Transaction, webhook_id: str) -> None:
    """Say that it has answered well."""
    tx.execute(
        "UPDATE webhook SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL",
        {"id": webhook_id},
    )


def note_failure(
    tx: Transaction, webhook_id: str, *, gone: bool, disable_after_ms: int
) -> Disabled | None:
    """Say that it has failed; return why it is disabled from now on, or None.

    Args:
        tx: a transaction that may write.
        webhook_id: which.
        gone: it has said that it wants no more (410).
        disable_after_ms: it is disabled when it has failed for so long.
    """
    tx.execute(
        "UPDATE webhook SET failing_since = :now WHERE id = :id AND failing_since IS NULL",
        {"id": webhook_id, "now": tx.now_ms},
    )
    reason: Disabled = "gone" if gone else "failing"
    disabled = tx.execute(
        "UPDATE webhook SET disabled_at = :now, disabled_reason = :reason "
        "WHERE id = :id AND disabled_at IS NULL AND failing_since <= :since",
        {
            "id": webhook_id,
            "now": tx.now_ms,
            "reason": reason,
            "since": tx.now_ms if gone else tx.now_ms - disable_after_ms,
        },
    )
    return reason if disabled else None


# --- secrets ------------------------------------------------------------------------------------


def secret_of(webhook: Webhook) -> SecretNumber:
    """Return which secret a webhook's messages are signed with."""
    return SecretNumber(webhook.id, webhook.secret_number, webhook.previous_until)


def secret_of_customer(tx: Transaction, customer_id: str) -> SecretNumber:
    """Return which secret signs what goes to the addresses that orders bring."""
    row = tx.one(
        "SELECT secret_number, previous_until FROM webhook_secret WHERE customer_id = :id",
        {"id": customer_id},
    )
    if row is None:
        return SecretNumber(customer_id, 1, 0)
    return SecretNumber(customer_id, row["secret_number"], row["previous_until"])


def rotate(tx: Transaction, webhook_id: str, *, overlap_ms: int) -> None:
    """Let the next secret sign; the one until now signs along for `overlap_ms`."""
    tx.execute(
        "UPDATE webhook SET secret_number = secret_number + 1, previous_until = :until "
        "WHERE id = :id",
        {"id": webhook_id, "until": tx.now_ms + overlap_ms},
    )


def rotate_customer(tx: Transaction, customer_id: str, *, overlap_ms: int) -> None:
    """The same for the secret of the addresses that orders bring."""
    values = {"id": customer_id, "until": tx.now_ms + overlap_ms}
    tx.lock(f"webhooks {customer_id}")
    changed = tx.execute(
        "UPDATE webhook_secret SET secret_number = secret_number + 1, previous_until = :until "
        "WHERE customer_id = :id",
        values,
    )
    if not changed:
        tx.execute("INSERT INTO webhook_secret VALUES (:id, 2, :until)", values)


# --- what is sent by hand -----------------------------------------------------------------------


def take_turn(tx: Transaction, customer_id: str, kind: Turn) -> int:
    """Let a customer have something sent by hand, or say in how many milliseconds he may.

    One number for each kind, so that it costs one update and holds over all processes: turns follow
    one another at an even pace, and a minute's worth may be taken ahead of it (the generic cell
    rate algorithm, ITU-T I.371, as a virtual schedule). A number that is further ahead than that is
    of a clock that was set back since.

    Returns:
        0, and the turn is taken; or after how long there will be one.
    """
    window_ms = 60_000
    each_ms = window_ms // TURNS_A_MINUTE[kind]
    values = {"customer": customer_id, "kind": kind, "now": tx.now_ms, "each": each_ms}
    values["latest"] = tx.now_ms + window_ms
    tx.lock(f"webhooks {customer_id}")
    changed = tx.execute(
        "UPDATE webhook_turn SET used_until = :each + "
        "CASE WHEN used_until BETWEEN :now AND :latest THEN used_until ELSE :now END "
        "WHERE customer_id = :customer AND kind = :kind "
        "AND (used_until <= :latest - :each OR used_until > :latest)",
        values,
    )
    if changed:
        return 0
    row = tx.one(
        "SELECT used_until FROM webhook_turn WHERE customer_id = :customer AND kind = :kind",
        {"customer": customer_id, "kind": kind},
    )
    if row is not None:
        return int(row["used_until"]) - (window_ms - each_ms) - tx.now_ms
    tx.execute(
        "INSERT INTO webhook_turn (customer_id, kind, used_until) "
        "VALUES (:customer, :kind, :until)",
        {"customer": customer_id, "kind": kind, "until": tx.now_ms + each_ms},
    )
    return 0


# --- the addresses that orders bring ------------------------------------------------------------


def keep_order_url(tx: Transaction, request_id: str, url: str) -> None:
    """Keep the address that is told about the ends of an order's jobs."""
    tx.execute(
        "INSERT INTO webhook_order (request_id, url) VALUES (:request, :url)",
        {"request": request_id, "url": url},
    )


def _joined(events: Iterable[str]) -> str:
    return "," + ",".join(events) + ","


def _webhook(row: Row) -> Webhook:
    values = {name: row[name] for name in Webhook.__struct_fields__}
    return Webhook(**{**values, "events": tuple(row["events"].strip(",").split(","))})
