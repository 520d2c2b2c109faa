"""Where a data folder's books are: in its own file, or in a Postgres that the environment names.

Owns the reading of SAFELIGHT_DATABASE_URL and the file `database` in a data folder, which remembers
whose books belong to it: a forgotten variable must not open an empty set of books. Passwords are
in no message and in no file. Opens no database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safelight.durable import fsync_folder
from safelight.errors import ConfigError

VARIABLE = "SAFELIGHT_DATABASE_URL"
NOTE = "database"
DATABASE_FILE = "safelight.db"
_SCHEMES = ("postgresql://", "postgres://")


def chosen(environ: Mapping[str, str]) -> str | None:
    """Return the address of the Postgres that the environment names; None: the folder's own file.

    Raises:
        ConfigError: the variable holds something else.
    """
    url = environ.get(VARIABLE, "").strip()
    if url in {"", "sqlite:"}:
        return None
    if not url.startswith(_SCHEMES):
        # Not repeated: what is not understood may hold a password anywhere.
        raise ConfigError(
            f"{VARIABLE} is no address of a database; expected postgresql://user:password@host/name"
            ", or nothing (or sqlite:) for the file in the data folder"
        )
    without_password(url)
    return url


def without_password(url: str) -> str:
    """Return host, port and name of a Postgres database, as an address without user and password.

    Raises:
        ConfigError: it is no such address, or names no database.
    """
    import psycopg  # noqa: PLC0415  (10 MB: only for who has one)
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:  # its words would repeat the address
        raise ConfigError(
            f"{VARIABLE} cannot be read; expected postgresql://user:password@host:5432/name with "
            "characters like @ : / in user or password written as %40 %3A %2F"
        ) from None
    name = parts.get("dbname")
    if not name:
        raise ConfigError(f"{VARIABLE} names no database; add it: postgresql://user@host/name")
    host = parts.get("host") or parts.get("hostaddr") or ""
    return f"postgresql://{host}:{parts.get('port') or 5432}/{name}"


def check_belongs(data_dir: Path, url: str | None) -> None:
    """Refuse to open a data folder with other books than its own.

    Raises:
        ConfigError: its books are elsewhere.
    """
    noted = noted_address(data_dir)
    if url is None:
        if noted is not None:
            raise ConfigError(
                f"the books of {data_dir} are in {noted}, and {VARIABLE} is not set; set it to "
                "that database, with user and password"
            )
        return
    given = without_password(url)
    if noted is None and (data_dir / DATABASE_FILE).exists():
        raise ConfigError(
            f"the books of {data_dir} are in its file {DATABASE_FILE}, and {VARIABLE} names "
            f"{given}; unset it, or move the books there, or choose another --data"
        )
    if noted not in {None, given}:
        raise ConfigError(
            f"the books of {data_dir} are in {noted}, and {VARIABLE} names {given}; if that is the "
            f"same database under another address, write it into {data_dir / NOTE}"
        )


def noted_address(data_dir: Path) -> str | None:
    """Return which Postgres a data folder belongs to, or None."""
    try:
        return (data_dir / NOTE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def note(data_dir: Path, url: str) -> None:
    """Remember durably that a data folder's books are in this Postgres."""
    words = without_password(url) + "\n"
    path = data_dir / NOTE
    if noted_address(data_dir) == words.strip():
        return
    # A name of its own: several processes may open the folder for the first time.
    draft = path.with_name(f"{NOTE}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(words)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    fsync_folder(data_dir)
