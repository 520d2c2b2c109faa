"""The spool folder: where answers wait between the upstream and the blob store.

Owns the names of spool files, all in one folder so that one fsync of it makes each name durable:
`<job>.<epoch>.<k>` is the complete answer of attempt k (the adapter renames it there last), with
`.part` an unfinished one, with `.remade` our own pixels, with `.partial<i>` a partial image.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from safelight.types import Received

_ANSWER = re.compile(r"(?P<job>[^.]+)\.(?P<epoch>\d+)\.(?P<k>\d+)$")
_BESIDE = (".part", ".remade", ".remade.part", ".partial0", ".partial1", ".partial2")


class SpoolFolder:
    """The spool files of one data folder, and which of them running jobs may have left."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._answers: defaultdict[str, set[Path]] = defaultdict(set)

    def answer(self, job_id: str, epoch: int, k: int) -> Path:
        """Return where attempt k of an epoch leaves its complete answer."""
        path = self._root / f"{job_id}.{epoch}.{k}"
        self._answers[job_id].add(path)
        return path

    def remade(self, answer: Path) -> Path:
        """Return where the remade pixels of an answer go."""
        return answer.with_name(answer.name + ".remade")

    def clear(self, job_id: str) -> None:
        """Remove what an ended job left."""
        for answer in self._answers.pop(job_id, ()):
            answer.unlink(missing_ok=True)
            for suffix in _BESIDE:
                answer.with_name(answer.name + suffix).unlink(missing_ok=True)

    def sweep(self, open_job_ids: Collection[str]) -> dict[str, Path]:
        """Remove what is of no use after a restart; return each open job's newest answer."""
        newest: dict[str, tuple[int, int, Path]] = {}
        for path in self._root.iterdir():
            match = _ANSWER.match(path.name)
            if match is None or match["job"] not in open_job_ids:
                path.unlink(missing_ok=True)
                continue
            self._answers[match["job"]].add(path)
            found = (int(match["epoch"]), int(match["k"]), path)
            newest[match["job"]] = max(found, newest.get(match["job"], found))
        return {job_id: path for job_id, (_, _, path) in newest.items()}


def salvage(path: Path) -> tuple[Received, int, int]:
    """Return a complete answer that an earlier process left, hashed anew, with its epoch and k."""
    match = _ANSWER.match(path.name)
    assert match is not None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        received = Received(path=path, digest=digest, bytes=file.tell())
    return received, int(match["epoch"]), int(match["k"])
