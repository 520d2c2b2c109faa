"""What SQLite's errors mean: the one place where they become answers.

Owns the table from error code to refusal and the memory of damage. A fault of the medium (full,
locked, read-only, damaged, failing) becomes an `Unavailable` that says what to do; a fault of our
own SQL stays what it is.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from safelight.errors import Unavailable

BUSY_RETRY_S = 1.0
FAILING_RETRY_S = 2.0

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What SQLite calls a file that is no whole database."""
_FAILING = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOLFS,
)
_WRITES = (
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
)
"""I/O errors of something that was to be written: SQLite calls only ENOSPC "full", not a quota or a
limit on the size of files."""

OnDamage = Callable[[str], None]


class Trouble:
    """Judges the errors of one database file.

    Args:
        path: the file.
        on_damage: told once, from any thread, when damage is met; gets what SQLite says.
    """

    def __init__(self, path: Path, on_damage: OnDamage | None = None) -> None:
        self._path = path
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._damage: str | None = None

    def refuse_if_damaged(self) -> None:
        """Refuse to write to a file that is known to be damaged.

        Raises:
            Unavailable: it is (`database_damaged`).
        """
        if self._damage is not None:
            raise _damaged(self._damage)

    def found_damage(self, what: str) -> None:
        """Note damage that a look at the file has found."""
        self._note_damage(what)

    def judged(self, error: sqlite3.Error, *, writing: bool) -> Exception:
        """Return what a caller is told: an `Unavailable`, or the error itself if it is our own."""
        extended: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        code = extended & 0xFF
        if code in DAMAGED:
            return self._note_damage(str(error))
        if code in _BUSY:
            return _busy()
        if code == sqlite3.SQLITE_READONLY:
            # A plain one in a reader is our own mistake: readers are told not to write.
            return _read_only() if writing or extended != code else error
        if code == sqlite3.SQLITE_FULL or code in _FAILING:
            return self._medium_failed(error, extended, writing=writing)
        return error

    def _medium_failed(self, error: sqlite3.Error, extended: int, *, writing: bool) -> Unavailable:
        if writing and not self._may_write():
            return _read_only()
        if extended == sqlite3.SQLITE_FULL or extended in _WRITES:
            return _full()
        return Unavailable(
            f"The gateway's database fails ({error}); send the request again. Nothing was charged.",
            code="database_unavailable",
            retry_after_s=FAILING_RETRY_S,
            should_retry=True,
        )

    def _may_write(self) -> bool:
        """Whether the system lets us write: not on a read-only medium or to protected files."""
        log_file = self._path.with_name(self._path.name + "-wal")
        return all(os.access(file, os.W_OK) for file in (self._path, log_file) if file.exists())

    def _note_damage(self, what: str) -> Unavailable:
        with self._lock:
            first = self._damage is None
            self._damage = self._damage or what
        if first and self._on_damage is not None:
            self._on_damage(what)
        return _damaged(what)


def _busy() -> Unavailable:
    return Unavailable(
        "Another process holds the database; send the request again. Nothing was charged.",
        code="database_busy",
        retry_after_s=BUSY_RETRY_S,
        should_retry=True,
    )


def _read_only() -> Unavailable:
    return Unavailable(
        "The gateway's database cannot be written to; the operator must make the data folder "
        "writable. Nothing was charged.",
        code="database_read_only",
    )


def _full() -> Unavailable:
    return Unavailable(
        "The gateway's disk takes no more (it is full, over a quota, or failing); the operator "
        "must free space for the data folder. Nothing was charged.",
        code="storage_full",
    )


def _damaged(what: str) -> Unavailable:
    return Unavailable(
        f"The gateway's database is damaged ({what}); the operator must restore it. "
        "Nothing was charged.",
        code="database_damaged",
    )
