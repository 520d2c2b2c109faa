"""The journal of a run: an append-only file of JSON lines beside the pictures.

Owns writing, reading back and the lines' form. What they mean together is `history`'s business.
Lines that money depends on are on the disk (fsync) before `write` returns. A last line that power
loss has torn is cut off when the journal is opened; any other damage is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.client.runs.faults import FolderForeign

VERSION = 1
"""Of the form of the lines; a journal of a newer one is left alone."""

Line = Mapping[str, Any]


class Journal:
    """An open journal; only one process may have it open (`folder.RunFolder` sees to that).

    Args:
        path: the file; made when it is not there.

    Raises:
        FolderForeign: it holds something else, or lines of a newer release.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._broken = False
        self.lines = _read(path)
        """What it held when it was opened."""
        self._file = path.open("ab")
        _sync_folder(path.parent)

    def write(self, what: str, *, durable: bool = False, **facts: Any) -> dict[str, Any]:
        """Append a line and return it; `durable` waits until it is on the disk. For any thread.

        Raises:
            OSError: it could not be written whole. Nothing more is written then, as what follows a
                torn line would be lost with it.
        """
        line = {"what": what, **facts}
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._broken:
                raise OSError(f"{self._path}: an earlier line could not be written")
            self._broken = True
            self._file.write(data)
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            self._broken = False
        return line

    def close(self) -> None:
        """Close the file; what was written without `durable` is brought to the disk."""
        with self._lock:
            if self._file.closed:
                return
            try:
                if not self._broken:
                    os.fsync(self._file.fileno())
            finally:
                # What could not be flushed is a torn line, which the next start cuts off.
                with contextlib.suppress(OSError):
                    self._file.close()


def peek(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal without changing anything; none where there is no file.

    Raises:
        FolderForeign: it holds something else, or lines of a newer release.
        OSError: it cannot be read.
    """
    return _whole(path)[0]


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; cut off what follows the last of them."""
    lines, length = _whole(path)
    if path.exists() and length < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
    return lines


def _whole(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a journal's whole lines, and how many bytes they take."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines, length = [], 0
    pieces = raw.split(b"\n")[:-1]
    for number, piece in enumerate(pieces, 1):
        line = _line(piece)
        if line is None and number == len(pieces):
            break  # of a page that never reached the disk a file system may leave zeros
        if line is None:
            raise FolderForeign(
                f"{path}:{number}: this is no line of a run's journal. Take another folder, or put "
                "the file back from a copy"
            )
        if line["what"] == "run" and line.get("version", 0) > VERSION:
            raise FolderForeign(f"{path}: written by a newer safelight; update this one")
        lines.append(line)
        length += len(piece) + 1
    return lines, length


def _line(piece: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(piece)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("what"), str) else None


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
