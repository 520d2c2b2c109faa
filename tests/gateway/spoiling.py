"""A hand in the books: what somebody with the database's password, or a bad disk, can do to them.

Works beside the application, with every trigger, foreign key, check and unique index out of the
way. `append` is the careful forger, who keeps hash chain and balance right.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row

from safelight import ledger

INDEXES = ("one_resolution", "one_reserve", "one_refund")
_NAME = re.compile(r"(?<!:):([a-z_]+)")


class Connection(Protocol):
    """What both drivers have in common."""

    def execute(self, sql: Any, values: Any = ...) -> Any: ...

    def close(self) -> None: ...


class Hand:
    """Changes anything, in one database and one folder of blobs."""

    def __init__(self, connection: Connection, blobs: Path, *, postgres: bool) -> None:
        self._connection = connection
        self._postgres = postgres
        self.blobs = blobs

    def run(self, sql: str, **values: Any) -> None:
        """Run one statement with `:name` parameters."""
        self._execute(sql, values)

    def row(self, sql: str, **values: Any) -> dict[str, Any]:
        """Return the first row."""
        found = self._execute(sql, values).fetchone()
        assert found is not None
        return dict(found)

    def transfer(self, transfer_id: str) -> dict[str, Any]:
        return self.row("SELECT * FROM transfer WHERE id = :id", id=transfer_id)

    def blob(self, job_id: str, column: str = "digest") -> Path:
        row = self.row(f"SELECT {column} AS name FROM image WHERE job_id = :id", id=job_id)
        name = str(row["name"])
        return self.blobs / name[:2] / name[2:4] / name

    def insert(self, row: dict[str, Any]) -> None:
        names = [name for name in row if name != "seq"]
        self.run(
            f"INSERT INTO transfer ({', '.join(names)}) "
            f"VALUES ({', '.join(':' + name for name in names)})",
            **{name: row[name] for name in names},
        )

    def append(
        self, like: str, *, posted: int = 0, held: int = 0, **changes: Any
    ) -> dict[str, Any]:
        """Append a transfer like another one, with a right hash and a balance that fits it."""
        row = {**self.transfer(like), **changes}
        customer = row["customer_id"]
        self.run(
            "UPDATE balance SET posted_micros = posted_micros + :posted, "
            "held_micros = held_micros + :held WHERE customer_id = :customer",
            posted=posted,
            held=held,
            customer=customer,
        )
        head = self.row("SELECT * FROM balance WHERE customer_id = :id", id=customer)
        row |= {"balance_micros": head["posted_micros"], "prev_hash": head["chain"]}
        row["hash"] = ledger.chain_hash(row)
        self.insert(row)
        self.run(
            "UPDATE balance SET chain = :hash WHERE customer_id = :id",
            hash=row["hash"],
            id=customer,
        )
        return row

    def close(self) -> None:
        self._connection.close()

    def _execute(self, sql: str, values: dict[str, Any]) -> Any:
        if self._postgres:
            sql = _NAME.sub(r"%(\1)s", sql)
        return self._connection.execute(sql, values)


def hand_in_file(path: Path, blobs: Path) -> Hand:
    """Open a SQLite file without its protections."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for name in ("transfer_no_update", "transfer_no_delete"):
        connection.execute(f"DROP TRIGGER {name}")
    for name in INDEXES:
        connection.execute(f"DROP INDEX {name}")
    return Hand(connection, blobs, postgres=False)


def hand_in_postgres(url: str, blobs: Path) -> Hand:
    """Open a Postgres database without its protections."""
    connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)
    # Neither triggers nor foreign keys hold for who applies changes as a replica does.
    connection.execute("SET session_replication_role = replica")
    for row in connection.execute(
        "SELECT conrelid::regclass AS on_table, conname FROM pg_constraint "
        "WHERE contype = 'c' AND conrelid IN ('transfer'::regclass, 'balance'::regclass)"
    ).fetchall():
        connection.execute(f"ALTER TABLE {row['on_table']} DROP CONSTRAINT {row['conname']}")
    for name in INDEXES:
        connection.execute(f"DROP INDEX {name}")
    return Hand(connection, blobs, postgres=True)
