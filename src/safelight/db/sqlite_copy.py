"""A copy of an SQLite file while others write to it: one moment, whole, in one file.

Owns the copying by SQLite's own backup interface. Nobody waits: the copy is read from one snapshot,
beside readers and writers of any process.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from safelight.db.sqlite_opening import look_for_damage, named_damage

STEP_PAGES = 1024


def copy_file(source: Path, target: Path, on_progress: Callable[[float], None]) -> None:
    """Copy the database `source` to the new file `target`, durably. Blocks.

    Args:
        source: may be in use.
        target: is made; what it held is lost.
        on_progress: told how much is done, 0 to 1.

    Raises:
        Damaged: the source is, or what was written is not what was read.
        sqlite3.Error: one of them cannot be read or written.
    """

    def told(_status: int, left: int, total: int) -> None:
        on_progress(1 - left / total if total else 1.0)

    with named_damage(source), contextlib.closing(_open(source, "ro")) as reader:
        # Held to the end: without a snapshot of its own the copy would begin anew at each commit.
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
        with contextlib.closing(_open(target, "rwc")) as writer:
            reader.backup(writer, pages=STEP_PAGES, progress=told)
            # One file: the copy brings the source's write-ahead log along as a setting.
            writer.execute("PRAGMA journal_mode=DELETE")
            look_for_damage(writer, target)
    finish(target)


def finish(path: Path) -> None:
    """Make a closed database one durable file, without a write-ahead log."""
    with contextlib.closing(_open(path, "rw")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _open(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file; unlike a plain name, an address tells SQLite not to make it."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=10
    )
