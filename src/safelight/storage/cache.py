"""Local copies of blobs that are kept elsewhere: a bounded folder of files that may go any time.

Owns the folder. A file gets its name when it is whole and was hashed, so a file under a digest is
always that blob. Several processes may share the folder: names change atomically, and a file that
was asked for lately is not swept, for whoever asked may be about to open it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

from safelight.durable import make_folder
from safelight.errors import StorageError
from safelight.storage.disk import free_bytes_at, translated

IN_USE_S = 15 * 60
"""A file that was asked for so lately may be about to be opened."""
OLD_S = 3600
"""A file that nobody has asked for in so long goes even where there is room: its blob may have been
deleted by another process."""
_LEFTOVER_S = 24 * 3600


class CacheFolder:
    """Files by digest in a folder.

    Args:
        root: the folder; it is made when the first file comes.
        max_bytes: how many bytes of files are kept; what is in use may exceed it.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.root = root
        self._max_bytes = max_bytes

    def find(self, digest: str) -> Path | None:
        """Return the file of a blob, and note that it is in use; None: it is not here."""
        path = self.root / digest
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def begin(self, digest: str) -> Incoming:
        """Begin a file for the bytes of a blob.

        Raises:
            StorageError: the disk refuses.
        """
        with translated("keep a local copy of a picture"):
            make_folder(self.root)
            part = self.root / f"{digest[:16]}.{secrets.token_hex(8)}.part"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            return Incoming(os.fdopen(descriptor, "wb"), part, self.root / digest)

    def remove(self, digest: str) -> None:
        """Remove the file of a blob if there is one."""
        with translated("remove a local copy of a picture"):
            (self.root / digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is old, then the least used until the rest fits."""
        now = time.time()
        files: list[tuple[float, int, Path]] = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.root.iterdir():
                with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                    status = path.stat()
                    idle_s = now - status.st_mtime
                    limit_s = _LEFTOVER_S if path.suffix == ".part" else OLD_S
                    if idle_s > limit_s:
                        path.unlink()
                    elif path.suffix != ".part":
                        files.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for used_at, size, path in sorted(files):
            if total <= self._max_bytes or now - used_at < IN_USE_S:
                break
            path.unlink(missing_ok=True)
            total -= size

    def free_bytes(self) -> int:
        """Return how many bytes this process may still write on the folder's file system."""
        return free_bytes_at(self.root)


class Incoming:
    """A file on its way into the cache."""

    def __init__(self, file: BinaryIO, part: Path, path: Path) -> None:
        self._file = file
        self._part = part
        self._path = path
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            StorageError: the disk refuses.
        """
        with translated("keep a local copy of a picture"):
            self._file.write(data)
        self._hash.update(data)

    def commit(self) -> Path:
        """Give the file its name and return it.

        Raises:
            StorageError: the bytes have another digest, or the disk refuses.
        """
        found = self._hash.hexdigest()
        if found != self._path.name:
            raise StorageError(f"The bytes read back as {found}, not as {self._path.name}.")
        with translated("keep a local copy of a picture"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.replace(self._path)
        return self._path

    def close(self) -> None:
        """Remove what was not committed."""
        with contextlib.suppress(OSError):
            self._file.close()
            self._part.unlink(missing_ok=True)
