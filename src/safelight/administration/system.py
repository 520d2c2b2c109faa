"""What runs here: version, processes, database, storage, disk, sizes and clock.

Owns these looks at the machine and the database; each is cheap or bounded. Judges nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import msgspec

import safelight
from safelight import heartbeats
from safelight.clock import Clock
from safelight.config import Config
from safelight.db import Database, Transaction, address
from safelight.gateway import Gateway
from safelight.metrics import Histogram
from safelight.storage import BlobStore

FOLDER_S = 60.0
FILES_MAX = 20_000
"""Most files that are looked at for the size of a folder; beyond it the size is a lower bound."""


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """A process of this gateway; times in unix seconds."""

    id: str
    host: str
    started_at: int
    beat_at: int


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the books are; `bytes` of a file, null for a server.

    `commit_ms` is how long a commit took on average since this process began; null: none was made.
    """

    kind: str
    bytes: int | None
    commit_ms: float | None
    schema_version: int


class StorageState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the pictures are: `disk` or `bucket`, and the room that is left."""

    kind: str
    free_bytes: int | None


class FolderState(msgspec.Struct, frozen=True, kw_only=True):
    """The data folder; `complete` is false where it has more files than were looked at."""

    free_bytes: int
    folders: dict[str, int]
    complete: bool


class ClockState(msgspec.Struct, frozen=True, kw_only=True):
    """This process's time, unix seconds, and by how much the database's is ahead of it."""

    now_at: int
    database_ahead_ms: int


class SystemState(msgspec.Struct, frozen=True, kw_only=True):
    """What runs here; times in unix seconds."""

    object: str = "system"
    version: str
    started_at: int
    accepting: bool
    jobs_in_flight: int
    processes: tuple[ProcessState, ...]
    database: DatabaseState
    storage: StorageState
    data_folder: FolderState
    clock: ClockState


class FolderSizes:
    """Sizes of a data folder, looked at anew at most once in `FOLDER_S` seconds.

    Args:
        data: the folder.
        clock: how old they are.
    """

    def __init__(self, data: Path, clock: Clock) -> None:
        self._data = data
        self._clock = clock
        self._found: FolderState | None = None
        self._until = 0.0

    async def look(self) -> FolderState:
        """Return them."""
        if self._found is None or self._until <= self._clock.monotonic():
            self._found = await asyncio.to_thread(_folder, self._data)
            self._until = self._clock.monotonic() + FOLDER_S
        return self._found


async def look(
    *,
    db: Database,
    store: BlobStore,
    config: Config,
    clock: Clock,
    sizes: FolderSizes,
    commits: Histogram,
    started_ms: int,
    gateway: Gateway,
) -> SystemState:
    """Return what runs here."""

    def read(tx: Transaction) -> tuple[int, int, tuple[ProcessState, ...]]:
        version = tx.one("SELECT MAX(version) AS version FROM migration")
        assert version is not None
        return (
            tx.now_ms,
            version["version"],
            tuple(
                ProcessState(
                    id=one.owner,
                    host=one.host,
                    started_at=one.started_at // 1000,
                    beat_at=one.beat_at // 1000,
                )
                for one in heartbeats.all_processes(tx)
            ),
        )

    database_ms, version, processes = await db.read(read)
    now_ms = clock.now_ms()
    in_file = address.chosen(os.environ) is None
    file = config.data_dir / address.DATABASE_FILE
    return SystemState(
        version=safelight.__version__,
        started_at=started_ms // 1000,
        accepting=gateway.accepting,
        jobs_in_flight=gateway.running,
        processes=processes,
        database=DatabaseState(
            kind="sqlite" if in_file else "postgresql",
            bytes=_database_bytes(file) if in_file else None,
            commit_ms=_mean_ms(commits),
            schema_version=version,
        ),
        storage=StorageState(
            kind="bucket"
            if config.storage.url or os.environ.get("SAFELIGHT_STORAGE_URL")
            else "disk",
            free_bytes=await store.free_bytes(),
        ),
        data_folder=await sizes.look(),
        clock=ClockState(now_at=now_ms // 1000, database_ahead_ms=database_ms - now_ms),
    )


def _mean_ms(seconds: Histogram) -> float | None:
    cells = seconds.cells.values()
    commits = sum(sum(cell.counts) for cell in cells)
    return sum(cell.total for cell in cells) / commits * 1000 if commits else None


def _database_bytes(file: Path) -> int:
    # What was written last is in the log beside the file.
    return sum(one.stat().st_size for one in file.parent.glob(f"{file.name}*"))


def _folder(data: Path) -> FolderState:
    sizes: dict[str, int] = {}
    left = FILES_MAX
    for folder, _, files in os.walk(data):
        part = Path(folder).relative_to(data).parts
        name = part[0] if part else "files"
        for file in files:
            if not left:
                return FolderState(
                    free_bytes=shutil.disk_usage(data).free, folders=sizes, complete=False
                )
            left -= 1
            try:
                sizes[name] = sizes.get(name, 0) + os.stat(os.path.join(folder, file)).st_size  # noqa: PTH116, PTH118
            except FileNotFoundError:
                continue  # it has gone since, as files of attempts do
    return FolderState(free_bytes=shutil.disk_usage(data).free, folders=sizes, complete=True)
