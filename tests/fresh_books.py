"""A new SQLite database for a test, copied from one that was migrated once in this process.

Owns the copy. What migrations do is tests/contracts/test_database.py's business.
"""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from safelight.clock import Clock, ManualClock
from safelight.db.sqlite import SqliteDatabase


def sqlite_books(path: Path, clock: Clock) -> SqliteDatabase:
    """Open a database, which is made first where there is none."""
    if not path.exists():
        path.write_bytes(_migrated())
    return SqliteDatabase(path, clock)


@cache
def _migrated() -> bytes:
    """Return the bytes of an empty database with every migration."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        database = SqliteDatabase(path, ManualClock())
        with ThreadPoolExecutor(1) as thread:  # here a loop may be running already
            thread.submit(lambda: asyncio.run(database.close())).result()
        assert sorted(one.name for one in Path(folder).iterdir()) == ["empty.db"]
        return path.read_bytes()
