"""The spool file: a picture's bytes on disk while they arrive, hashed on the way.

Owns the write order that makes crash recovery safe: `<path>.part` grows and is renamed to `path`
when it is whole. A file at `path` is therefore a complete answer, whatever happens to the process.

It is not fsynced here: the blob store does that to the same file a moment later, before anything is
promised. A machine that loses power in between may find the file short; whoever takes over checks
the picture as he would any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from safelight.types import Received, Usage

BLOCK_BYTES: Final = 64 * 1024
"""What is written at once begins and ends at a multiple of this: the page cache then takes large
folios, which are cheaper to fill, to write back and to drop than single pages. Larger blocks gain
little more, and hundreds of answers that wait for their place would each keep one in memory."""


class Spool:
    """Writes one picture. As a context manager it removes the part file unless committed.

    Calls write to the system's cache and wait for no disk: the event loop makes them, in pieces.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._part = f"{path}.part"
        self._hash = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.open(self._part, flags, 0o600)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._done = False

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            OSError: the disk refuses.
        """
        self._hash.update(data)
        self.size += len(data)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= BLOCK_BYTES:
            self._write_out(self._waiting_bytes - self._waiting_bytes % BLOCK_BYTES)

    def flush(self) -> None:
        """Give everything to the system.

        Raises:
            OSError: the disk refuses.
        """
        self._write_out(self._waiting_bytes)

    def _write_out(self, count: int) -> None:
        """Write the first `count` of the bytes that wait, and keep the others."""
        whole: list[bytes | memoryview] = []
        left = count
        while left:
            data = self._waiting.pop(0)
            if len(data) > left:
                view = memoryview(data)
                self._waiting.insert(0, bytes(view[left:]))  # the whole piece is let go of
                whole.append(view[:left])
                break
            whole.append(data)
            left -= len(data)
        self._waiting_bytes -= count
        while count:
            written = os.writev(self._file, whole)
            count -= written
            if count:  # cut short, as by a signal: a disk that is full says so at the next write
                whole = [memoryview(b"".join(whole))[written:]]

    def commit(
        self, *, upstream_request_id: str | None = None, usage: Usage | None = None
    ) -> Received:
        """Give the whole answer its name, and describe it.

        Raises:
            OSError: the disk refuses.
        """
        self.flush()
        self._close()
        os.rename(self._part, self.path)  # noqa: PTH104  (a hot path)
        self._done = True
        return Received(
            path=self.path,
            digest=self._hash.hexdigest(),
            bytes=self.size,
            upstream_request_id=upstream_request_id,
            usage=usage,
        )

    def _close(self) -> None:
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._done:
            with contextlib.suppress(OSError):  # a full disk: what made us stop is the news
                self._close()
            with contextlib.suppress(OSError):  # swept later
                os.unlink(self._part)  # noqa: PTH108
