"""The spool folder: where answers wait between the upstream and the blob store.

Owns the names of spool files: a folder per job, in it `<epoch>.<k>` for the complete answer of
attempt k (the adapter renames it there last), `.part` for an unfinished one, `.remade` for our own
pixels, `.partial<i>` for a partial image.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from safelight.types import Received

_ANSWER = re.compile(r"(?P<epoch>\d+)\.(?P<k>\d+)$")
_CHUNK = 1 << 20


class SpoolFolder:
    """The spool files of one data folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root

    def answer(self, job_id: str, epoch: int, k: int) -> Path:
        """Return where attempt k of an epoch leaves its complete answer."""
        folder = self._root / job_id
        folder.mkdir(exist_ok=True)
        return folder / f"{epoch}.{k}"

    def remade(self, job_id: str, epoch: int, k: int) -> Path:
        """Return where the remade pixels of an answer go."""
        return self._root / job_id / f"{epoch}.{k}.remade"

    def clear(self, job_id: str) -> None:
        """Remove what an ended job left."""
        # Called in the event loop: a few unlinks in one flat folder, no walk.
        folder = self._root / job_id
        with contextlib.suppress(FileNotFoundError):
            for path in folder.iterdir():
                path.unlink(missing_ok=True)
            folder.rmdir()

    def salvage(self, job_id: str) -> tuple[Received, int, int] | None:
        """Return the newest complete answer of a job with its epoch and k, hashed anew."""
        found = [
            (int(match["epoch"]), int(match["k"]), path)
            for path in (self._root / job_id).glob("*")
            if (match := _ANSWER.match(path.name))
        ]
        if not found:
            return None
        epoch, k, path = max(found)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        size = path.stat().st_size
        return Received(path=path, digest=digest.hexdigest(), bytes=size), epoch, k

    def sweep(self, open_job_ids: Collection[str]) -> None:
        """Remove what is of no use after a restart: files of ended jobs, and unfinished ones."""
        for folder in self._root.iterdir():
            if folder.name not in open_job_ids:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for path in folder.iterdir():
                if _ANSWER.match(path.name) is None:
                    path.unlink(missing_ok=True)
