"""Reading files in windows that lie in memory as direct reads need it, past the page cache.

Owns the opening of a file for reads from its disk, and the memory that such reads go to. Knows
nothing of what the bytes are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

WINDOW_BYTES: Final = 1024 * 1024
"""How much of a file is in memory at once. Every window is a system call and a checksum that both
let go of the interpreter: with 256 KB other threads were woken four times as often."""
ALIGN: Final = 4096
"""Direct reads need offset, length and memory in multiples of the device's block, 4096 at most."""


_SPARE: Final[list[memoryview]] = []
_SPARE_MAX: Final = 2
"""Windows' memory that is kept for the next file: fresh pages cost more to get than to fill."""


class Window:
    """The part of an open file that is in memory now.

    Args:
        descriptor: open for reading; stays open.
        most: bytes in memory, a multiple of ALIGN; less for a smaller file.
    """

    def __init__(self, descriptor: int, most: int = WINDOW_BYTES) -> None:
        self.size = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        blocks = -(-max(1, min(most, self.size)) // ALIGN)
        self._whole = _spare() if most <= WINDOW_BYTES else _pages(blocks * ALIGN)
        self._memory = self._whole[: blocks * ALIGN]
        self._begin = self._end = 0

    def __del__(self) -> None:
        """Keep the memory for the next one."""
        if len(_SPARE) < _SPARE_MAX and len(self._whole) == WINDOW_BYTES:
            _SPARE.append(self._whole)

    def at(self, offset: int) -> memoryview:
        """Return the bytes from `offset` on that are in memory: one at least, none at the end.

        They are overwritten by the next call.

        Raises:
            OSError: the file cannot be read.
        """
        if not self._begin <= offset < self._end:
            self._begin = offset - offset % ALIGN
            count = os.preadv(self._descriptor, [self._memory], self._begin)
            self._end = self._begin + count
        return self._memory[max(0, offset - self._begin) : max(0, self._end - self._begin)]

    def all(self) -> Iterator[memoryview]:
        """Yield the whole file; each part is overwritten by the next.

        Raises:
            OSError: the file cannot be read.
        """
        offset = 0
        while part := self.at(offset):
            yield part
            offset += len(part)


def _spare() -> memoryview:
    try:
        return _SPARE.pop()
    except IndexError:
        return _pages(WINDOW_BYTES)


def _pages(count: int) -> memoryview:
    """Return fresh memory of `count` bytes that begins at a page."""
    return memoryview(mmap.mmap(-1, count, flags=_PRIVATE))


def digest_of(descriptor: int) -> str:
    """Return the SHA-256 of an open file's bytes, lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for part in Window(descriptor).all():
        digest.update(part)
    return digest.hexdigest()


def read_cached(descriptor: int, count: int, offset: int) -> bytearray | None:
    """Return what the page cache has of these bytes; None where the disk would have to be asked.

    For the event loop: what was written a moment ago is in memory, and a visit to a thread would
    cost more than the read (preadv2(2), RWF_NOWAIT).
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    data = bytearray(count)
    try:
        whole = os.preadv(descriptor, [data], offset, os.RWF_NOWAIT) == count
    except OSError:  # not cached, or the file system cannot tell: a thread will see
        return None
    return data if whole else None


def from_disk(
    path: Path, work: Callable[[int], T], *, first: Callable[[int], None] | None = None
) -> T:
    """Do `work` with a descriptor whose reads give what the disk has, not what memory has kept.

    Direct reads (open(2), O_DIRECT) leave the page cache to those who need it next. Where a file
    system has none, clean pages are dropped instead. `work` must read by `Window`. `first` comes
    before anything is dropped or read: whoever has just written makes the bytes durable there. Both
    may be called twice, when direct reads turn out to be refused.

    Raises:
        OSError: the file cannot be read.
        Exception: whatever `work` raises.
    """
    if hasattr(os, "O_DIRECT"):
        with contextlib.suppress(_NotDirect):
            return _with(path, os.O_DIRECT, work, first)
    return _with(path, 0, work, first)


class _NotDirect(Exception):
    """The file system refuses direct reads."""


def _with(
    path: Path, flag: int, work: Callable[[int], T], first: Callable[[int], None] | None
) -> T:
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flag)
        if first is not None:
            first(descriptor)
        if not flag and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return work(descriptor)
    except OSError as error:
        if flag and error.errno == errno.EINVAL:
            raise _NotDirect from error
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
