"""One session with Postgres: its connection, settings and transactions.

Owns the words of a transaction (begin, commit with a mark) and how SQL with `:name` becomes the
driver's. Runs no work and decides nothing about repeating.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8Dumper, NumericLoader

from safelight.clock import Clock
from safelight.db import Row, UniqueViolation
from safelight.db.postgres_errors import PLAN_OUTDATED, is_lost

Connection = psycopg.Connection[dict[str, Any]]

TRANSPORT = {
    "connect_timeout": "2",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
}
"""A server that is gone without a word is given up after about ten seconds."""

TIMEOUTS = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'"
READER_TIMEOUTS = "SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '600s'"
"""Readers hold no locks; reports read long tables and compute between their statements."""
LOCKS = "SET lock_timeout = '5s'"
DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') <> 'remote_apply'"
)

_NOW = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT) AS now_ms"
_WORDS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|::|:([A-Za-z_]\w*)|%")


@lru_cache(maxsize=2048)
def in_driver_words(sql: str) -> bytes:
    """Return SQL with `:name` as the driver's `%(name)s`; text in quotes stays as it is."""

    def word(match: re.Match[str]) -> str:
        return f"%({match[1]})s" if match[1] else match[0].replace("%", "%%")

    return _WORDS.sub(word, sql).encode()


class _BoolDumper(Int8Dumper):
    """True is 1, as in SQLite: columns of truth are integers."""

    def dump(self, obj: Any) -> bytes:
        return b"1" if obj else b"0"


class _NumberLoader(NumericLoader):
    """Sums of BIGINT come as numeric: whole numbers are ints, as in SQLite."""

    def load(self, data: Any) -> Any:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class PostgresTransaction:
    """One open Postgres transaction (see `safelight.db.Transaction`).

    Attributes:
        trouble: the driver's error that ended the transaction, whatever the work made of it.
    """

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self._connection = connection
        self.now_ms = now_ms
        self.trouble: psycopg.Error | None = None

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        return self._run(sql, params).rowcount

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        return self._run(sql, params).fetchone()

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        return list(self._run(sql, params).fetchall())

    def lock(self, name: str) -> None:
        """Keep other transactions that lock this name waiting, over all processes."""
        self._run("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", {"name": name})

    def number_on(self, table: str, column: str) -> None:
        """Let a numbered column go on after its largest value."""
        self._run(
            f"SELECT setval(pg_get_serial_sequence(:table, :column), MAX({column})) "
            f"FROM {table} HAVING MAX({column}) IS NOT NULL",
            {"table": table, "column": column},
        )

    def _run(self, sql: str, params: Mapping[str, Any] | None) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return self._connection.execute(in_driver_words(sql), params or {})
        except psycopg.errors.UniqueViolation as error:
            raise UniqueViolation(str(error)) from error
        except psycopg.Error as error:
            self.trouble = error
            raise


class Session:
    """A connection that can be opened again; one thread uses it.

    Args:
        url: the database.
        clock: gives transactions their time; None: the database's own clock.
        reader: whether its transactions are read-only snapshots.
    """

    def __init__(self, url: str, clock: Clock | None, *, reader: bool = False) -> None:
        self._url = url
        self._clock = clock
        self.reader = reader
        self._connection: Connection | None = None
        self._name = ""
        self._begun = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as anybody has noticed."""
        return self._connection is not None

    def open(self) -> None:
        """Connect, and see to it that the session before this one is over.

        That one's transaction may still hold locks where only the network has failed. Its name is
        like no other's, so nobody else can be meant.

        Raises:
            psycopg.Error: there is no server, or it does not let us in.
        """
        before, name = self._name, f"safelight-{secrets.token_hex(8)}"
        connection = connect(self._url, application_name=name)
        try:
            timeouts = READER_TIMEOUTS if self.reader else TIMEOUTS
            connection.execute(f"{timeouts}; {LOCKS}; {DURABLE}".encode())
            if before:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                    "WHERE application_name = %s AND usename = current_user",
                    [before],
                )
        except psycopg.Error:
            connection.close()
            raise
        self._connection, self._name = connection, name
        self._begun = 0

    def begin(self) -> PostgresTransaction:
        """Begin a transaction; its time comes in the same round trip."""
        how = "REPEATABLE READ READ ONLY" if self.reader else "READ COMMITTED"
        begin = f"BEGIN ISOLATION LEVEL {how}"
        self._begun += 1
        if self._clock is not None:
            self.connection.execute(begin.encode(), prepare=False)
            return PostgresTransaction(self.connection, self._clock.now_ms())
        cursor = self.connection.execute(f"{begin}; {_NOW}".encode(), prepare=False)
        cursor.nextset()
        row = cursor.fetchone()
        assert row is not None
        return PostgresTransaction(self.connection, row["now_ms"])

    def commit(self, last_words: str) -> None:
        """Run the last words of a transaction and commit it, in one round trip."""
        self.connection.execute(f"{last_words}; COMMIT".encode(), prepare=False)

    def end_reading(self) -> None:
        """End a transaction that has only read. At a rollback the driver forgets all statements."""
        try:
            self.connection.execute(b"COMMIT", prepare=False)
        except psycopg.Error:
            self.close()

    def undo(self) -> None:
        """End the transaction without effect; a session that is gone has done so itself."""
        if self._connection is None:
            return
        try:
            self._connection.execute(b"ROLLBACK")
        except psycopg.Error:
            self.close()

    def gone(self, error: psycopg.Error) -> bool:
        """Return whether this error was the session's end; then it is closed."""
        if self._connection is None:
            return True
        # A prepared `SELECT *` fails for ever once a newer safelight has added a column. What a
        # fresh session says so has another reason.
        outdated = error.sqlstate == PLAN_OUTDATED and self._begun > 1
        if outdated or is_lost(error, self._connection):
            self.close()
        return self._connection is None

    def close(self) -> None:
        """Hang up, if that has not happened."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    @property
    def connection(self) -> Connection:
        """The open connection; it commits each statement outside of a transaction by itself."""
        assert self._connection is not None
        return self._connection


def connect(url: str, **settings: str) -> Connection:
    """Connect with our settings of the transport, unless the address has its own.

    Raises:
        psycopg.Error: there is no server, or it does not let us in.
    """
    given: dict[str, Any] = {**TRANSPORT, **conninfo_to_dict(url), **settings}
    connection = psycopg.connect(autocommit=True, row_factory=dict_row, **given)
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(bool, _BoolDumper)
    connection.adapters.register_loader("numeric", _NumberLoader)
    return connection
