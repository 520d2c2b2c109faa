"""The data folder: whose it is, what its file system can do, and how much room it has.

Owns the probe files in a folder of their own that is removed again. Beside a running server nothing
of it is touched. Opens no database and no store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.gateway.process_files import living
from safelight.keyring import FILE_NAME

GROUP = "data folder"
SLOW_FSYNC_S = 0.05
_FSYNCS = 20
_INODES_MIN = 100_000
_BLOCK = 4096
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs", "lustre"}


def check(data: Path, min_free_bytes: int) -> Iterator[Check]:
    """Yield what is to be said of the folder; where there is none yet, of the one above it."""
    if not data.is_dir():
        yield warning(
            GROUP, "folder", f"there is no folder {data} yet",
            "`safelight serve` makes it; or name the right one with --data.",
        )  # fmt: skip
        return
    yield from _rights(data)
    yield from _secrets(data)
    yield from _room(data, min_free_bytes)
    yield from _one_file_system(data)
    yield _running(data)
    if not os.access(data, os.W_OK):
        yield unchecked(GROUP, "abilities", "nothing can be written there by this user")
        return
    probe = Path(tempfile.mkdtemp(prefix=".doctor-", dir=data))
    try:
        yield from _abilities(probe)
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _rights(data: Path) -> Iterator[Check]:
    found = data.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        yield failed(
            GROUP, "owner", f"{data} belongs to user {found.st_uid}, this is {os.geteuid()}",
            f"Run as that user, or: chown -R {os.geteuid()} {data}",
        )  # fmt: skip
    elif not os.access(data, os.W_OK | os.X_OK):
        yield failed(GROUP, "owner", f"{data} cannot be written to", f"chmod 700 {data}")
    elif mode & 0o077:
        yield warning(
            GROUP, "owner", f"others may look into {data} (mode {mode:o})",
            f"It holds prompts, pictures and keys: chmod 700 {data}",
        )  # fmt: skip
    else:
        yield ok(GROUP, "owner", f"{data} is this user's alone")


def _secrets(data: Path) -> Iterator[Check]:
    path = data / FILE_NAME
    try:
        found = path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        words = "not there yet; the first start makes it" if missing else str(error.strerror)
        yield unchecked(GROUP, "secrets", f"{path}: {words}")
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        said = f"others may read {path} (mode {mode:o}): who reads it can forge links"
        advice = f"chmod 600 {path}, and think of a rotation of the keys"
        yield failed(GROUP, "secrets", said, advice)
    elif found.st_uid != os.geteuid():
        said = f"{path} belongs to user {found.st_uid}, this is {os.geteuid()}"
        yield failed(GROUP, "secrets", said, f"chown {os.geteuid()} {path}")
    else:
        yield ok(GROUP, "secrets", f"{path.name} is readable by its owner only")


def _room(data: Path, min_free_bytes: int) -> Iterator[Check]:
    room = os.statvfs(data)
    free = room.f_bavail * room.f_frsize
    said = f"{free / 1e9:.1f} GB free"
    if free < min_free_bytes:
        yield failed(
            GROUP, "space", f"{said}, below min_free_bytes: new work is refused (storage_full)",
            "Make room, or lower [retention] images_s.", free_bytes=free,
        )  # fmt: skip
    elif free < 5 * min_free_bytes:
        advice = "Make room before [storage] min_free_bytes is reached: then work is refused."
        yield warning(GROUP, "space", said, advice, free_bytes=free)
    else:
        yield ok(GROUP, "space", said, free_bytes=free)
    # Some file systems make inodes as they need them, and say 0.
    if room.f_files and room.f_favail < _INODES_MIN:
        said = f"room for {room.f_favail:,} more files: each picture is one"
        yield warning(GROUP, "inodes", said, "Use a file system with more inodes.")


def _one_file_system(data: Path) -> Iterator[Check]:
    there = {name: data / name for name in ("spool", "blobs", "uploads") if (data / name).is_dir()}
    away = [name for name, path in there.items() if path.stat().st_dev != data.stat().st_dev]
    if away:
        yield warning(
            GROUP, "one file system", f"{', '.join(away)} is on another file system",
            "Each picture is then copied, not linked: put spool and blobs on one.",
        )  # fmt: skip
    elif there:
        yield ok(GROUP, "one file system", f"{', '.join(sorted(there))} are on one file system")
    kind = _kind(data)
    if kind in _REMOTE:
        yield failed(
            GROUP, "local disk", f"the folder is on {kind}",
            "SQLite and the locks of processes need a local disk; pictures may be in a bucket.",
        )  # fmt: skip


def _kind(data: Path) -> str:
    """Return the type of the folder's file system, empty where the system has no list of them."""
    mounts = Path("/proc/mounts")
    if not mounts.is_file():
        return ""
    where = str(data.resolve())
    best, found = -1, ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        under = where == point or where.startswith(point.rstrip("/") + "/")
        if under and len(point) > best:
            best, found = len(point), kind
    return found


def _running(data: Path) -> Check:
    count = len(living(data / "processes"))
    said = "no server runs on it now"
    if count:
        said = f"{count} processes serve it now" if count > 1 else "one process serves it now"
    return ok(GROUP, "servers", said, processes=count)


def _abilities(probe: Path) -> Iterator[Check]:
    first = probe / "first"
    first.write_bytes(bytes(2 * _BLOCK))
    try:
        (probe / "second").hardlink_to(first)
        yield ok(GROUP, "links", "a file may have two names")
    except OSError as error:
        said = f"a file may not have two names ({error.strerror})"
        yield warning(GROUP, "links", said, "Pictures are copied then: use ext4, XFS or the like.")
    with first.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield ok(GROUP, "locks", "files can be locked")
        except OSError as error:
            said = f"files cannot be locked ({error.strerror})"
            yield failed(GROUP, "locks", said, "Put the data folder on a local disk.")
    yield _direct(first)
    yield _durable(probe / "third")


def _direct(path: Path) -> Check:
    try:
        os.close(os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0)))
    except OSError:
        said = "files cannot be read past the page cache (O_DIRECT); they are read through it"
        return ok(GROUP, "direct reads", said)
    return ok(GROUP, "direct reads", "files can be read past the page cache")


def _durable(path: Path) -> Check:
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_FSYNCS):
            file.write(bytes(_BLOCK))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    median_s, worst_s = statistics.median(times), max(times)
    said = f"fsync takes {median_s * 1000:.1f} ms, {worst_s * 1000:.1f} ms at worst"
    facts = {"p50_ms": round(median_s * 1000, 2), "max_ms": round(worst_s * 1000, 2)}
    if median_s > SLOW_FSYNC_S:
        advice = "Every order waits for some: use an SSD with a protected write cache."
        return warning(GROUP, "fsync", said, advice, **facts)
    return ok(GROUP, "fsync", said, **facts)
