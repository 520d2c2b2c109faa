"""The database with the books: can it be opened, is it whole, and how fast is a durable commit.

Owns reads on connections of its own, beside a running server. Nothing is migrated and no row is
written: a commit is timed on a database file of its own in the data folder, or on Postgres by a
message to the log that no table holds (pg_logical_emit_message).
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from safelight.db import address
from safelight.db.schema import migrations
from safelight.db.sqlite_opening import Damaged, look_for_damage_beside
from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.errors import ConfigError

if TYPE_CHECKING:  # psycopg is loaded only for who has a Postgres
    from safelight.db.postgres_session import Connection

GROUP = "database"
SLOW_COMMIT_S = 0.05
_COMMITS = 30
_OLDEST = (3, 26)
_RESTORE = "Stop all processes, keep a copy of the data folder, and `safelight restore`."


def check(data: Path, environ: Mapping[str, str]) -> Iterator[Check]:
    """Yield what is to be said of the books of a data folder."""
    try:
        url = address.chosen(environ)
        address.check_belongs(data, url)
    except ConfigError as error:
        yield failed(GROUP, "address", str(error), f"Mend {address.VARIABLE}.")
        return
    if url is not None:
        yield from _postgres(url)
    else:
        yield from _sqlite(data)


# --- SQLite ---------------------------------------------------------------------------------------


def _sqlite(data: Path) -> Iterator[Check]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < _OLDEST:
        yield failed(GROUP, "version", f"SQLite {version}", "3.26 or newer is needed.")
    path = data / address.DATABASE_FILE
    if not path.is_file():
        yield unchecked(GROUP, "file", f"SQLite {version}; there is no {path} yet")
    else:
        yield from _file(path, version)
    if data.is_dir():
        yield _timed("of its own file", lambda: _sqlite_commits(data))


def _file(path: Path, version: str) -> Iterator[Check]:
    try:
        # Not `immutable`, and with the log beside it: a server may be writing.
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        yield failed(GROUP, "file", f"{path}: {error}", "Look at the rights of the file.")
        return
    with contextlib.closing(connection):
        try:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            applied = connection.execute("SELECT MAX(version) FROM migration").fetchone()[0]
            look_for_damage_beside(connection, path)
        except (sqlite3.DatabaseError, Damaged) as error:
            yield failed(GROUP, "whole", f"{path}: {error}", _RESTORE)
            return
    size = path.stat().st_size / 1e6
    if mode == "wal":
        yield ok(GROUP, "file", f"SQLite {version}, WAL, {size:.1f} MB")
    else:
        said = f"SQLite {version}, journal mode {mode}"
        yield warning(GROUP, "file", said, "The next start turns the write-ahead log on.")
    yield ok(GROUP, "whole", "no damage found (quick_check)")
    yield _schema(applied or 0, migrations("sqlite")[-1].version)


def _sqlite_commits(data: Path) -> Iterator[float]:
    path = data / ".doctor.db"
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS probe (n INTEGER)")
            for number in range(_COMMITS):
                began = time.perf_counter()
                connection.execute("INSERT INTO probe VALUES (?)", [number])
                yield time.perf_counter() - began
    finally:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


# --- Postgres -------------------------------------------------------------------------------------

_WANTED = {"server_encoding": "UTF8", "fsync": "on", "full_page_writes": "on"}
_SETTINGS = (
    "SELECT json_object_agg(name, setting) FROM pg_settings WHERE name IN ('server_encoding', "
    "'fsync', 'full_page_writes', 'server_version', 'synchronous_commit', 'max_connections')"
)
_NO_COMMITS = "synchronous_commit is off for this user: acknowledged money could be lost"


def _postgres(url: str) -> Iterator[Check]:
    import psycopg  # noqa: PLC0415  (10 MB: only for who has one)

    from safelight.db.postgres_session import connect  # noqa: PLC0415

    name = address.without_password(url)
    try:
        with connect(url, application_name="safelight doctor") as connection:
            shown = dict(_value(connection, _SETTINGS))
            table = _value(connection, "SELECT to_regclass('migration')::text")
            applied = _value(connection, "SELECT MAX(version) FROM migration") if table else 0
            yield ok(GROUP, "server", f"Postgres {shown['server_version']} at {name}")
            yield from _server_settings(shown)
            yield _schema(int(applied or 0), migrations("postgresql")[-1].version)
            yield _timed("over the network", lambda: _postgres_commits(connection))
    except psycopg.Error as error:
        words = " ".join(str(error).split())[:300]
        advice = "Look at host, user, password and pg_hba.conf."
        yield failed(GROUP, "server", f"{name}: {words}", advice)


def _server_settings(shown: Mapping[str, str]) -> Iterator[Check]:
    wrong = [f"{one} is {shown[one]}" for one, value in _WANTED.items() if shown[one] != value]
    if wrong:
        said = ", ".join(wrong)
        yield failed(GROUP, "settings", said, "Money needs UTF8, fsync and full_page_writes.")
    elif shown["synchronous_commit"] == "off":
        # Each session of a server turns it on by itself; a role that may not is worth knowing.
        yield warning(GROUP, "settings", _NO_COMMITS, "Servers turn it on for their sessions.")
    else:
        kept = f"commits are {shown['synchronous_commit']}"
        yield ok(GROUP, "settings", f"{kept}, {shown['max_connections']} connections at most")


def _value(connection: Connection, sql: LiteralString) -> Any:
    row = connection.execute(sql).fetchone()
    return next(iter(row.values())) if row else None


def _postgres_commits(connection: Connection) -> Iterator[float]:
    for _ in range(_COMMITS):
        began = time.perf_counter()
        connection.execute("SELECT pg_logical_emit_message(true, 'safelight', 'doctor')")
        yield time.perf_counter() - began


# --- both -----------------------------------------------------------------------------------------


def _schema(applied: int, known: int) -> Check:
    if applied > known:
        return failed(
            GROUP, "schema", f"its schema {applied} is newer than this release's {known}",
            "Run the newer release.",
        )  # fmt: skip
    if applied < known:
        said = f"its schema is {applied}, this release's {known}"
        return warning(GROUP, "schema", said, "The next start brings it there; make a backup.")
    return ok(GROUP, "schema", f"schema {applied}, the newest")


def _timed(where: str, commits: Callable[[], Iterator[float]]) -> Check:
    try:
        times = list(commits())
    except (OSError, sqlite3.Error) as error:
        return unchecked(GROUP, "commit", f"a commit could not be timed: {error}")
    median_s, worst_s = statistics.median(times), max(times)
    said = (
        f"a durable commit takes {median_s * 1000:.1f} ms {where}, {worst_s * 1000:.1f} ms at worst"
    )
    facts = {"p50_ms": round(median_s * 1000, 2), "max_ms": round(worst_s * 1000, 2)}
    if median_s > SLOW_COMMIT_S:
        advice = "An order needs three: use a faster disk, or a database that is nearer."
        return warning(GROUP, "commit", said, advice, **facts)
    return ok(GROUP, "commit", said, **facts)
