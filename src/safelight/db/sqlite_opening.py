"""Opening an SQLite file: looked at for damage, brought to the newest schema.

Owns what happens before the first transaction. Runs in the caller's thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from safelight.db import SchemaTooNew
from safelight.db.schema import migrations
from safelight.db.sqlite_trouble import DAMAGED
from safelight.db.sqlite_writer import LOCK_LOOK_S

OPEN_PATIENCE_S = 10.0
"""How long opening waits for whoever opens the same new file at the same moment."""


class Damaged(sqlite3.DatabaseError):
    """The file is no whole database."""


@contextlib.contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Give damage that SQLite meets a name of its own.

    Raises:
        Damaged: it met some.
    """
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            raise Damaged(f"{path} is damaged ({error})") from error
        raise


def prepare(connection: sqlite3.Connection, path: Path, now_ms: int, *, check: bool) -> None:
    """Turn on the write-ahead log, look for damage where `check` says so, and migrate.

    Raises:
        sqlite3.Error: the file is damaged, or not to be opened.
        SchemaTooNew: a newer safelight has migrated it.
    """
    # SQLite does not wait by itself for whoever opens a new file in the same moment.
    _patiently(connection, "PRAGMA journal_mode=WAL", OPEN_PATIENCE_S)
    if check:
        look_for_damage(connection, path)
    _migrate(connection, now_ms)


def look_for_damage(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a damaged file: money is never silently repaired. Reads the whole file.

    Raises:
        Damaged: it is.
    """
    verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise Damaged(f"{path} is damaged ({' '.join(verdict.split())[:200]})")


def look_for_damage_beside(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage as `look_for_damage` does, beside writers: one table at a time.

    A look is a snapshot, and the write-ahead log grows for as long as one lasts.

    Raises:
        Damaged: it is.
    """
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for name in ("sqlite_schema", *sorted(row[0] for row in tables)):
        verdict = connection.execute(f"PRAGMA quick_check('{name}')").fetchone()[0]
        if verdict != "ok":
            raise Damaged(f"{path} is damaged ({' '.join(verdict.split())[:200]})")


def _patiently(connection: sqlite3.Connection, sql: str, seconds: float) -> None:
    """Run a statement as soon as other processes let it, at most `seconds` later."""
    until = time.monotonic() + seconds
    while True:
        try:
            connection.execute(sql)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= until:
                raise
        else:
            return
        time.sleep(LOCK_LOOK_S)


def _migrate(connection: sqlite3.Connection, now_ms: int) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migration "
        "(version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
    )
    steps = migrations("sqlite")
    found = connection.execute("SELECT MAX(version) FROM migration").fetchone()[0] or 0
    if found > steps[-1].version:
        raise SchemaTooNew(found, steps[-1].version)
    for step in steps:
        # The check runs inside the write lock: two processes may start on one folder.
        connection.execute("BEGIN IMMEDIATE")
        done = connection.execute(
            "SELECT 1 FROM migration WHERE version = ?", (step.version,)
        ).fetchone()
        connection.execute("COMMIT")
        if done is None:
            _apply(connection, step.sql, step.version, step.name, now_ms)


def _apply(connection: sqlite3.Connection, sql: str, version: int, name: str, now_ms: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{sql}\n"
            f"INSERT INTO migration VALUES ({version}, '{name}', {now_ms});\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        row = connection.execute("SELECT 1 FROM migration WHERE version = ?", (version,)).fetchone()
        if row is None:  # not another process that was a moment faster
            raise
