"""Blobs on a local disk: `root/ab/cd/<digest>`, written once, durable before they are promised.

Owns the order of writes that makes a blob survive power loss, and the proof that it was kept: the
file is fsynced, read back from the disk, made read-only and linked to its name, and the folders
above are fsynced. A file under its digest is therefore always whole.

A source that is given away becomes the blob itself, by a second name of its file: so a picture is
written once and not twice. Any other is copied, and so is one from another file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from safelight.durable import fsync_folder, make_folder
from safelight.errors import StorageError, storage_code
from safelight.storage import CHUNK_BYTES, Chunk, Proof, StoredBlob
from safelight.windows import digest_of, from_disk, read_cached

T = TypeVar("T")

SMALL_BYTES = 64 * 1024
"""So few bytes are read without a visit to a thread."""

OWNER_FILE = "owner"
"""Says which installation the blobs belong to; `claim` makes it."""
_THREADS = 8
_READERS = 2
"""Threads that read back at a time: many wait for the disk, but who checks needs the interpreter
between any two reads, and each more that wants it wakes all the others."""
_LEFTOVER_S = 24 * 3600
"""A temporary file that nobody touched for a day belongs to a process that died."""
_UNREAD_MAX = 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Another file system, one without links, or too many of them."""
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)


class DiskStore:
    """A `BlobStore` in a folder; the folder is made when the first blob comes.

    Several processes may use one folder at the same time. Files and folders are readable by their
    owner only. Digests are 64 lower-case hex digits; anything else is a StorageError, so no name
    from outside can lead out of the folder.

    Args:
        root: the folder; temporary files are in `root/tmp`, on the same file system.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        self._linked_in: set[Path] = set()
        self._unread: OrderedDict[str, None] = OrderedDict()
        """The blobs kept last that nobody has read yet."""
        self._durable = bytearray(0x10000)
        """Of each folder `ab/cd`: whether this process has made its name in `ab` durable."""
        self._durable_above = bytearray(0x100)
        """The same of each folder `ab` and its name in the root."""
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self._reading_back = threading.BoundedSemaphore(_READERS)
        self._remove_leftovers()

    def __repr__(self) -> str:
        return f"DiskStore({str(self._root)!r})"

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        """Keep the bytes of the file `source` under `digest`, durably, and read them back.

        A blob that is there is read back too, and not written again; a damaged one is replaced.

        Raises:
            StorageError: no space, no access, or the bytes read back have another digest.
            Exception: whatever `proof` raises.
        """
        await self._run(partial(self._put, source, digest, given, proof))
        self._unread[digest] = None
        if len(self._unread) > _UNREAD_MAX:
            self._unread.popitem(last=False)

    async def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AsyncIterator[Chunk]:
        """Yield the blob's bytes in chunks of at most `chunk_bytes`, from `start`.

        Raises:
            StorageError: there is no such blob, or it cannot be read.
            ValueError: `start` or `length` is negative.
        """
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"a blob has no range of {length} bytes from {start}")
        if length is not None and length <= SMALL_BYTES:
            # Written a moment ago, as a rule: a visit to a thread would cost more than the read.
            yield self._read_small(digest, start, length)
            return
        # What was kept a moment ago is found without the disk, too.
        fresh = digest in self._unread
        descriptor = self._open(digest) if fresh else await self._run(partial(self._open, digest))
        try:
            while length is None or length > 0:
                count = chunk_bytes if length is None else min(chunk_bytes, length)
                data: Chunk | None = read_cached(descriptor, count, start)
                if data is None:
                    data = await self._run(partial(_read, descriptor, count, start))
                if not data:
                    break
                start += len(data)
                length = None if length is None else length - len(data)
                yield data
            if digest in self._unread and start >= os.fstat(descriptor).st_size:
                self._let_go(descriptor, digest)
        finally:
            # A read that nobody waits for any more takes nothing from whoever gets the number next:
            # it has an offset of its own, and its bytes go nowhere.
            os.close(descriptor)

    async def local_path(self, digest: str) -> Path:
        """Return the blob's own file, to read only.

        Raises:
            StorageError: there is no such blob.
        """
        path = self._path(digest)
        if not await self._run(path.is_file):
            raise StorageError(f"There is no blob {digest}.")
        return path

    async def exists(self, digest: str) -> bool:
        """Return whether the blob is there.

        Raises:
            StorageError: `digest` is none.
        """
        return await self._run(self._path(digest).is_file)

    async def delete(self, digest: str) -> None:
        """Remove the blob's file, durably; nothing happens where there is none.

        Raises:
            StorageError: the disk refuses.
        """
        await self._run(partial(self._delete, self._path(digest)))

    async def stored(self) -> AsyncIterator[StoredBlob]:
        """Yield every blob, in no order.

        Raises:
            StorageError: the folder cannot be read.
        """
        for place in await self._run(partial(_folders, self._root)):
            for blob in await self._run(partial(_listed, place)):
                yield blob

    async def presigned(self, digest: str, *, seconds: int) -> str | None:  # noqa: ARG002
        """Return None: a disk has no address."""
        return None

    async def claim(self, owner: str) -> str:
        """Return whose folder it is; the first to ask says so.

        Raises:
            StorageError: the disk refuses.
        """
        return await self._run(partial(self._claim, owner))

    async def has(self, digest: str, size: int | None) -> bool:
        """Return whether the blob is there with that many bytes; None: with any. Reads nothing.

        Raises:
            StorageError: `digest` is none.
        """
        path = self._path(digest)
        return await self._run(lambda: path.is_file() and size in (None, path.stat().st_size))

    async def adopt(self, source: Path, digest: str, *, link: bool) -> None:
        """Keep the blob of another store, as a second name of its file where that can be.

        Both are then one file, which neither store ever changes: what is damaged is replaced by
        another file. The names are durable after `sync`.

        Args:
            source: the other store's file.
            digest: of its bytes; a linked file is not read.
            link: whether it may be linked; else, and on another disk, it is put.

        Raises:
            StorageError: as `put`.
        """
        if not (link and await self._run(partial(self._link, source, digest))):
            await self.put(source, digest)

    async def sync(self) -> None:
        """Make all names durable that `adopt` has made.

        Raises:
            StorageError: the disk refuses.
        """
        await self._run(self._sync)

    async def free_bytes(self) -> int:
        """Return how many bytes this process may still write on the folder's file system."""
        return await self._run(self._free_bytes)

    def close(self) -> None:
        """Finish what runs and end the threads."""
        self._pool.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StorageError(f"{digest!r} is no digest of 64 lower-case hex digits.")
        return Path(f"{self._root}/{digest[:2]}/{digest[2:4]}/{digest}")

    def _put(self, source: Path, digest: str, given: bool, proof: Proof | None) -> None:
        path = self._path(digest)
        with translated(f"keep blob {digest}"):
            if given:
                self._read_back(source, digest, proof)
            elif proof is not None:
                from_disk(source, proof)
            # Nearly always the name is free; whatever has it is looked at before it is believed.
            named = given and self._named(source, path)
            if not named and not (path.is_file() and from_disk(path, digest_of) == digest):
                self._make_folders(path)
                self._place(source, path, digest, given=given)
            self._make_name_durable(path)

    def _named(self, source: Path, path: Path) -> bool:
        """Give a file its name as a blob; False if the name is taken, or there are no links."""
        try:
            return _linked(source, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            self._make_folders(path)
        with contextlib.suppress(FileExistsError):
            return _linked(source, path)
        return False

    def _place(self, source: Path, path: Path, digest: str, *, given: bool) -> None:
        """Put a file under its name, whatever has it now."""
        part = self._temporary / f"{digest[:16]}.{secrets.token_hex(8)}"
        try:
            if not (given and _linked(source, part)):
                _copy(source, part)
                self._read_back(part, digest, None)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _read_back(self, path: Path, digest: str, proof: Proof | None) -> None:
        """Make a file's bytes durable and read-only, and prove them by what the disk gives back.

        Raises:
            StorageError: they have another digest.
        """
        read = partial(self._read, digest_of if proof is None else proof)
        found = from_disk(path, read, first=_made_durable)
        if found is False:
            found = from_disk(path, partial(self._read, digest_of))
        if found is True:
            return
        if found != digest:
            raise StorageError(f"The bytes read back as {found}, not as {digest}.")

    def _read(self, work: Callable[[int], T], descriptor: int) -> T:
        with self._reading_back:
            return work(descriptor)

    def _make_name_durable(self, path: Path) -> None:
        """Fsync the folders of a new name; those above it once in the life of this process.

        Another process may have made them and not fsynced them yet.
        """
        fsync_folder(path.parent)
        place, above = int(path.name[:4], 16), int(path.name[:2], 16)
        if not self._durable[place]:
            fsync_folder(path.parent.parent)
            self._durable[place] = 1
        if not self._durable_above[above]:
            fsync_folder(self._root)
            self._durable_above[above] = 1

    def _make_folders(self, path: Path) -> None:
        if path.parent.is_dir() and self._temporary.is_dir():
            return
        place, above = int(path.name[:4], 16), int(path.name[:2], 16)
        self._durable[place] = 0
        if not path.parent.parent.is_dir():
            self._durable_above[above] = 0
            make_folder(self._root)
        for folder in (self._temporary, path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _delete(self, path: Path) -> None:
        with translated(f"remove blob {path.name}"):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                fsync_folder(path.parent)

    def _claim(self, owner: str) -> str:
        path = self._root / OWNER_FILE
        with translated("mark the folder of the blobs"):
            make_folder(self._root)
            self._temporary.mkdir(mode=0o700, exist_ok=True)
            part = self._temporary / f"{OWNER_FILE}.{secrets.token_hex(8)}"
            try:
                part.write_text(owner + "\n", encoding="utf-8")
                # A link is refused where the name is taken: of several first ones, one is it.
                with contextlib.suppress(FileExistsError):
                    os.link(part, path)
                    fsync_folder(self._root)
            finally:
                part.unlink(missing_ok=True)
            return path.read_text(encoding="utf-8").strip()

    def _link(self, source: Path, digest: str) -> bool:
        """Link a blob; False where the file system does not."""
        path = self._path(digest)
        with translated(f"keep blob {digest}"):
            self._make_folders(path)
            path.unlink(missing_ok=True)
            if not _linked(source, path):
                return False
        self._linked_in.update((path.parent, path.parent.parent, self._root))
        return True

    def _sync(self) -> None:
        with translated("keep the names of blobs"):
            while self._linked_in:
                fsync_folder(self._linked_in.pop())

    def _read_small(self, digest: str, start: int, length: int) -> bytes:
        with translated(f"read blob {digest}"):
            descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, length, start)
            finally:
                os.close(descriptor)

    def _let_go(self, descriptor: int, digest: str) -> None:
        """Give the memory of a picture back that was kept and then read to its end, once.

        Most are never asked for again. Their pages would fill the machine's memory, and each new
        picture would need fresh ones, which cost several times as much as pages used a moment ago.
        Who is read once more stays in the page cache like any file.
        """
        self._unread.pop(digest, None)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _open(self, digest: str) -> int:
        with translated(f"read blob {digest}"):
            return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)

    def _free_bytes(self) -> int:
        return free_bytes_at(self._root)

    def _remove_leftovers(self) -> None:
        # Harmless where they are, so a failure to remove them is no reason not to start.
        with contextlib.suppress(OSError):
            for part in self._temporary.iterdir():
                if time.time() - part.stat().st_mtime > _LEFTOVER_S:
                    part.unlink()


def free_bytes_at(folder: Path) -> int:
    """Return how many bytes this process may write on the file system of a folder, made or not.

    Raises:
        StorageError: it cannot be measured.
    """
    while not folder.exists():
        folder = folder.parent
    with translated("measure free space"):
        status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def stored_digests(root: Path) -> Iterator[Path]:
    """Yield the files of all blobs under a store's folder."""
    for path in root.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
        if _DIGEST.fullmatch(path.name):
            yield path


def _folders(root: Path) -> list[Path]:
    with translated("list the blobs"):
        return sorted(root.glob("[0-9a-f][0-9a-f]"))


def _listed(folder: Path) -> list[StoredBlob]:
    """Return the blobs in one of the 256 folders of the first level."""
    found = []
    with translated("list the blobs"):
        for path in folder.glob("[0-9a-f][0-9a-f]/*"):
            if not _DIGEST.fullmatch(path.name):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                status = path.stat()
                stored_at = round(status.st_mtime * 1000)
                found.append(StoredBlob(path.name, status.st_size, stored_at))
    return found


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name; False where the file system does not."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def _made_durable(descriptor: int) -> None:
    """Write an open file to the disk, for good."""
    # A link shares these bytes with the source's name: no more writing, by anybody.
    os.fchmod(descriptor, 0o400)
    os.fsync(descriptor)


def _copy(source: Path, target: Path) -> None:
    """Copy `source` to the new file `target` and fsync it."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb", buffering=0) as reader, os.fdopen(descriptor, "wb", 0) as writer:
        if not _copy_in_kernel(reader.fileno(), descriptor):
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        os.fsync(descriptor)


def _copy_in_kernel(source: int, target: int) -> bool:
    """Copy all of a file by copy_file_range; False, with nothing copied, where there is none."""
    if not hasattr(os, "copy_file_range"):
        return False
    copied = 0
    while True:
        try:
            count = os.copy_file_range(source, target, 1 << 30)
        except OSError as error:
            if copied or error.errno in _FULL:
                raise
            return False
        if not count:
            return copied > 0 or os.fstat(source).st_size == 0
        copied += count


def _read(descriptor: int, count: int, offset: int) -> bytes:
    with translated("read a blob"):
        return os.pread(descriptor, count, offset)


@contextlib.contextmanager
def translated(task: str) -> Iterator[None]:
    """Turn what the operating system refuses into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Could not {task}: {error.strerror}. {_advice(error)}", code=storage_code(error)
        ) from error


def _advice(error: OSError) -> str:
    if error.errno in _FULL:
        return "Free space on the disk of the data folder, or move the folder to a larger one."
    if error.errno in _NO_ACCESS:
        return "Let the user that runs safelight write to the data folder."
    if error.errno == errno.ENOENT:
        return "The file is not there: somebody removed it, or it was never kept."
    return "See the disk's health and the system's log."
