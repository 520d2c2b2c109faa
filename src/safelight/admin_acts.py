"""Acts: what operators did, by whom, from where, and with what outcome.

Owns the rows of `admin_act`, which are written once, in the transaction that does what they tell,
and never change. Transfers of money name the same actor, so an act and its transfer are found by
one another. Decides nothing.
"""

from __future__ import annotations

import secrets

import msgspec

from safelight.db import Row, Transaction

DONE = "done"
WORDS_MAX = 500


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts. `id` is what transfers call the actor; `address` is empty for a command."""

    id: str
    name: str
    session_id: str = ""
    address: str = ""


COMMAND = Actor(id="operator", name="command line")
"""Whoever may write to the data folder; the operating system knows the person."""


class Note(msgspec.Struct):
    """What an act was done to, filled in while it is done; `before` and `after` in words."""

    subject: str
    before: str = ""
    after: str = ""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """A row. `at` in milliseconds since 1970."""

    seq: int
    id: str
    at: int
    actor: str
    actor_name: str
    session_id: str
    address: str
    act: str
    subject: str
    before: str
    after: str
    outcome: str


def note(tx: Transaction, actor: Actor, act: str, what: Note, *, outcome: str = DONE) -> None:
    """Write down an act."""
    tx.execute(
        "INSERT INTO admin_act (id, at, actor, actor_name, session_id, address, act, subject, "
        "before, after, outcome) VALUES (:id, :now, :actor, :actor_name, :session, :address, :act, "
        ":subject, :before, :after, :outcome)",
        {
            "id": f"act_{secrets.token_hex(12)}",
            "now": tx.now_ms,
            "actor": actor.id,
            "actor_name": actor.name,
            "session": actor.session_id,
            "address": actor.address,
            "act": act,
            "subject": what.subject[:WORDS_MAX],
            "before": what.before[:WORDS_MAX],
            "after": what.after[:WORDS_MAX],
            "outcome": outcome[:WORDS_MAX],
        },
    )


def page(
    tx: Transaction, *, subject: str | None = None, after: str | None = None, limit: int
) -> list[Act]:
    """Return acts, newest first: those on one subject, or all.

    Raises:
        LookupError: `after` is no act.
    """
    conditions = ["seq > 0"]
    values: dict[str, object] = {"limit": limit}
    if subject is not None:
        conditions.append("subject = :subject")
        values["subject"] = subject
    if after is not None:
        row = tx.one("SELECT seq FROM admin_act WHERE id = :id", {"id": after})
        if row is None:
            raise LookupError(after)
        conditions.append("seq < :seq")
        values["seq"] = row["seq"]
    rows = tx.all(
        f"SELECT * FROM admin_act WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT :limit",
        values,
    )
    return [_act(row) for row in rows]


def _act(row: Row) -> Act:
    return Act(**{name: row[name] for name in Act.__struct_fields__})
