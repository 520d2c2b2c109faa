"""The spool file: a picture's bytes on disk while they arrive, hashed on the way.

Owns the write order that makes crash recovery safe: `<path>.part` grows, is fsynced, renamed to
`path`, and the folder is fsynced. A file at `path` is therefore always a complete answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from safelight.durable import fsync_folder
from safelight.types import Received, Usage

WorkP = ParamSpec("WorkP")
ResultT = TypeVar("ResultT")


async def uninterrupted(
    work: Callable[WorkP, ResultT], *args: WorkP.args, **kwargs: WorkP.kwargs
) -> ResultT:
    """Run `work` in a thread; a cancelled caller waits for its end, so that files stand still."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody else will look at it
        raise


class Spool:
    """Writes one picture. As a context manager it removes the part file unless committed.

    Calls block (disk): callers in the event loop write small chunks and run `commit` in a thread.
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
        """Make the bytes durable at `path` and describe them."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self.path)
        fsync_folder(self.path.parent)
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
