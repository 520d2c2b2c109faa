"""Opening a Postgres database: is it one for us, and has it the newest schema?

Owns the table `migration` there. Several processes may start at one time: one migrates, under an
advisory lock of its session; whoever comes second finds it done. Each step is one transaction.
"""

from __future__ import annotations

import time

from safelight.clock import Clock
from safelight.db import SchemaTooNew
from safelight.db.postgres_session import Connection, connect
from safelight.db.schema import Migration, migrations

# Of the session, not of a transaction: one that began before it waited would look for the table in
# what it knew then.
_LOCK = "SELECT pg_advisory_lock(hashtextextended('safelight schema', 0))"
_TABLE = (
    "CREATE TABLE migration "
    "(version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
)


class NotForText(Exception):
    """The database cannot hold every text; it must be made with the encoding UTF8."""


def prepare(url: str, clock: Clock | None = None) -> int:
    """Bring a database to the newest schema; return the version that it had before.

    Raises:
        psycopg.Error: the server cannot be reached, does not let us in, or refuses a step.
        NotForText: its encoding is not UTF8.
        SchemaTooNew: a newer safelight has migrated it.
    """
    steps = migrations("postgresql")
    with connect(url, application_name="safelight") as connection:
        _check_encoding(connection)
        before = _version(connection)
        if before > steps[-1].version:
            raise SchemaTooNew(before, steps[-1].version)
        if before < steps[-1].version:
            connection.execute("SET statement_timeout = 0")
            connection.execute(_LOCK)
            before = _version(connection)
            _apply(connection, [step for step in steps if step.version > before], clock)
    return before


def schema_version(url: str) -> int:
    """Return the version of a database's schema, 0 where there is none; changes nothing.

    Raises:
        psycopg.Error: the server cannot be reached, or does not let us in.
    """
    with connect(url, application_name="safelight") as connection:
        return _version(connection)


def _version(connection: Connection) -> int:
    found = connection.execute("SELECT to_regclass('migration') AS found").fetchone()
    if found is None or found["found"] is None:
        return 0
    row = connection.execute("SELECT MAX(version) AS version FROM migration").fetchone()
    return 0 if row is None or row["version"] is None else int(row["version"])


def _apply(connection: Connection, steps: list[Migration], clock: Clock | None) -> None:
    now_ms = time.time_ns() // 1_000_000 if clock is None else clock.now_ms()
    for step in steps:
        with connection.transaction():
            if step.version == 1:
                connection.execute(_TABLE)
            # No parameters: the driver then takes several statements, and no `%` means anything.
            connection.execute(step.sql.encode())
            connection.execute(
                "INSERT INTO migration (version, name, applied_at) VALUES (%s, %s, %s)",
                [step.version, step.name, now_ms],
            )


def _check_encoding(connection: Connection) -> None:
    row = connection.execute("SHOW server_encoding").fetchone()
    assert row is not None
    if row["server_encoding"] != "UTF8":
        raise NotForText(f"the database's encoding is {row['server_encoding']}, not UTF8")
