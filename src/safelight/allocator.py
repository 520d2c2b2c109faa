"""Memory: the C library's allocator and Python's collector, told what this program does.

Owns the allocator's settings (glibc's mallopt(3)), for large buffers in many threads; where there
is another C library, nothing happens. They are made before the first thread starts, and need no
environment. Owns as well what the collector need not look at, and nothing else.

Buffers of pictures are 64 KB to 1 MB and live for a moment. Left to itself glibc maps each of them
from the kernel and gives it back, a page fault for every 4 KB; and once one was freed it raises the
bound below which it does not, up to 32 MB, so that what a process keeps depends on what came first.
Each new thread gets a heap of its own, of which it gives back little; we have a dozen of them, and
they mostly wait. Figures: docs/performance.md, "The allocator".
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys

# malloc.h of glibc
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8

GIVE_BACK_S = 30.0
"""How often memory is given back that a burst has left."""

SETTINGS = {
    _M_MMAP_THRESHOLD: 4 * 1024 * 1024,
    _M_TRIM_THRESHOLD: 16 * 1024 * 1024,
    _M_TOP_PAD: 1024 * 1024,
    _M_ARENA_MAX: 2,
}


def tune() -> bool:
    """Set the allocator up; return whether there is one that takes it."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        # musl and others have no such function: nothing is set half.
        library.gnu_get_libc_version  # noqa: B018
        taken = [library.mallopt(name, value) for name, value in SETTINGS.items()]
        return all(taken)
    return False


def settle() -> None:
    """Take what was made until now, which stays to the end, out of the collector's sight.

    A full collection looks at every object that can hold others. Of those a started process has a
    hundred thousand, and each time their number had grown by a quarter, with some hundred callers
    at once, all of them waited for it, 20 ms and more. Afterwards only what came since is looked
    at (Python's `gc.freeze`).
    """
    gc.collect()
    gc.freeze()


async def give_back() -> None:
    """Trim in a thread: it takes milliseconds, and holds no lock that Python needs."""
    await asyncio.to_thread(trim)


def trim() -> None:
    """Give free memory back to the system, which glibc does only from the end of its heap."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
