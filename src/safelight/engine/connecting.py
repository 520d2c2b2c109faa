"""The engine's own database: a file beside the books, or a schema beside them on Postgres.

Owns the connections, made of SQLAlchemy because that is what the engine speaks. The file is one of
its own, so that its writer never stands in the way of the books' group commit, and it may lose its
last moment with the power: the rows are the truth, and their owners look for lost reminders.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy

FILE = "engine.db"
SCHEMA = "safelight_engine"
CONNECTIONS = 6
"""Most connections of one process to Postgres: four queues look, two threads write."""
CONNECT_S = 5
STATEMENT_MS, LOCK_MS = 10_000, 5_000
BUSY_MS = 10_000


def is_there(data_dir: Path) -> bool:
    """Return whether a data folder has the engine's file: something was queued there once."""
    return (data_dir / FILE).exists()


def sqlite_file(data_dir: Path) -> sqlalchemy.Engine:
    """Return the engine's file in a data folder, made where missing."""
    import sqlalchemy as sa  # noqa: PLC0415  (a third of a second: not where no engine is used)

    engine = sa.create_engine(
        f"sqlite:///{data_dir / FILE}", pool_size=CONNECTIONS, max_overflow=0, pool_timeout=10
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # As DBOS sets it for a file of its own: writers come one after another, and wait.
        connection.isolation_level = "IMMEDIATE"
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def postgres(url: str) -> sqlalchemy.Engine:
    """Return the engine's connections to the Postgres that has the books."""
    import sqlalchemy as sa  # noqa: PLC0415  (see above)

    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    options = f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS}"
    return sa.create_engine(
        address,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "safelight engine",
            "options": options,
        },
    )
