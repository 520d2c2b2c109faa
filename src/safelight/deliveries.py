"""Deliveries: the outbox of webhooks, one row for each message to each receiver.

Owns these rows: their insertion in the transaction that ends a job, their turns, their attempts and
ends. Decides no pauses and calls nobody. A row is inserted by one statement that finds the
receivers itself, so a job's end costs one round trip more, whether anybody listens or not.

A row's id is made of the ids of job and receiver: the insertion may run again, and a message has
one id at every attempt, by which its receiver knows it again.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from safelight.db import Row, Transaction

State = Literal["pending", "delivered", "failed"]

_DUE = "state = 'pending' AND next_at <= :now"
_FREE = "reminded_until <= :now AND claimed_until <= :now"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one receiver. Times in milliseconds since 1970.

    `url` is set where the address came with the order; otherwise the webhook has it. `target` names
    the receiver: those of one take turns. `subject` is a job's or a batch's id, empty for a test.
    """

    id: str
    customer_id: str
    webhook_id: str | None
    target: str
    url: str | None
    event: str
    subject: str
    state: State
    created_at: int
    next_at: int
    attempts: int
    last_status: int | None
    last_error: str | None
    delivered_at: int | None


class Turn(msgspec.Struct, frozen=True):
    """A delivery that is due, with the key of the reminder for it."""

    id: str
    target: str
    reminders: int

    @property
    def key(self) -> str:
        """Name this reminder and no other one."""
        return f"webhook:{self.id}:{self.reminders}"


# --- insertion ----------------------------------------------------------------------------------

_COLUMNS = "id, customer_id, webhook_id, target, url, event, subject, state, created_at, next_at"
_LISTENS = (
    "(w.key_id IS NULL OR w.key_id = {key}) AND w.disabled_at IS NULL AND (w.events = ',*,' "
    "OR REPLACE(w.events, ',' || {event} || ',', '') <> w.events)"
)
_OF_JOB = (
    f"INSERT INTO webhook_delivery ({_COLUMNS}) "
    "SELECT 'msg_' || SUBSTR(j.id, 5) || '_' || SUBSTR(w.id, 4), j.customer_id, w.id, w.id, "
    "CAST(NULL AS TEXT), 'job.' || j.state, j.id, 'pending', CAST(:now AS BIGINT), "
    "CAST(:now AS BIGINT) "
    "FROM job j JOIN webhook w ON w.customer_id = j.customer_id WHERE j.id = :job "
    # Of a batch is told as a whole: it may have 50,000 lines.
    "AND j.batch_id IS NULL AND "
    + _LISTENS.format(key="j.key_id", event="'job.' || j.state")
    + " UNION ALL "
    "SELECT 'msg_' || SUBSTR(j.id, 5), j.customer_id, CAST(NULL AS TEXT), "
    "j.customer_id || ' ' || o.url, o.url, 'job.' || j.state, j.id, 'pending', "
    "CAST(:now AS BIGINT), CAST(:now AS BIGINT) "
    "FROM job j JOIN webhook_order o ON o.request_id = j.request_id WHERE j.id = :job"
)
_OF_BATCH = (
    f"INSERT INTO webhook_delivery ({_COLUMNS}) "
    "SELECT 'msg_' || CAST(:batch AS TEXT) || '_' || SUBSTR(w.id, 4), w.customer_id, w.id, w.id, "
    "CAST(NULL AS TEXT), CAST(:event AS TEXT), CAST(:batch AS TEXT), 'pending', "
    "CAST(:now AS BIGINT), CAST(:now AS BIGINT) FROM webhook w "
    "WHERE w.customer_id = :customer AND "
    + _LISTENS.format(key=":key", event="CAST(:event AS TEXT)")
)


def insert_of_job(tx: Transaction, job_id: str) -> int:
    """Insert what is to be told about a job that this transaction has ended; return how much."""
    return tx.execute(_OF_JOB, {"job": job_id, "now": tx.now_ms})


def insert_of_batch(
    tx: Transaction, *, batch_id: str, customer_id: str, key_id: str, event: str
) -> int:
    """Insert what is to be told about a batch that this transaction has ended; return how much."""
    return tx.execute(
        _OF_BATCH,
        {
            "batch": batch_id,
            "customer": customer_id,
            "key": key_id,
            "event": event,
            "now": tx.now_ms,
        },
    )


def insert_test(tx: Transaction, delivery: Delivery) -> None:
    """Insert a test that has been made."""
    values = msgspec.structs.asdict(delivery)
    tx.execute(
        f"INSERT INTO webhook_delivery ({_COLUMNS}, attempts, last_status, last_error, "
        "delivered_at) VALUES (:id, :customer_id, :webhook_id, :target, :url, :event, "
        ":subject, :state, :created_at, :next_at, :attempts, :last_status, :last_error, "
        ":delivered_at)",
        values,
    )


# --- turns --------------------------------------------------------------------------------------


def due(tx: Transaction, *, per_target: int, limit: int) -> list[Turn]:
    """Return deliveries whose turn it is, the longest due first.

    Of each receiver so many that with those that are reminded of or under way there are no more
    than `per_target`: a receiver that is slow, or away, keeps no other one waiting.
    """
    rows = tx.all(
        "SELECT id, target, reminders FROM ("
        "SELECT id, target, reminders, next_at, reminded_until, claimed_until, "
        "ROW_NUMBER() OVER (PARTITION BY target ORDER BY "
        f"CASE WHEN {_FREE} THEN 1 ELSE 0 END, next_at, id) AS place "
        f"FROM webhook_delivery WHERE {_DUE}) turns "
        f"WHERE place <= :most AND {_FREE} ORDER BY next_at, id LIMIT :limit",
        {"now": tx.now_ms, "most": per_target, "limit": limit},
    )
    return [Turn(row["id"], row["target"], row["reminders"]) for row in rows]


def next_due_at(tx: Transaction) -> int | None:
    """Return when something is due again (ms) that is not due yet."""
    row = tx.one(
        "SELECT MIN(next_at) AS soonest FROM webhook_delivery "
        "WHERE state = 'pending' AND next_at > :now",
        {"now": tx.now_ms},
    )
    return None if row is None else row["soonest"]


def remind(tx: Transaction, turn: Turn, *, owner: str, wait_ms: int) -> Turn | None:
    """Note a reminder to be given; None when another process was faster.

    Args:
        tx: a transaction that may write.
        turn: as it was read.
        owner: the process that gives it.
        wait_ms: after so long without an attempt the reminder counts as lost.
    """
    changed = tx.execute(
        "UPDATE webhook_delivery SET reminders = reminders + 1, reminded_until = :until, "
        f"held_by = :owner WHERE id = :id AND reminders = :seen AND {_DUE} AND {_FREE}",
        {
            "id": turn.id,
            "seen": turn.reminders,
            "owner": owner,
            "now": tx.now_ms,
            "until": tx.now_ms + wait_ms,
        },
    )
    return Turn(turn.id, turn.target, turn.reminders + 1) if changed else None


def take_back(tx: Transaction, turn: Turn) -> None:
    """Say that a reminder was not given."""
    tx.execute(
        "UPDATE webhook_delivery SET reminded_until = 0, held_by = NULL "
        "WHERE id = :id AND reminders = :reminders AND claimed_until = 0",
        {"id": turn.id, "reminders": turn.reminders},
    )


# --- attempts -----------------------------------------------------------------------------------


def claim(tx: Transaction, delivery_id: str, *, owner: str, hold_ms: int) -> Delivery | None:
    """Begin an attempt; None when there is nothing to do, or somebody does it.

    Args:
        tx: a transaction that may write.
        delivery_id: which.
        owner: the process that makes it.
        hold_ms: after so long without an end the attempt counts as lost.
    """
    changed = tx.execute(
        "UPDATE webhook_delivery SET attempts = attempts + 1, claimed_until = :until, "
        f"held_by = :owner WHERE id = :id AND {_DUE} AND claimed_until <= :now",
        {
            "id": delivery_id,
            "owner": owner,
            "now": tx.now_ms,
            "until": tx.now_ms + hold_ms,
        },
    )
    return get(tx, delivery_id) if changed else None


def claim_next(tx: Transaction, target: str, *, owner: str, hold_ms: int) -> Delivery | None:
    """Begin an attempt at the receiver's next delivery that nobody was reminded of, if any."""
    row = tx.one(
        f"SELECT id FROM webhook_delivery WHERE target = :target AND {_DUE} AND {_FREE} "
        "ORDER BY next_at, id LIMIT 1",
        {"target": target, "now": tx.now_ms},
    )
    return None if row is None else claim(tx, row["id"], owner=owner, hold_ms=hold_ms)


def holders(tx: Transaction) -> set[str]:
    """Return the processes that have given reminders, or have attempts under way."""
    rows = tx.all("SELECT DISTINCT held_by FROM webhook_delivery WHERE held_by IS NOT NULL")
    return {row["held_by"] for row in rows}


def let_go(tx: Transaction, owner: str) -> None:
    """Forget what a dead process held: perhaps its reminders were lost and its calls arrived."""
    tx.execute(
        "UPDATE webhook_delivery SET reminded_until = 0, claimed_until = 0, held_by = NULL "
        "WHERE held_by = :owner",
        {"owner": owner},
    )


def succeed(tx: Transaction, delivery_id: str, *, status: int) -> None:
    """End a delivery; a success counts, whoever had it and however late it is told."""
    tx.execute(
        "UPDATE webhook_delivery SET state = 'delivered', delivered_at = :now, "
        "last_status = :status, last_error = NULL, reminded_until = 0, claimed_until = 0, "
        "held_by = NULL "
        "WHERE id = :id AND state <> 'delivered'",
        {"id": delivery_id, "now": tx.now_ms, "status": status},
    )


def fail(
    tx: Transaction, delivery: Delivery, *, status: int | None, error: str, next_at: int | None
) -> bool:
    """Note a failed attempt; False when it is no longer the newest one.

    Args:
        tx: a transaction that may write.
        delivery: as it was claimed.
        status: what the receiver answered, if it did.
        error: why, in neutral words.
        next_at: when to try again (ms); None: no more.
    """
    return bool(
        tx.execute(
            "UPDATE webhook_delivery SET state = :state, last_status = :status, "
            "last_error = :error, next_at = :next, reminded_until = 0, claimed_until = 0, "
            "held_by = NULL WHERE id = :id AND state = 'pending' AND attempts = :attempt",
            {
                "id": delivery.id,
                "attempt": delivery.attempts,
                "state": "failed" if next_at is None else "pending",
                "status": status,
                "error": error,
                "next": delivery.next_at if next_at is None else next_at,
            },
        )
    )


def send_again(tx: Transaction, delivery_id: str) -> None:
    """Let a delivery begin anew, under its old id; one that is under way is let be."""
    tx.execute(
        "UPDATE webhook_delivery SET state = 'pending', delivered_at = NULL, attempts = 0, "
        "next_at = :now, reminded_until = 0, claimed_until = 0, held_by = NULL "
        "WHERE id = :id AND claimed_until <= :now",
        {"id": delivery_id, "now": tx.now_ms},
    )


# --- reading ------------------------------------------------------------------------------------


def get(tx: Transaction, delivery_id: str) -> Delivery | None:
    """Return a delivery of any customer, or None."""
    row = tx.one("SELECT * FROM webhook_delivery WHERE id = :id", {"id": delivery_id})
    return None if row is None else _delivery(row)


def page(
    tx: Transaction,
    customer_id: str,
    key_id: str,
    *,
    webhook_id: str | None,
    after: Delivery | None,
    limit: int,
) -> list[Delivery]:
    """Return deliveries that a key may see, newest first.

    Args:
        tx: a transaction.
        customer_id: whose.
        key_id: sees what goes to the customer's webhooks and its own.
        webhook_id: only those of this one.
        after: the last one that was seen.
        limit: most to return.
    """
    rows = tx.all(
        "SELECT d.* FROM webhook_delivery d LEFT JOIN webhook w ON w.id = d.webhook_id "
        "WHERE d.customer_id = :customer AND (w.key_id IS NULL OR w.key_id = :key) "
        + ("AND d.webhook_id = :webhook " if webhook_id else "")
        + ("AND (d.created_at, d.id) < (:before_at, :before_id) " if after else "")
        + "ORDER BY d.created_at DESC, d.id DESC LIMIT :limit",
        {
            "customer": customer_id,
            "key": key_id,
            "limit": limit,
            **({"webhook": webhook_id} if webhook_id else {}),
            **({"before_at": after.created_at, "before_id": after.id} if after else {}),
        },
    )
    return [_delivery(row) for row in rows]


def any_ended(tx: Transaction, *, before_ms: int) -> bool:
    """Return whether `forget` would remove anything."""
    row = tx.one(
        "SELECT 1 AS found FROM webhook_delivery "
        "WHERE state <> 'pending' AND created_at < :before LIMIT 1",
        {"before": before_ms},
    )
    return row is not None


def forget(tx: Transaction, *, before_ms: int) -> int:
    """Remove what has ended and was inserted before then; return how much."""
    return tx.execute(
        "DELETE FROM webhook_delivery WHERE state <> 'pending' AND created_at < :before",
        {"before": before_ms},
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(**{name: row[name] for name in Delivery.__struct_fields__})
