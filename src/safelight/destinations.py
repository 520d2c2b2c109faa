"""Customers' own buckets: which one a customer has, and which pictures are to be carried there.

Owns these rows. Addresses are set by the operator, credentials are named by an environment variable
and stand in no row. What is to be carried is written in the transaction that settles the picture,
so nothing is forgotten; carrying is the gateway's business.
"""

from __future__ import annotations

import msgspec

from safelight.db import Row, Transaction

KEY_TEMPLATE = "{date}/{job_id}.{ext}"


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's bucket.

    `key_template` makes the object's name from {date}, {job_id}, {image_id}, {sha256} and {ext};
    `every_picture`: all are carried there, not only those that are pinned or asked for.
    """

    customer_id: str
    url: str
    credentials_env: str
    key_template: str = KEY_TEMPLATE
    every_picture: bool = True


class Persisting(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that is to be carried. Times in milliseconds since 1970."""

    image_id: str
    customer_id: str
    tries: int
    due_at: int
    begun_at: int


def put(tx: Transaction, destination: Destination) -> None:
    """Give a customer a bucket, or another one."""
    tx.execute(
        "INSERT INTO destination (customer_id, url, credentials_env, key_template, every_picture, "
        "changed_at) VALUES (:customer_id, :url, :credentials_env, :key_template, :every, :now) "
        "ON CONFLICT (customer_id) DO UPDATE SET url = :url, credentials_env = :credentials_env, "
        "key_template = :key_template, every_picture = :every, changed_at = :now",
        {
            **msgspec.structs.asdict(destination),
            "every": int(destination.every_picture),
            "now": tx.now_ms,
        },
    )


def remove(tx: Transaction, customer_id: str) -> bool:
    """Take a customer's bucket away, and give up what was to be carried; False: it had none."""
    tx.execute(
        "UPDATE persisting SET state = 'failed', ended_at = :now, error = 'no bucket any more' "
        "WHERE customer_id = :customer AND state = 'waiting'",
        {"customer": customer_id, "now": tx.now_ms},
    )
    return bool(tx.execute("DELETE FROM destination WHERE customer_id = :c", {"c": customer_id}))


def of_customer(tx: Transaction, customer_id: str) -> Destination | None:
    """Return a customer's bucket, or None."""
    row = tx.one("SELECT * FROM destination WHERE customer_id = :c", {"c": customer_id})
    return None if row is None else _destination(row)


def all_destinations(tx: Transaction) -> list[tuple[str, Destination, int, int]]:
    """Return each bucket with its customer's name, how many pictures wait and how many failed."""
    rows = tx.all(
        "SELECT d.*, c.name, (SELECT COUNT(*) FROM persisting p WHERE "
        "p.customer_id = d.customer_id AND p.state = 'waiting') AS waiting, "
        "(SELECT COUNT(*) FROM persisting p WHERE p.customer_id = d.customer_id "
        "AND p.state = 'failed') AS failed "
        "FROM destination d JOIN customer c ON c.id = d.customer_id ORDER BY c.name"
    )
    return [(row["name"], _destination(row), row["waiting"], row["failed"]) for row in rows]


def wish(tx: Transaction, request_id: str) -> None:
    """Note that the pictures of a request are to be carried; after the request's own row."""
    tx.execute("INSERT INTO persist_wish (request_id) VALUES (:id)", {"id": request_id})


def note_picture(tx: Transaction, *, customer_id: str, request_id: str, image_id: str) -> bool:
    """Have a new picture carried where its customer or its order wants it; return whether."""
    found = of_customer(tx, customer_id)
    if found is None:
        return False
    if not found.every_picture:
        wished = tx.one("SELECT 1 FROM persist_wish WHERE request_id = :id", {"id": request_id})
        if wished is None:
            return False
    return carry(tx, customer_id, image_id)


def carry(tx: Transaction, customer_id: str, image_id: str) -> bool:
    """Have a picture carried, unless it was or is to be; a failed one is tried anew."""
    return bool(
        tx.execute(
            "INSERT INTO persisting (image_id, customer_id, state, due_at, begun_at) "
            "VALUES (:image, :customer, 'waiting', :now, :now) ON CONFLICT (image_id) DO UPDATE "
            "SET state = 'waiting', due_at = :now, begun_at = :now, ended_at = NULL "
            "WHERE persisting.state = 'failed'",
            {"image": image_id, "customer": customer_id, "now": tx.now_ms},
        )
    )


def due(tx: Transaction, *, limit: int) -> list[Persisting]:
    """Return pictures whose next try is due, oldest first."""
    rows = tx.all(
        "SELECT * FROM persisting WHERE state = 'waiting' AND due_at <= :now "
        "ORDER BY due_at, image_id LIMIT :limit",
        {"now": tx.now_ms, "limit": limit},
    )
    return [_persisting(row) for row in rows]


def waiting(tx: Transaction, image_id: str) -> Persisting | None:
    """Return a picture that is still to be carried, or None."""
    row = tx.one(
        "SELECT * FROM persisting WHERE image_id = :id AND state = 'waiting'", {"id": image_id}
    )
    return None if row is None else _persisting(row)


def take(tx: Transaction, one: Persisting, *, again_at: int) -> bool:
    """Begin a try, so that nobody else does before `again_at`; False: somebody was faster."""
    return bool(
        tx.execute(
            "UPDATE persisting SET tries = tries + 1, due_at = :again "
            "WHERE image_id = :id AND state = 'waiting' AND tries = :tries",
            {"id": one.image_id, "tries": one.tries, "again": again_at},
        )
    )


def done(tx: Transaction, image_id: str, url: str) -> None:
    """Say that a picture lies in its customer's bucket."""
    tx.execute(
        "UPDATE persisting SET state = 'done', url = :url, ended_at = :now, error = NULL "
        "WHERE image_id = :id AND state = 'waiting'",
        {"id": image_id, "url": url, "now": tx.now_ms},
    )


def failed(tx: Transaction, image_id: str, error: str, *, again_at: int | None) -> None:
    """Say what a try met; None: it is not tried again."""
    tx.execute(
        "UPDATE persisting SET error = :error, due_at = COALESCE(:again, due_at), "
        "state = CASE WHEN :over = 1 THEN 'failed' ELSE 'waiting' END, "
        "ended_at = CASE WHEN :over = 1 THEN :now ELSE NULL END "
        "WHERE image_id = :id AND state = 'waiting'",
        {
            "id": image_id,
            "error": error,
            "again": again_at,
            "over": int(again_at is None),
            "now": tx.now_ms,
        },
    )


def _destination(row: Row) -> Destination:
    return Destination(
        customer_id=row["customer_id"],
        url=row["url"],
        credentials_env=row["credentials_env"],
        key_template=row["key_template"],
        every_picture=bool(row["every_picture"]),
    )


def _persisting(row: Row) -> Persisting:
    return Persisting(**{name: row[name] for name in Persisting.__struct_fields__})
