"""The spool folder: where answers wait between the upstream and the blob store.

Owns the names of spool files. Each process writes to its own folder in it, so that sweeping never
meets a file that a living process still uses. `<job>.<epoch>.<k>` is the complete answer of attempt
k (the adapter renames it there last), with `.part` an unfinished one, with `.remade` our own
pixels, with `.partial<i>` a partial image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from safelight.gateway.process_files import ProcessFiles
from safelight.types import Received

_ANSWER = re.compile(r"(?P<job>[^.]+)\.(?P<epoch>\d+)\.(?P<k>\d+)")
_REMADE, _UNFINISHED = ".remade", ".part"
_PARTIALS = (".partial0", ".partial1", ".partial2")

Left = Mapping[str, Collection[Path]]
"""What dead processes left in the spool, by job."""


class SpoolFolder:
    """This process's spool files, and those it has inherited.

    Args:
        root: the spool of the data folder.
        files: says which of the folders in it are left by the dead.
    """

    def __init__(self, root: Path, files: ProcessFiles) -> None:
        self._shared = root
        self._files = files
        self._root = files.own_folder(root)
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        """What a job may have left here, by its id; unfinished files beside these are implied."""
        self._adopted: dict[str, list[Path]] = {}

    def answer(self, job_id: str, epoch: int, k: int, *, partials: bool = True) -> Path:
        """Return where attempt k of an epoch leaves its complete answer.

        Args:
            job_id: of the attempt.
            epoch: of the job.
            k: of the attempt.
            partials: whether partial images may come beside it.
        """
        name = f"{self._root}/{job_id}.{epoch}.{k}"
        self._names[job_id].append(name)
        if partials:
            self._names[job_id] += [name + suffix for suffix in _PARTIALS]
        return Path(name)

    def remade(self, answer: Path) -> Path:
        """Return where the remade pixels of an answer go."""
        self._names[answer.name.partition(".")[0]].append(f"{answer}{_REMADE}")
        return answer.with_name(answer.name + _REMADE)

    def clear(self, job_id: str) -> None:
        """Remove what an ended job left, and a dead process's folder with the last of it."""
        names, adopted = self._names.pop(job_id, []), self._adopted.pop(job_id, [])
        unfinished = [name + _UNFINISHED for name in names if not name.endswith(_PARTIALS)]
        for path in [*names, *unfinished, *map(str, adopted)]:
            with contextlib.suppress(OSError):  # not there, or not to be removed now: swept later
                os.unlink(path)  # noqa: PTH108
        for folder in {left.parent for left in adopted} - {self._root}:
            _remove_if_empty(folder)

    # --- what the dead left ----------------------------------------------------------------

    def left(self) -> Left:
        """List what dead processes left.

        Ask before reading which jobs are open: then a file of a job that is not among them belongs
        to one that has ended, never to one that began meanwhile.
        """
        found: defaultdict[str, list[Path]] = defaultdict(list)
        # In the root itself: earlier versions had no folder for each process.
        for folder in [self._shared, *self._files.left_folders(self._shared)]:
            with contextlib.suppress(FileNotFoundError):  # another process is sweeping it
                for path in folder.iterdir():
                    if not path.is_dir():
                        found[path.name.partition(".")[0]].append(path)
        return found

    def own(self, job_id: str) -> list[Path]:
        """List this process's own files of a job."""
        return list(self._root.glob(f"{job_id}.*"))

    def adopt(self, job_id: str, files: Iterable[Path]) -> None:
        """Say that a job is run here which left files before: its end removes these too."""
        self._adopted[job_id] = list(files)
        for path in self._adopted[job_id]:
            match = _ANSWER.match(path.name)
            if match is not None:
                name = str(path.with_name(match[0]))
                self._names[job_id] += [name + beside for beside in ("", *_PARTIALS)]

    def sweep(self, left: Left, open_job_ids: Collection[str]) -> None:
        """Remove what dead processes left of jobs that have ended."""
        for job_id in left.keys() - set(open_job_ids):
            for path in left[job_id]:
                path.unlink(missing_ok=True)
        for folder in self._files.left_folders(self._shared):
            _remove_if_empty(folder)

    def leave(self) -> None:
        """Remove this process's folder unless unfinished jobs have files in it."""
        _remove_if_empty(self._root)


def newest_answer(files: Iterable[Path]) -> Path | None:
    """Return the newest complete answer among a job's spool files."""
    found = [
        (int(match["epoch"]), int(match["k"]), path)
        for path in files
        if (match := _ANSWER.fullmatch(path.name)) is not None
    ]
    return max(found)[2] if found else None


def salvage(path: Path) -> tuple[Received, int, int]:
    """Return a complete answer that a dead process left, hashed anew, with its epoch and k.

    Raises:
        FileNotFoundError: another process has taken the job over and finished it.
    """
    match = _ANSWER.fullmatch(path.name)
    assert match is not None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        received = Received(path=path, digest=digest, bytes=file.tell())
    return received, int(match["epoch"]), int(match["k"])


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
