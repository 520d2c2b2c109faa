"""How a database looks for what the gateway asks it: statements that really ran, and their plans.

Owns a `Database` that notes every statement that passes, and the reading of query plans of SQLite
and of Postgres. What is noted are texts and values, so that a plan is asked for later, and on books
of any size. Changes nothing of what passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from safelight.db import Database, Row, Transaction

T = TypeVar("T")

LARGE = frozenset(
    {"request", "job", "attempt", "transfer", "image", "blob_removal", "webhook_delivery"}
)
"""Tables with a row for each order, or more."""
_SQLITE_SCAN = re.compile(r"SCAN (?:TABLE )?(\w+)(?: AS (\w+))?(.*)")
_POSTGRES_SCAN = re.compile(r"Seq Scan on (\w+)")
_NAMED = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?:AS\s+)?(\w+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """A statement as it ran, with the values that it was given."""

    sql: str
    params: Mapping[str, Any]


class Noting:
    """A database behind which another one stands; it notes what it is asked.

    Args:
        db: the other one.
        note: told every statement before it runs, in the thread that runs it.
    """

    def __init__(self, db: Database, note: Callable[[Statement], object]) -> None:
        self._db = db
        self._note = note

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        """Run `work` in one durable transaction (see `safelight.db.Database`)."""
        return await self._db.write(lambda tx: work(_Noted(tx, self._note)), company_s=company_s)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot."""
        return await self._db.read(lambda tx: work(_Noted(tx, self._note)))

    async def close(self) -> None:
        """Close the other one."""
        await self._db.close()


class _Noted:
    """A transaction that notes what it is asked."""

    def __init__(self, tx: Transaction, note: Callable[[Statement], object]) -> None:
        self._tx = tx
        self._note = note
        self.now_ms = tx.now_ms

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        self._note(Statement(sql, params or {}))
        return self._tx.execute(sql, params)

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        self._note(Statement(sql, params or {}))
        return self._tx.one(sql, params)

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        self._note(Statement(sql, params or {}))
        return self._tx.all(sql, params)

    def lock(self, name: str) -> None:
        self._tx.lock(name)

    def number_on(self, table: str, column: str) -> None:
        self._tx.number_on(table, column)


def plan(tx: Transaction, statement: Statement, *, postgres: bool = False) -> list[str]:
    """Return the plan of a statement, line by line; nothing of it is carried out."""
    if postgres:
        rows = tx.all(f"EXPLAIN {statement.sql}", statement.params)
        return [str(row["QUERY PLAN"]) for row in rows]
    rows = tx.all(f"EXPLAIN QUERY PLAN {statement.sql}", statement.params)
    return [str(row["detail"]) for row in rows]


def scans(statement: Statement, lines: list[str]) -> list[str]:
    """Return the lines of a plan that read a large table, or an index of all its rows, to the end.

    A partial index (SQLite says nothing of it here) is a scan too: of open jobs, for instance. So
    are steps of a window and of an EXISTS without an index.
    """
    names = {
        (found[1] or found[0]).lower(): found[0].lower() for found in _NAMED.findall(statement.sql)
    }
    names |= {table: table for table in LARGE}
    return [line for line in lines if _large(line, names)]


def _large(line: str, names: Mapping[str, str]) -> bool:
    scan = _SQLITE_SCAN.match(line) or _POSTGRES_SCAN.search(line)
    return scan is not None and names.get(scan[1].lower(), "") in LARGE
