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
from pathlib import Path
from types import TracebackType

from safelight.types import Received, Usage


class Spool:
    """Writes one picture. As a context manager it removes the part file unless committed.

    Calls write to the system's cache and wait for no disk: the event loop makes them, in pieces.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._part = path.with_name(path.name + ".part")
        self._hash = hashlib.sha256()
        self._file = self._part.open("wb")
        self._done = False

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def commit(
        self, *, upstream_request_id: str | None = None, usage: Usage | None = None
    ) -> Received:
        """Give the whole answer its name, and describe it."""
        self._file.close()
        self._part.rename(self.path)
        self._done = True
        return Received(
            path=self.path,
            digest=self._hash.hexdigest(),
            bytes=self.size,
            upstream_request_id=upstream_request_id,
            usage=usage,
        )

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
                self._file.close()
            with contextlib.suppress(OSError):  # swept later
                self._part.unlink(missing_ok=True)
