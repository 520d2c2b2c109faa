"""One open SQLite transaction: statements in, rows or typed errors out."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NoReturn

from safelight.db import Row, UniqueViolation
from safelight.db.sqlite_trouble import Trouble

_NOTHING: Mapping[str, Any] = {}


class SqliteTransaction:
    """One open SQLite transaction (see `safelight.db.Transaction`).

    Faults of the medium leave every method as `Unavailable`.
    """

    __slots__ = ("_connection", "_trouble", "_writing", "now_ms")

    def __init__(
        self,
        connection: sqlite3.Connection,
        now_ms: int,
        trouble: Trouble,
        *,
        writing: bool = True,
    ) -> None:
        self._connection = connection
        self._trouble = trouble
        self._writing = writing
        self.now_ms = now_ms

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that it runs on; for instruments that count, never for statements."""
        return self._connection

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        try:
            return self._connection.execute(sql, params or _NOTHING).rowcount
        except sqlite3.Error as error:
            self._raise(error)

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        try:
            rows: list[Row] = self._connection.execute(sql, params or _NOTHING).fetchall()
        except sqlite3.Error as error:
            self._raise(error)
        return rows

    def lock(self, name: str) -> None:
        """Do nothing: one transaction writes at a time, over all processes."""

    def number_on(self, table: str, column: str) -> None:
        """Do nothing: SQLite goes on after the largest value by itself."""

    def _raise(self, error: sqlite3.Error) -> NoReturn:
        if isinstance(error, sqlite3.IntegrityError) and "UNIQUE constraint" in str(error):
            raise UniqueViolation(str(error)) from error
        judged = self._trouble.judged(error, writing=self._writing)
        if judged is error:
            raise error
        raise judged from error
