"""The folder of a run: its lock, its journal, and the places of pictures.

Owns which file is where, and that a file appears whole or not at all. Decides nothing about items.

    FOLDER/<out>.png              accepted pictures
    FOLDER/review/<out>-2.png     rejected ones, with the number of their roll
    FOLDER/run.jsonl              the journal
    FOLDER/manifest.json, .csv    what came of it, written at the end of each start
    FOLDER/replaced/              accepted ones whose names others took
    FOLDER/.safelight/            lock, pictures that are not judged yet, inputs as uploaded
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from safelight.client.pictures import ENDINGS
from safelight.client.runs.faults import FolderBusy
from safelight.client.runs.journal import Journal

JOURNAL = "run.jsonl"
REVIEW = "review"
HIDDEN = ".safelight"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk says that takes no more: full, beyond a quota, beyond the size of a file."""


class RunFolder:
    """A folder that this process alone runs in, from `with` to its end.

    Args:
        path: made when it is not there.

    Raises:
        FolderBusy: another run works there.
        FolderForeign: its journal is not one.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.incoming = path / HIDDEN / "incoming"
        self.inputs = path / HIDDEN / "inputs"
        for folder in (self.incoming, self.inputs):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path / HIDDEN / "lock", path)
        try:
            self.journal = Journal(path / JOURNAL)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.journal.close()
        finally:
            self._lock.close()

    def relative(self, path: Path) -> str:
        """Return a path as the journal has it."""
        return path.relative_to(self.path).as_posix()

    def accepted_name(self, out: str, mime: str) -> str:
        """Return where an accepted picture goes, relative to the folder."""
        return out + ENDINGS[mime]

    def review_name(self, out: str, number: int, mime: str) -> str:
        """Return where a rejected picture goes, relative to the folder."""
        return f"{REVIEW}/{out}-{number}{ENDINGS[mime]}"

    def move(self, source: str, target: str) -> None:
        """Give a file its place, durably; names are relative to the folder.

        Raises:
            OSError: it could not be moved; it is where it was.
        """
        place = self.path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.path / source).replace(place)
        _sync(place.parent)

    def holds(self, name: str, sha256: str) -> bool:
        """Return whether a file is there and has these bytes."""
        try:
            with (self.path / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        _sync(target.parent)
        return target

    def discard(self) -> None:
        """Remove what a run that did not begin has put here."""
        self.journal.close()
        (self.path / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.path / HIDDEN, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()  # only where nothing else is in it

    def sweep(self, keep: frozenset[str]) -> None:
        """Remove what a dead start left half-written; `keep` names unjudged pictures."""
        for own in self.incoming.iterdir():
            for path in own.iterdir():
                if self.relative(path) not in keep:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                own.rmdir()  # only where nothing is left in it


def _locked(path: Path, folder: Path) -> IO[bytes]:
    """Return the lock's open file; the kernel lets go of it however the process ends."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise FolderBusy(
            f"another run works in {folder}; wait for its end, or choose another --out"
        ) from None
    return file


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
