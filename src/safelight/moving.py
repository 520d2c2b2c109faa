"""Moving the books of a data folder to another database, and bringing a schema up to date.

Owns the conditions of a move: nobody serves, the target is empty, what arrived is checked before
the data folder belongs to it. Pictures, keys and spool stay in the data folder. The rows are
copied by db/copying.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from safelight import heartbeats
from safelight.clock import SystemClock
from safelight.db import Database, Transaction, address
from safelight.db.copying import copy_books
from safelight.durable import fsync_folder
from safelight.errors import ConfigError
from safelight.gateway.process_files import living, starting
from safelight.gateway.processes import BEAT_S
from safelight.gateway.verification import Report, Verification
from safelight.opening import open_at, open_store

PROCESSES = "processes"
MOVED_SUFFIX = ".moved"
"""What the file of an embedded database is called when its books have gone elsewhere."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A finished move: rows by table, and what `verify` says of the target."""

    source: str
    target: str
    rows: dict[str, int]
    report: Report


async def move_books(data_dir: Path, source_url: str, target_url: str) -> Move:
    """Carry all books of a data folder to an empty database, all or nothing.

    Args:
        data_dir: whose books they are.
        source_url: `sqlite:` for the file in the data folder, or postgresql://...
        target_url: the same, and another one.

    Raises:
        ConfigError: the source is not this folder's, somebody serves it, or one of the two cannot
            be opened.
        NotEmpty: the target has books.
    """
    source_name, target_name = (_name(url, data_dir) for url in (source_url, target_url))
    if source_name == target_name:
        raise ConfigError("source and target are the same database")
    address.check_belongs(data_dir, _postgres(source_url))
    async with starting(data_dir):
        _refuse_if_served(data_dir)
        async with _opened(source_url, data_dir) as source:
            await refuse_if_alive(source, data_dir)
            async with _opened(target_url, data_dir) as target:
                rows = await copy_books(source, target)
                report = await _checked(target, data_dir)
        if not report.findings:
            _hand_over(data_dir, target_url)
    return Move(source=source_name, target=target_name, rows=rows, report=report)


async def schema_version(data_dir: Path, url: str | None) -> int:
    """Bring the schema of a data folder's books up to date and return its version.

    Raises:
        ConfigError: it cannot be opened, or a newer safelight has migrated it.
    """
    address.check_belongs(data_dir, url)
    async with _opened(url or "sqlite:", data_dir) as db:
        return await db.read(_version)


def _version(tx: Transaction) -> int:
    row = tx.one("SELECT MAX(version) AS version FROM migration")
    assert row is not None
    return int(row["version"])


@contextlib.asynccontextmanager
async def _opened(url: str, data_dir: Path) -> AsyncIterator[Database]:
    db = open_at(url, data_dir, SystemClock())
    try:
        yield db
    finally:
        await db.close()


def _refuse_if_served(data_dir: Path) -> None:
    if living(data_dir / PROCESSES):
        raise ConfigError(f"a gateway serves {data_dir}; stop it before its books are moved")


async def refuse_if_alive(source: Database, data_dir: Path) -> None:
    """Refuse while a process with another data folder gives signs of life.

    Raises:
        ConfigError: one does.
    """
    before = await source.read(heartbeats.all_beats)
    if all((data_dir / PROCESSES / owner).exists() for owner in before):
        return  # all were this folder's, and it has none that lives
    await asyncio.sleep(BEAT_S * 1.5)
    if await source.read(heartbeats.all_beats) != before:
        raise ConfigError("a gateway with another data folder serves these books; stop it first")


async def _checked(target: Database, data_dir: Path) -> Report:
    store = open_store(data_dir)
    try:
        return await Verification(target, store, SystemClock()).run(blobs=0.0)
    finally:
        store.close()


def _hand_over(data_dir: Path, target_url: str) -> None:
    """Let the data folder belong to its new books, durably."""
    file = data_dir / address.DATABASE_FILE
    url = _postgres(target_url)
    if url is None:
        (data_dir / address.NOTE).unlink(missing_ok=True)
    else:
        address.note(data_dir, url)
        if file.exists():
            file.replace(file.with_name(file.name + MOVED_SUFFIX))
    fsync_folder(data_dir)


def _postgres(url: str) -> str | None:
    return address.chosen({address.VARIABLE: url})


def _name(url: str, data_dir: Path) -> str:
    postgres = _postgres(url)
    if postgres is None:
        return str(data_dir / address.DATABASE_FILE)
    return address.without_password(postgres)
