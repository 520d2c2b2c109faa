"""What a folder of blobs leaves in the machine's memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from safelight.storage.disk import DiskStore


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "blobs")
    yield store
    store.close()


def in_memory(path: Path) -> bool:
    """Whether the page cache has the file; the test is skipped where nobody can say."""
    if not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system cannot say what its page cache has")
    with path.open("rb", buffering=0) as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:
            pytest.skip("this file system cannot say what its page cache has")


async def test_a_new_picture_leaves_memory_when_it_was_read_once(
    disk: DiskStore, tmp_path: Path
) -> None:
    """Most are never read again; who is asked for once more stays there."""
    data = os.urandom(200_000)
    source, digest = tmp_path / "source", hashlib.sha256(data).hexdigest()
    source.write_bytes(data)
    with source.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if in_memory(source):
        pytest.skip("this file system is memory itself")
    await disk.put(source, digest, given=True)
    [_ async for _ in disk.read(digest, length=70_000)]  # a part is not all of it
    path = await disk.local_path(digest)
    source.unlink()
    seen = [in_memory(path)]
    for _ in range(2):
        assert b"".join([chunk async for chunk in disk.read(digest)]) == data
        seen.append(in_memory(path))
    assert seen == [True, False, True]
