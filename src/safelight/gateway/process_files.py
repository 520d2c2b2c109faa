"""The files of the processes that share one data folder, and their folders in it.

Owns the files `processes/<owner>`, what lies in folders named after processes, and `serve.lock`,
under which one process starts after another. Each process file is locked (flock) by the process it
names, and the kernel lets go of the lock when that process ends, however it ends: a process of this
folder is alive exactly while its file is locked. No clock, no heartbeat and no reused process id
can be wrong about that. Of processes with other data folders this module knows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from safelight.durable import make_folder
from safelight.errors import ConfigError

START_WAIT_S = 60.0
"""How long a start waits for another one on the same folder."""


@contextlib.asynccontextmanager
async def starting(data_dir: Path) -> AsyncIterator[None]:
    """Start on a data folder alone: the first customer is made once, jobs are taken over once.

    Raises:
        ConfigError: another start on it does not end.
    """
    until = asyncio.get_running_loop().time() + START_WAIT_S
    with (data_dir / "serve.lock").open("a+") as lock:
        while not _try_to_lock(lock):
            if asyncio.get_running_loop().time() > until:
                raise ConfigError(
                    f"another safelight serve has been starting on {data_dir} for "
                    f"{START_WAIT_S:.0f} s; stop it or choose another --data"
                )
            await asyncio.sleep(0.05)
        yield


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class ProcessFiles:
    """The files of one data folder's processes, this one's among them while the object is in use.

    Args:
        root: folder of the process files; it is made where missing.
        owner: name of this process, never used before: leases and attachments carry it.

    Raises:
        ConfigError: the folder's file system cannot lock files.
    """

    def __init__(self, root: Path, owner: str) -> None:
        self.owner = owner
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _register(root, owner)

    def locked(self, owner: str) -> bool | None:
        """Return whether a process of this folder lives; None when it has no file here.

        Quick enough for any thread.
        """
        if owner == self.owner:
            return not self._lock.closed
        if not owner:
            return None
        return _locked(self._root / owner)

    def dead(self) -> set[str]:
        """Return the processes that ended without leaving: their files are there, unlocked."""
        names = {path.name for path in _entries(self._root)}
        return {name for name in names if not name.endswith(_NEW) and self.locked(name) is False}

    def forget(self, owner: str) -> None:
        """Remove the file of a dead process, when nothing of it is left to do."""
        (self._root / owner).unlink(missing_ok=True)

    def leave(self) -> None:
        """Say that this process serves the folder no more; what it left may be taken over."""
        self.forget(self.owner)
        self.die()

    def die(self) -> None:
        """Let go of the lock as the kernel does for a process that ends: the file stays."""
        self._lock.close()

    # --- folders by process ----------------------------------------------------------------

    def own_folder(self, root: Path) -> Path:
        """Return this process's own folder in `root`, made where missing, durably."""
        folder = root / self.owner
        make_folder(folder)
        return folder

    def left_folders(self, root: Path) -> list[Path]:
        """Return the folders in `root` whose processes are dead."""
        return [path for path in _entries(root) if path.is_dir() and not self.locked(path.name)]

    def remove_left(self, root: Path) -> None:
        """Remove from `root` what belongs to no living process. Blocks; errors leave it there."""
        for path in _entries(root):
            if not path.is_dir():
                with contextlib.suppress(OSError):
                    path.unlink()
            elif not self.locked(path.name):
                shutil.rmtree(path, ignore_errors=True)


_NEW = ".new"


def living(root: Path) -> set[str]:
    """Return the processes that serve a data folder now, asked from outside.

    Args:
        root: folder of the process files; it may be missing.
    """
    return {path.name for path in _entries(root) if _locked(path)}


def _locked(path: Path) -> bool | None:
    """Return whether a process holds the lock of its file; None when there is no file."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who ask at once do not take each other for the owner.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _register(root: Path, owner: str) -> BinaryIO:
    """Make and lock a process file. Its name appears only when it is locked already."""
    new = root / f"{owner}{_NEW}"
    file = new.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(root / owner)
    except OSError as error:
        file.close()
        raise ConfigError(
            f"{new} cannot be locked ({error.strerror}); the data folder must be on a local disk"
        ) from error
    return file


def _entries(folder: Path) -> Iterator[Path]:
    """List a folder that another process may be removing."""
    with contextlib.suppress(FileNotFoundError):
        yield from list(folder.iterdir())
