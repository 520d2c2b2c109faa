"""The seam to databases: transactions as functions.

Work on the database is a plain function that takes a `Transaction`; it runs on the database's own
thread, inside one transaction, and either all of it happens or none. SQL uses named parameters
(`:name`), which both SQLite and Postgres adapters understand, and lives in the noun modules
(ledger, jobs, customers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = Mapping[str, Any]


class UniqueViolation(Exception):
    """A unique index refused a row: somebody else was first, or it is a re-run.

    Work that meets it must end: Postgres does nothing more in that transaction.
    """


class SchemaTooNew(Exception):
    """A newer safelight has migrated this database; nothing was changed.

    Attributes:
        found: the version of its schema.
        known: the newest version that this program knows.
    """

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"its schema has version {found}, this safelight knows up to {known}; upgrade safelight"
        )
        self.found = found
        self.known = known


class Transaction(Protocol):
    """One open transaction."""

    now_ms: int
    """The transaction's one time, wall-clock milliseconds."""

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        ...

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        """Run one statement and return its first row, or None."""
        ...

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        ...

    def lock(self, name: str) -> None:
        """Keep other transactions that lock this name waiting until this one ends.

        For what a guard in a WHERE cannot say, such as counting rows before inserting one.
        """
        ...

    def number_on(self, table: str, column: str) -> None:
        """Let a column that the database numbers go on after its largest value.

        For rows that came with their numbers from elsewhere.
        """
        ...


class Meter(Protocol):
    """Is told what a database does; called in any thread, and must not block."""

    def committed(self, seconds: float, works: int) -> None:
        """Say that so many works were committed together, so long after the first began."""
        ...

    def refused(self) -> None:
        """Say that a write was refused: the database is busy, full, away or damaged."""
        ...


class Unmetered:
    """A meter that nobody reads."""

    def committed(self, seconds: float, works: int) -> None:
        """Forget it."""

    def refused(self) -> None:
        """Forget it."""


class Database(Protocol):
    """Durable tables."""

    async def write(self, work: Callable[[Transaction], T], *, company_s: float = 0.0) -> T:
        """Run `work` in one durable transaction; when this returns it has survived a crash.

        It takes effect once, also where the answer to a commit is lost; but it may be called
        several times before (Postgres asks to repeat what met another transaction), so it changes
        nothing but the database. An exception of `work` rolls back its changes alone and is raised
        here.

        Args:
            work: to be run.
            company_s: how long it may be put off for the sake of a commit that it can share,
                seconds; for what nobody waits for.

        Raises:
            Unavailable: the database is busy, full or closed; nothing was written.
        """
        ...

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on a snapshot; it must not write."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        ...
