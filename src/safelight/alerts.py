"""Alerts: what the operator is told, raised once and resolved once over all processes.

Owns the rows of alerts, of what each process sees, of the messages to the operator's webhook, and
of turns that all processes share. Decides nothing: `gateway.alerting` judges, and calls `settle`
with what is wrong now. For people there are `current` and `history`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from safelight.db import Row, Transaction

RAISED, RESOLVED = "alert.raised", "alert.resolved"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert. Times in milliseconds since 1970; `resolved_at` None: it stands.

    `value` and `threshold` are what was measured and what it was compared with, where anything was.
    """

    id: str
    rule: str
    subject: str
    words: str
    value: float | None
    threshold: float | None
    raised_at: int
    clear_since: int | None
    resolved_at: int | None


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now.

    `holds` alone: not wrong enough to raise an alert, but too wrong to resolve one (hysteresis).
    """

    rule: str
    subject: str = ""
    words: str
    value: float | None = None
    threshold: float | None = None
    holds: bool = False


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message to the operator's webhook, with its alert."""

    id: str
    event: str
    attempts: int
    next_at: int
    created_at: int
    alert: Alert


# --- reading -------------------------------------------------------------------------------------


def current(tx: Transaction) -> list[Alert]:
    """Return the alerts that stand, the oldest first."""
    rows = tx.all("SELECT * FROM alert WHERE resolved_at IS NULL ORDER BY raised_at, id")
    return [_alert(row) for row in rows]


def history(tx: Transaction, *, after: Alert | None = None, limit: int = 100) -> list[Alert]:
    """Return alerts, those that stand too, the newest first.

    Args:
        tx: a transaction.
        after: the last one that was seen; None: from the newest.
        limit: most to return.
    """
    rows = tx.all(
        "SELECT * FROM alert "
        + ("WHERE (raised_at, id) < (:before_at, :before_id) " if after else "")
        + "ORDER BY raised_at DESC, id DESC LIMIT :limit",
        {
            "limit": limit,
            **({"before_at": after.raised_at, "before_id": after.id} if after else {}),
        },
    )
    return [_alert(row) for row in rows]


def get(tx: Transaction, alert_id: str) -> Alert | None:
    """Return an alert, or None."""
    row = tx.one("SELECT * FROM alert WHERE id = :id", {"id": alert_id})
    return None if row is None else _alert(row)


# --- changing ------------------------------------------------------------------------------------


def settle(
    tx: Transaction, wrong: Sequence[Wrong], *, new_ids: Sequence[str], clear_ms: int
) -> tuple[list[Alert], list[Alert]]:
    """Raise what is wrong and stands not yet; resolve what has been well for so long.

    Args:
        tx: a transaction that may write.
        wrong: everything that is wrong now, as all processes see it.
        new_ids: as many as `wrong`, for alerts that are raised.
        clear_ms: how long all must be well, milliseconds.

    Returns:
        The alerts that were raised and those that were resolved, by this call alone.
    """
    standing = {(one.rule, one.subject): one for one in current(tx)}
    bad = {(one.rule, one.subject) for one in wrong}
    raised, resolved = [], []
    for one, alert_id in zip(wrong, new_ids, strict=True):
        alert = standing.get((one.rule, one.subject))
        if alert is not None:
            if alert.clear_since is not None:
                _set_clear(tx, alert.id, None)
        elif not one.holds and _insert(tx, alert_id, one):
            found = get(tx, alert_id)
            assert found is not None
            raised.append(found)
    for which, alert in sorted(standing.items()):
        if which in bad:
            continue
        # A time to come was written before the clock was set back.
        since = alert.clear_since
        if since is None or since > tx.now_ms:
            since = tx.now_ms
            _set_clear(tx, alert.id, since)
        if tx.now_ms - since >= clear_ms and _resolve(tx, alert.id):
            resolved.append(msgspec.structs.replace(alert, resolved_at=tx.now_ms))
    return raised, resolved


def _insert(tx: Transaction, alert_id: str, one: Wrong) -> bool:
    """Insert an alert; False when another process has just done so."""
    return bool(
        tx.execute(
            "INSERT INTO alert (id, rule, subject, words, value, threshold, raised_at) "
            "VALUES (:id, :rule, :subject, :words, :value, :threshold, :now) "
            "ON CONFLICT (rule, subject) WHERE resolved_at IS NULL DO NOTHING",
            {
                "id": alert_id,
                "rule": one.rule,
                "subject": one.subject,
                "words": one.words,
                "value": one.value,
                "threshold": one.threshold,
                "now": tx.now_ms,
            },
        )
    )


def _set_clear(tx: Transaction, alert_id: str, since: int | None) -> None:
    tx.execute(
        "UPDATE alert SET clear_since = :since WHERE id = :id AND resolved_at IS NULL",
        {"id": alert_id, "since": since},
    )


def _resolve(tx: Transaction, alert_id: str) -> bool:
    return bool(
        tx.execute(
            "UPDATE alert SET resolved_at = :now WHERE id = :id AND resolved_at IS NULL",
            {"id": alert_id, "now": tx.now_ms},
        )
    )


def forget(tx: Transaction, *, before_ms: int) -> None:
    """Remove alerts that were resolved before then, with their messages."""
    old = "SELECT id FROM alert WHERE resolved_at < :before"
    tx.execute(f"DELETE FROM alert_message WHERE alert_id IN ({old})", {"before": before_ms})
    tx.execute("DELETE FROM alert WHERE resolved_at < :before", {"before": before_ms})


# --- what processes see --------------------------------------------------------------------------


def say(tx: Transaction, owner: str, figures: str, *, fresh_ms: int) -> None:
    """Keep what a process sees, and forget those that have said nothing for long."""
    tx.execute(
        "INSERT INTO alert_figures (owner, said_at, figures) VALUES (:owner, :now, :figures) "
        "ON CONFLICT (owner) DO UPDATE SET said_at = :now, figures = :figures",
        {"owner": owner, "now": tx.now_ms, "figures": figures},
    )
    tx.execute("DELETE FROM alert_figures WHERE said_at < :old", {"old": tx.now_ms - fresh_ms})


def said(tx: Transaction, *, fresh_ms: int) -> dict[str, str]:
    """Return what the processes see that have spoken within that time, by owner."""
    rows = tx.all(
        "SELECT owner, figures FROM alert_figures WHERE said_at >= :since ORDER BY owner",
        {"since": tx.now_ms - fresh_ms},
    )
    return {row["owner"]: row["figures"] for row in rows}


def leave(tx: Transaction, owner: str) -> None:
    """Forget what a process saw that ends."""
    tx.execute("DELETE FROM alert_figures WHERE owner = :owner", {"owner": owner})


def take_turn(tx: Transaction, name: str, *, not_within_ms: int) -> bool:
    """Say that this process does something now; False when one did it less than that ago."""
    return bool(
        tx.execute(
            "INSERT INTO watch_turn (name, taken_at) VALUES (:name, :now) "
            "ON CONFLICT (name) DO UPDATE SET taken_at = :now "
            "WHERE watch_turn.taken_at <= :before OR watch_turn.taken_at > :now",
            {"name": name, "now": tx.now_ms, "before": tx.now_ms - not_within_ms},
        )
    )


# --- messages ------------------------------------------------------------------------------------


def insert_message(tx: Transaction, alert: Alert, event: str) -> None:
    """Put a message about an alert into the outbox; its id is made of the alert's."""
    tx.execute(
        "INSERT INTO alert_message (id, alert_id, event, created_at, next_at) "
        "VALUES (:id, :alert, :event, :now, :now)",
        {
            "id": f"msg_{alert.id}_{event.partition('.')[2]}",
            "alert": alert.id,
            "event": event,
            "now": tx.now_ms,
        },
    )


def due(tx: Transaction, *, limit: int) -> list[Message]:
    """Return messages whose turn it is, the longest due first."""
    rows = tx.all(
        "SELECT m.id AS m_id, m.event, m.attempts, m.next_at, m.created_at, a.* "
        "FROM alert_message m JOIN alert a ON a.id = m.alert_id "
        "WHERE m.ended_at IS NULL AND m.next_at <= :now ORDER BY m.next_at, m.id LIMIT :limit",
        {"now": tx.now_ms, "limit": limit},
    )
    return [
        Message(
            id=row["m_id"],
            event=row["event"],
            attempts=row["attempts"],
            next_at=row["next_at"],
            created_at=row["created_at"],
            alert=_alert(row),
        )
        for row in rows
    ]


def claim(tx: Transaction, message: Message, *, next_at: int) -> bool:
    """Begin an attempt, the next one not before then; False when another process has begun it."""
    return bool(
        tx.execute(
            "UPDATE alert_message SET attempts = attempts + 1, next_at = :next "
            "WHERE id = :id AND attempts = :attempts AND ended_at IS NULL",
            {"id": message.id, "attempts": message.attempts, "next": next_at},
        )
    )


def end_message(tx: Transaction, message_id: str, *, error: str | None, final: bool) -> None:
    """Note how an attempt ended; `final`: there is no other."""
    tx.execute(
        "UPDATE alert_message SET last_error = :error, "
        "ended_at = CASE WHEN :final = 1 THEN CAST(:now AS BIGINT) ELSE NULL END "
        "WHERE id = :id AND ended_at IS NULL",
        {"id": message_id, "error": error, "final": int(final), "now": tx.now_ms},
    )


def _alert(row: Row) -> Alert:
    return Alert(**{name: row[name] for name in Alert.__struct_fields__})
