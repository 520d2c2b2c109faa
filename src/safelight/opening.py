"""Opening what a data folder has: the folder itself, the books, the pictures.

Owns which database and which store belong to a folder, and in whose words a failure is told. Makes
none of the parts that work on them: that is app.py.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from safelight import backups
from safelight.clock import Clock, SystemClock
from safelight.db import Database, Meter, SchemaTooNew, address
from safelight.db.sqlite import BUSY_TIMEOUT_S, SqliteDatabase
from safelight.db.sqlite_opening import Damaged
from safelight.db.sqlite_trouble import OnDamage
from safelight.durable import make_folder
from safelight.errors import ConfigError
from safelight.storage import BlobStore
from safelight.storage import address as store_address
from safelight.storage.opening import open_at as open_store_at


def make_data_folder(data_dir: Path) -> None:
    """Make the folder, for its owner only: it holds prompts, pictures and keys.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    try:
        make_folder(data_dir)
        usable = os.access(data_dir, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigError(
            f"the data folder {data_dir} cannot be made ({error.strerror}); choose another --data"
        ) from error
    if not usable:
        raise ConfigError(f"the data folder {data_dir} cannot be written to; choose another --data")


def open_database(
    data_dir: Path,
    clock: Clock,
    *,
    check: bool = True,
    patience_s: float = BUSY_TIMEOUT_S,
    on_damage: OnDamage | None = None,
    environ: Mapping[str, str] = os.environ,
    meter: Meter | None = None,
) -> Database:
    """Open, check and migrate the database with a data folder's books (docs/configuration.md).

    Args:
        data_dir: the data folder.
        clock: gives each transaction its one time.
        check: whether to look at the whole file for damage first.
        patience_s: how long a work waits while another process writes to the file.
        on_damage: told when damage of the file is met later; may be called in any thread.
        environ: says whether the books are in a Postgres.
        meter: is told of commits and of refused writes.

    Raises:
        ConfigError: it is damaged, not to be opened, or not the one with this folder's books.
    """
    backups.check_whole(data_dir)
    url = address.chosen(environ)
    address.check_belongs(data_dir, url)
    if url is not None:
        database = _open_postgres(url, clock, meter)
        address.note(data_dir, url)
        return database
    path = data_dir / address.DATABASE_FILE
    try:
        return SqliteDatabase(
            path, clock, check=check, busy_timeout_s=patience_s, on_damage=on_damage, meter=meter
        )
    except Damaged as error:
        raise ConfigError(
            f"the database is damaged: {error}; stop all processes, keep a copy of the data folder "
            f"and restore the newest backup ({backups.newest_backup(data_dir)})"
        ) from error
    except (sqlite3.Error, SchemaTooNew) as error:
        raise ConfigError(f"the database {path} cannot be used: {error}") from error


def open_at(url: str, data_dir: Path, clock: Clock) -> Database:
    """Open and migrate a database by its address, whoever's books it holds.

    Args:
        url: postgresql://..., or `sqlite:` for the file in the data folder.
        data_dir: the data folder.
        clock: gives each transaction its one time.

    Raises:
        ConfigError: it cannot be used.
    """
    postgres = address.chosen({address.VARIABLE: url})
    if postgres is not None:
        return _open_postgres(postgres, clock)
    path = data_dir / address.DATABASE_FILE
    try:
        return SqliteDatabase(path, clock)
    except (sqlite3.Error, SchemaTooNew) as error:
        raise ConfigError(f"the database {path} cannot be used: {error}") from error


def _open_postgres(url: str, clock: Clock, meter: Meter | None = None) -> Database:
    # The driver takes 10 MB, which a process with its books in a file can do without.
    import psycopg  # noqa: PLC0415

    from safelight.db.postgres import PostgresDatabase  # noqa: PLC0415
    from safelight.db.postgres_opening import NotForText  # noqa: PLC0415

    try:
        # Processes on many machines agree on the database's clock, not on their own.
        own = None if isinstance(clock, SystemClock) else clock
        return PostgresDatabase(url, own, meter=meter)
    except (psycopg.Error, NotForText, SchemaTooNew) as error:
        words = " ".join(str(error).split())
        name = address.without_password(url)
        raise ConfigError(f"the database {name} cannot be used: {words}") from error


def open_store(data_dir: Path, environ: Mapping[str, str] = os.environ) -> BlobStore:
    """Open the pictures of a data folder, wherever they are.

    Args:
        data_dir: the data folder; what it has noted counts where the environment says nothing.
        environ: may name the bucket, and has its credentials.

    Raises:
        ConfigError: the environment names another store than the folder's.
    """
    return open_store_at(where_pictures_are(data_dir, environ), data_dir)


def where_pictures_are(data_dir: Path, environ: Mapping[str, str], *, configured: str = "") -> str:
    """Return the address of a data folder's store, empty for the folder itself.

    Raises:
        ConfigError: the operator names another store than the folder's.
    """
    return store_address.of_folder(data_dir, store_address.chosen(environ, configured))
