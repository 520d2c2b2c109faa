"""Media that fail for real: a small disk, a bound on files, protected files, a page of junk.

Nothing is patched: the operating system refuses. What needs a privilege that is not there skips its
test and says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

PAGE_BYTES = 4096


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a memory disk of that size; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a process that a failed test left there must not hold the mount.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Take all the space of a disk while inside."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while _written(file, size):
                pass
    try:
        yield
    finally:
        filler.unlink()


def _written(file: FileIO, size: int) -> bool:
    """Write so many bytes; False when there is no room for them."""
    try:
        return file.write(b"\1" * size) == size
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


@contextlib.contextmanager
def no_file_longer_than(count: int) -> Iterator[None]:
    """Bound the length of every file that this process writes, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def protected(*paths: Path) -> Iterator[None]:
    """Let nobody change these files, whoever has them open already; needs root and its disk."""
    names = [str(path) for path in paths]
    chattr = shutil.which("chattr")
    if os.geteuid() != 0 or chattr is None:
        pytest.skip("only root may protect files that are open")
    done = subprocess.run([chattr, "+i", *names], capture_output=True, text=True, check=False)
    try:
        if done.returncode != 0:
            pytest.skip(f"this disk protects no files: {done.stderr.strip()}")
        yield
    finally:
        subprocess.run([chattr, "-i", *names], capture_output=True, check=False)


def damage(database: Path, *, first_page: int = 2) -> None:
    """Write junk over a database that is open elsewhere, from one page to the end.

    The log is emptied first, so that every connection has to read the pages again.
    """
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    start = (first_page - 1) * PAGE_BYTES
    with database.open("r+b") as file:
        length = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        file.write(b"\xa5" * length)
        file.flush()
        os.fsync(file.fileno())
    connection.close()


@contextlib.contextmanager
def no_more_open_files() -> Iterator[None]:
    """Let this process open no more files than it has open now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open("rb") as probe:
        used = probe.fileno()  # the lowest that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
