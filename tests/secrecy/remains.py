"""What a test leaves behind: files as bytes, databases as rows, and the secrets of both.

Owns the reading of folders and of Postgres. Pictures are left out, which are the prompt's business,
and `secrets.json`, which is where secrets belong: it says what must be nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from safelight.keyring import KEY_BYTES, hkdf_sha256
from safelight.webhooks import shown_secret

LARGEST = 64 * 1024 * 1024
"""Bytes of a file that are read; larger ones are test data."""
NUMBERS = 3
"""Secrets of a webhook: so often is one rotated in a test."""
OWNERS_MAX = 30
"""Owners of webhooks for whom secrets are derived; tests with more have them for their number."""
_SQLITE = b"SQLite format 3\0"
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
_TABLES = (
    "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) "
    "FROM information_schema.tables WHERE table_type = 'BASE TABLE' "
    "AND table_schema NOT IN ('pg_catalog', 'information_schema')"
)


@dataclass
class Books:
    """All rows of a database, as text, and who has webhooks in it."""

    tables: list[tuple[str, bytes]] = field(default_factory=list)
    webhook_owners: set[str] = field(default_factory=set)


@dataclass
class Remains:
    """What is left in a folder: each place with what is there, and its keyrings."""

    places: list[tuple[str, bytes]] = field(default_factory=list)
    webhook_owners: set[str] = field(default_factory=set)
    keyrings: list[bytes] = field(default_factory=list)

    def secrets(self, owners: Iterable[str]) -> dict[bytes, str]:
        """Return every secret of the keyrings by its value, also those that are derived of them."""
        found: dict[bytes, str] = {}
        for text in self.keyrings:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                found.update(_of_keyring(json.loads(text), owners))
        return found


def of_folder(folder: Path, *, skip: set[str]) -> Iterator[Remains]:
    """Read a folder and all below it, but for subfolders of these names."""
    left = Remains()
    for path in _files(folder, skip):
        place = f"file {path.relative_to(folder.parent)}"
        try:
            with path.open("rb") as file:
                said = file.read(LARGEST)
        except OSError:  # nobody can read it, whoever runs the tests
            continue
        if path.name.startswith("secrets"):
            left.keyrings.append(said)
            continue
        if said.startswith(_PICTURES):
            continue
        left.places.append((place, said))
        if said.startswith(_SQLITE):
            books = sqlite(path)
            left.webhook_owners |= books.webhook_owners
            left.places += [(f"{place}: table {name}", rows) for name, rows in books.tables]
    yield left


def _files(folder: Path, skip: set[str]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        with contextlib.suppress(OSError):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) and path.name not in skip:
                yield from _files(path, set())
            elif stat.S_ISREG(mode):
                yield path


def sqlite(path: Path) -> Books:
    """Read all rows of a SQLite file with its log, from a copy; of a broken one what can be."""
    books = Books()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(sqlite3.Error, OSError):
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            if source.exists():
                shutil.copy(source, f"{copy}{suffix}")
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            connection.text_factory = bytes
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            ).fetchall()
            for (name,) in names:
                table = name.decode()
                rows = connection.execute(f'SELECT * FROM "{table}"')
                books.tables.append((table, b"\n".join(map(_row, rows))))
                with contextlib.suppress(sqlite3.Error):
                    books.webhook_owners |= {
                        one.decode() for (one,) in connection.execute(_owners_in(table))
                    }
    return books


def postgres(url: str) -> Books:
    """Read all rows of a Postgres as text: bytes are in hex there."""
    books = Books()
    with psycopg.connect(url, autocommit=True) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            with connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
                books.tables.append((table, b"".join(bytes(block) for block in copy)))
            name = table.rpartition(".")[2]
            if name in _OWNERS:
                rows = connection.execute(_owners_in(name).encode()).fetchall()
                books.webhook_owners |= {str(one) for (one,) in rows}
    return books


def _row(row: tuple[object, ...]) -> bytes:
    return b"\x1f".join(
        one if isinstance(one, bytes) else str(one).encode("utf-8", "backslashreplace")
        for one in row
    )


_OWNERS = {"webhook": "id", "webhook_secret": "customer_id", "customer": "id"}
"""Whose names secrets of webhooks are derived for."""


def _owners_in(table: str) -> str:
    return f"SELECT {_OWNERS[table]} FROM {table}" if table in _OWNERS else "SELECT '' WHERE 1 = 0"


def _of_keyring(
    keyring: dict[str, dict[str, dict[str, str]]], owners: Iterable[str]
) -> Iterator[tuple[bytes, str]]:
    for name, text in keyring["pepper"]["keys"].items():
        yield text.encode(), f"pepper {name}"
        pepper = bytes.fromhex(text)
        yield pepper, f"pepper {name}, raw"
        yield _derived(pepper, b"prompt", b"log"), "key of prompts"
        for owner in sorted(owners)[:OWNERS_MAX]:
            for number in range(1, NUMBERS + 1):
                secret = _derived(pepper, b"webhook", f"{owner}:{number}".encode())
                yield secret, "webhook secret, raw"
                yield shown_secret(secret).encode(), "webhook secret"
    for name, text in keyring["links"]["keys"].items():
        raw = bytes.fromhex(text)
        yield text.encode(), f"link key {name}"
        yield raw, f"link key {name}, raw"
        yield _derived(raw, b"url", name.encode()), f"derived link key {name}"


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return hkdf_sha256(secret, salt=salt, info=info, length=KEY_BYTES)
