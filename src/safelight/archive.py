"""Backup and restore: a data folder kept elsewhere while it is served, and made again from there.

Owns the order of the steps: the database first, at one moment; then the pictures it names, which
never change; the manifest last. An interrupted backup is none, and leaves the one before it whole.
What files a backup has is `backups`' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from safelight import __version__, backups, installations
from safelight.backups import KeptFile, Manifest, Origin
from safelight.clock import SystemClock
from safelight.db import Transaction, address
from safelight.db.copying import COPIED, copy_books
from safelight.db.sqlite import SqliteDatabase
from safelight.db.sqlite_copy import copy_file, finish
from safelight.db.sqlite_opening import Damaged
from safelight.durable import fsync_folder
from safelight.errors import ConfigError
from safelight.keyring import FILE_NAME
from safelight.opening import make_data_folder, open_database, open_store, where_pictures_are
from safelight.storage import BlobStore
from safelight.storage import address as store_address
from safelight.storage.disk import DiskStore, stored_digests

Progress = Callable[[str], None]

AT_ONCE = 4
"""Pictures that are copied at one time."""
_LISTED_MAX = 1000


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup; `copied` of its pictures were not in the folder before."""

    folder: str
    taken_at: int
    pictures: int
    picture_bytes: int
    copied: int
    database_bytes: int
    rows: dict[str, int]
    missing: tuple[str, ...]
    store: str = ""


class Stray(msgspec.Struct, frozen=True):
    """A picture that the restored books do not know; `stored_at` in milliseconds since 1970."""

    digest: str
    bytes: int
    stored_at: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A finished restore; `newer` are pictures that were stored after the backup."""

    data: str
    taken_at: int
    pictures: int
    open_jobs: int
    missing: tuple[str, ...]
    newer: tuple[Stray, ...] = ()


@dataclass(frozen=True)
class _Named:
    """What a database names: pictures with their sizes, inputs of orders, rows."""

    pictures: dict[str, int]
    inputs: frozenset[str]
    rows: dict[str, int]
    open_jobs: int


class _Ref(msgspec.Struct):
    digest: str


class _Inputs(msgspec.Struct):
    inputs: tuple[_Ref, ...] = ()
    mask: _Ref | None = None


# --- backup --------------------------------------------------------------------------------------


async def back_up(
    data_dir: Path, folder: Path, *, link: bool = True, progress: Progress = lambda _: None
) -> Kept:
    """Keep the books, keys and pictures of a data folder in `folder`, whether it is served or not.

    A folder with an older backup of it gets only the pictures that are new.

    Args:
        data_dir: the data folder.
        folder: made where missing.
        link: whether a picture may be a second name of the same file, on the same disk. Pictures
            in a bucket are left there, and the backup names it; without `link` they are copied.
        progress: told what is being done.

    Raises:
        ConfigError: the folder cannot hold a backup, or the database cannot be read.
        StorageError: a picture cannot be written.
    """
    clock = SystemClock()
    _check_target(data_dir, folder)
    with _locked(folder):
        taken_at = clock.now_ms()
        database = folder / f"safelight-{taken_at}.db"
        await _copy_database(data_dir, database, progress)
        named = await _named_in(database)
        store = where_pictures_are(data_dir, os.environ)
        copied, missing = 0, list[str]()
        if not store or not link:
            copied, missing = await _keep_pictures(
                data_dir, folder, named, link=link and not store, report=progress
            )
            store = ""
        keys = _copy_durably(data_dir / FILE_NAME, folder / f"secrets-{taken_at}.json")
        manifest = Manifest(
            format=backups.FORMAT,
            version=__version__,
            taken_at=taken_at,
            database=await asyncio.to_thread(backups.describe, database),
            secrets=backups.describe(keys),
            rows=named.rows,
            pictures=len(named.pictures),
            picture_bytes=sum(named.pictures.values()),
            missing=tuple(sorted(missing)),
            store=store,
        )
        backups.write_manifest(folder, manifest)
        _remove_older(folder, manifest)
    with contextlib.suppress(OSError):  # the backup is whole, if the data folder can say so or not
        backups.note_backup(data_dir, backups.Note(str(folder.absolute()), taken_at))
    return Kept(
        folder=str(folder),
        taken_at=taken_at,
        pictures=manifest.pictures,
        picture_bytes=manifest.picture_bytes,
        copied=copied,
        database_bytes=manifest.database.bytes,
        rows=manifest.rows,
        missing=manifest.missing,
        store=manifest.store,
    )


def _check_target(data_dir: Path, folder: Path) -> None:
    """Refuse what would mix a backup with other things; make the folder."""
    if folder.absolute().is_relative_to(data_dir.absolute()):
        raise ConfigError(f"a backup inside the data folder {data_dir} would be lost with it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = [path.name for path in folder.iterdir() if not _ours(path.name)]
    except OSError as error:
        raise ConfigError(f"{folder} cannot hold a backup: {error.strerror}") from error
    if others:
        raise ConfigError(f"{folder} holds other things ({others[0]}); name a folder of its own")


def _ours(name: str) -> bool:
    return name == "blobs" or name.startswith((backups.MANIFEST_FILE, "safelight-", "secrets-"))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one backup at a time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"another backup is being written to {folder}") from None
    finally:
        os.close(descriptor)


async def _copy_database(data_dir: Path, target: Path, progress: Progress) -> None:
    """Copy the books of one moment into one SQLite file, whichever database they are in."""
    if address.chosen(os.environ) is not None or address.noted_address(data_dir) is not None:
        await _copy_from_server(data_dir, target, progress)
        return
    address.check_belongs(data_dir, None)
    source = data_dir / address.DATABASE_FILE
    try:
        await asyncio.to_thread(
            copy_file, source, target, lambda done: progress(f"database: {done:.0%}")
        )
    except Damaged as error:
        words = backups.newest_backup(data_dir)
        raise ConfigError(f"{error}; {words}") from error
    except sqlite3.Error as error:
        raise ConfigError(f"the database {source} cannot be copied: {error}") from error


async def _copy_from_server(data_dir: Path, target: Path, progress: Progress) -> None:
    progress("database")
    clock = SystemClock()
    source = open_database(data_dir, clock, check=False)
    try:
        copy = SqliteDatabase(target, clock)
        try:
            await copy_books(source, copy)
        finally:
            await copy.close()
    finally:
        await source.close()
    await asyncio.to_thread(finish, target)


async def _keep_pictures(
    data_dir: Path, folder: Path, named: _Named, *, link: bool, report: Progress
) -> tuple[int, list[str]]:
    """Keep what the database names; return how many were new, and which pictures are lost."""
    done, copied, missing = 0, 0, []
    total = len(named.pictures.keys() | named.inputs)
    async with _pictures_of(data_dir) as source, _store(folder / "blobs") as target:

        async def keep(digest: str) -> None:
            nonlocal copied, done
            done += 1
            report(f"pictures: {done} of {total}")
            if await target.has(digest, named.pictures.get(digest)):
                return
            if not await source.exists(digest):
                # Inputs are only for jobs to run again; what a customer paid for must be there.
                if digest in named.pictures:
                    missing.append(digest)
                return
            await target.adopt(await source.local_path(digest), digest, link=link)
            copied += 1

        await _each(sorted(named.pictures.keys() | named.inputs), keep)
        await target.sync()
    return copied, missing


def _remove_older(folder: Path, manifest: Manifest) -> None:
    """Remove what earlier or interrupted backups left beside the pictures."""
    current = {manifest.database.name, manifest.secrets.name, backups.MANIFEST_FILE, "blobs"}
    for path in folder.iterdir():
        if path.name not in current:
            path.unlink(missing_ok=True)
    fsync_folder(folder)


# --- restore -------------------------------------------------------------------------------------


async def restore(
    folder: Path,
    data_dir: Path,
    *,
    old_data: Path | None = None,
    progress: Progress = lambda _: None,
) -> Restored:
    """Make a new data folder from the backup in `folder`. All bytes are checked.

    Args:
        folder: holds a backup.
        data_dir: must be empty, or not there.
        old_data: the data folder as it is now; pictures in it that the backup does not know are
            listed. Nothing is done with them.
        progress: told what is being done.

    Raises:
        ConfigError: there is no whole backup, or the data folder is not empty.
        StorageError: a picture is damaged, or cannot be written.
    """
    manifest = backups.read_manifest(folder)
    database, keys = (_checked(folder, kept) for kept in (manifest.database, manifest.secrets))
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise ConfigError(f"{data_dir} is not empty: a restore makes a new data folder")
    make_data_folder(data_dir)
    origin = Origin(str(folder.absolute()), manifest.taken_at, SystemClock().now_ms())
    backups.write_origin(data_dir, origin)
    target = data_dir / address.DATABASE_FILE
    _copy_durably(database, target)
    named = await _named_in(target)
    await _say_where_pictures_are(target, manifest.store)
    if manifest.store:
        store_address.note(data_dir, manifest.store)
    else:
        await _bring_back_pictures(folder, data_dir, named, manifest, progress)
    _copy_durably(keys, data_dir / FILE_NAME)
    newer = [] if old_data is None else _strays(old_data, named)
    backups.write_origin(data_dir, msgspec.structs.replace(origin, complete=True))
    return Restored(
        data=str(data_dir),
        taken_at=manifest.taken_at,
        pictures=len(named.pictures) - len(manifest.missing),
        open_jobs=named.open_jobs,
        missing=manifest.missing,
        newer=tuple(newer),
    )


async def _say_where_pictures_are(path: Path, store: str) -> None:
    """Let the restored books say where their pictures are; they are one file again afterwards."""
    db = SqliteDatabase(path, SystemClock())
    try:
        await db.write(lambda tx: installations.move_store(tx, store))
    finally:
        await db.close()
    await asyncio.to_thread(finish, path)


async def _bring_back_pictures(
    folder: Path, data_dir: Path, named: _Named, manifest: Manifest, report: Progress
) -> None:
    lost = set(manifest.missing)
    wanted = sorted((named.pictures.keys() | named.inputs) - lost)
    done = 0
    async with _store(folder / "blobs") as source, _store(data_dir / "blobs") as target:

        async def bring(digest: str) -> None:
            nonlocal done
            done += 1
            report(f"pictures: {done} of {len(wanted)}")
            if digest not in named.pictures and not await source.exists(digest):
                return
            # Put, not linked: it reads back what it has written, and refuses another digest.
            await target.put(await source.local_path(digest), digest)

        await _each(wanted, bring)


def _checked(folder: Path, kept: KeptFile) -> Path:
    path = folder / kept.name
    try:
        found = backups.describe(path)
    except OSError as error:
        raise ConfigError(f"the backup is not whole: {path}: {error.strerror}") from error
    if found != kept:
        raise ConfigError(f"the backup is damaged: {path} has not the bytes it was written with")
    return path


def _strays(old_data: Path, named: _Named) -> list[Stray]:
    """Return pictures of a data folder that the backup's books do not name, newest first."""
    known = named.pictures.keys() | named.inputs
    found = []
    for path in stored_digests(old_data / "blobs"):
        if path.name not in known:
            status = path.stat()
            found.append(Stray(path.name, status.st_size, round(status.st_mtime * 1000)))
    return sorted(found, key=lambda one: -one.stored_at)[:_LISTED_MAX]


# --- both ----------------------------------------------------------------------------------------


async def _named_in(path: Path) -> _Named:
    """Read what a database names; it is one file again afterwards."""
    db = SqliteDatabase(path, SystemClock())
    try:
        named = await db.read(_read_names)
    finally:
        await db.close()
    await asyncio.to_thread(finish, path)
    return named


def _read_names(tx: Transaction) -> _Named:
    pictures = {
        row["digest"]: row["bytes"]
        for row in tx.all(
            "SELECT digest, bytes FROM image WHERE deleted_at IS NULL UNION "
            "SELECT original_digest AS digest, original_bytes AS bytes FROM image "
            "WHERE original_digest IS NOT NULL AND deleted_at IS NULL UNION "
            "SELECT digest, bytes FROM file WHERE deleted_at IS NULL ORDER BY digest"
        )
    }
    inputs = set()
    for row in tx.all("SELECT request FROM job WHERE request LIKE '%\"digest\"%'"):
        sent = msgspec.json.decode(row["request"], type=_Inputs)
        inputs |= {ref.digest for ref in (*sent.inputs, sent.mask) if ref is not None}
    rows = {table.name: _count(tx, f"SELECT COUNT(*) AS n FROM {table.name}") for table in COPIED}
    open_jobs = _count(tx, "SELECT COUNT(*) AS n FROM job WHERE state IN ('queued', 'in_progress')")
    return _Named(pictures, frozenset(inputs), rows, open_jobs)


def _count(tx: Transaction, sql: str) -> int:
    row = tx.one(sql)
    assert row is not None
    found: int = row["n"]
    return found


@contextlib.asynccontextmanager
async def _pictures_of(data_dir: Path) -> AsyncIterator[BlobStore]:
    store = open_store(data_dir)
    try:
        yield store
    finally:
        store.close()


@contextlib.asynccontextmanager
async def _store(root: Path) -> AsyncIterator[DiskStore]:
    store = DiskStore(root)
    try:
        yield store
    finally:
        store.close()


async def _each(digests: list[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Do `work` for every digest, a few at a time.

    Raises:
        StorageError: it could not be done for one of them.
    """
    left = iter(digests)

    async def some() -> None:
        for digest in left:
            await work(digest)

    ends = await asyncio.gather(*(some() for _ in range(AT_ONCE)), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


def _copy_durably(source: Path, target: Path) -> Path:
    """Copy a file for its owner only; its name appears when its bytes are on the disk."""
    part = target.with_name(target.name + ".part")
    with source.open("rb") as reader:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
    part.replace(target)
    fsync_folder(target.parent)
    return target
