"""The process in which callers' pictures are decoded: its limits, and its loop.

Owns what such a process may use. It is started by `sandbox` with one socket and nothing else: no
listening socket, no database, no credential in its environment. It is handed two open files for
each picture, one to read and one to write, and never opens one itself.

`python -m safelight.images.sandboxed DESCRIPTOR`
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec

from safelight.images.cleaning import Undecodable, cleaned
from safelight.types import ImageFormat

MEMORY_BYTES: Final = {"png": 512 * 2**20, "jpeg": 512 * 2**20, "webp": 1152 * 2**20}
"""Of address space beyond what the process has when it begins. libwebp holds a picture whole, in
more than one form; 50 megapixels with transparency take 1 GB."""
RESULT_MAX: Final = 50 * 1000 * 1000
"""Bytes of a new file: vendors take images below 50 MB."""
_MESSAGE_MAX: Final = 256
_OPEN_FILES: Final = 32
READY: Final = b"ready\n"


class Task(msgspec.Struct, frozen=True):
    """One picture; its two files come with the message."""

    kind: ImageFormat
    cpu_s: int
    """Processor time that it may take, seconds."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of it: nothing set means that the new file is written."""

    refused: bool = False
    too_large: bool = False
    errno: int = 0
    """The disk's, where the new file could not be written."""


def main(descriptor: int) -> None:
    """Clean pictures until the other end of the socket is closed."""
    own_bytes = _bound()
    with socket.socket(fileno=descriptor) as wire:
        wire.sendall(READY)
        while True:
            message, files, _, _ = socket.recv_fds(wire, _MESSAGE_MAX, 2)
            if not message:
                return
            try:
                task = msgspec.json.decode(message, type=Task)
                _limit_memory(own_bytes + MEMORY_BYTES[task.kind])
                outcome = _work(task, *files)
            finally:
                for file in files:
                    os.close(file)
            wire.sendall(msgspec.json.encode(outcome) + b"\n")


def _work(task: Task, source: int, target: int) -> Outcome:
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The count is the process's, over all pictures; at the soft limit the kernel ends it.
    until = int(used.ru_utime + used.ru_stime) + 1 + task.cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
    try:
        data = cleaned(source, task.kind)
    except (Undecodable, MemoryError):
        return Outcome(refused=True)
    if len(data) > RESULT_MAX:
        return Outcome(too_large=True)
    try:
        with os.fdopen(target, "wb", closefd=False) as file:
            file.write(data)
    except OSError as error:
        return Outcome(errno=error.errno or 5)
    return Outcome()


def _bound() -> int:
    """Take from this process what decoding needs none of; return its address space, in bytes."""
    for which, most in (
        (resource.RLIMIT_CORE, 0),  # a dump would hold somebody's picture
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, RESULT_MAX),
    ):
        resource.setrlimit(which, (most, most))
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text().partition(" ")[0]
        return int(pages) * resource.getpagesize()
    return 0


def _limit_memory(most: int) -> None:
    # Elsewhere than on Linux there may be no such limit; the parent's clock is the bound then.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(int(sys.argv[1]))
