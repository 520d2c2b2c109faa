"""What every blob store does, and what the one on disk does besides."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3 import FaultProxy, S3Server, open_objects
from safelight.errors import StorageError
from safelight.storage import BlobStore
from safelight.storage.disk import DiskStore, translated
from safelight.windows import digest_of

MOST = 384 * 1024
LENGTHS = [0, 1, 2, 3, 1000, MOST - 1, MOST, MOST + 1, 3 * MOST, 2_000_003]


@pytest.fixture(params=["disk", "s3", pytest.param("s3-faults", marks=pytest.mark.campaign)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    """Give each implementation in turn; a new one is a line here."""
    if request.param == "disk":
        disk = DiskStore(tmp_path / "blobs")
        yield disk
        disk.close()
        return
    server: S3Server = request.getfixturevalue("s3_server")
    if request.param == "s3":
        yield open_objects(server.url_of(server.bucket(), "in/a/folder"), tmp_path)
        return
    proxy = FaultProxy(server.url, seed=5, errors=0.15, lost=0.05, stalls=0.05, cuts=0.05)
    async with proxy.open():
        yield open_objects(server.url_of(server.bucket(), endpoint=proxy.url), tmp_path)


def content(length: int, seed: int = 0) -> bytes:
    block = hashlib.sha256(str(seed).encode()).digest()
    return (block * (length // 32 + 1))[:length]


def spooled(folder: Path, data: bytes, name: str = "source") -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


async def whole(store: BlobStore, digest: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start=start, length=length)])


# --- every store ------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
async def test_what_was_put_is_read(store: BlobStore, tmp_path: Path, length: int) -> None:
    """Chunks are at most 384 KiB, and all but the last can be encoded as base64 by themselves."""
    data = content(length)
    source, digest = spooled(tmp_path, data)
    await store.put(source, digest)
    chunks = [chunk async for chunk in store.read(digest)]
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= MOST for chunk in chunks)
    assert all(len(chunk) % 3 == 0 for chunk in chunks[:-1])
    assert await store.exists(digest)
    assert (await store.local_path(digest)).read_bytes() == data


async def test_a_part_can_be_read(store: BlobStore, tmp_path: Path) -> None:
    """Ranges are cut exactly; beyond the end there is nothing."""
    data = content(2 * MOST + 100)
    source, digest = spooled(tmp_path, data)
    await store.put(source, digest)
    for start in (0, 1, MOST - 1, MOST, len(data) - 1, len(data), len(data) + 5):
        for length in (0, 1, 100, MOST, MOST + 1, len(data), None):
            end = None if length is None else start + length
            assert await whole(store, digest, start, length) == data[start:end]


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
async def test_a_negative_range_is_a_mistake(
    store: BlobStore, tmp_path: Path, start: int, length: int | None
) -> None:
    source, digest = spooled(tmp_path, b"abc")
    await store.put(source, digest)
    with pytest.raises(ValueError, match="no range"):
        await whole(store, digest, start, length)


async def test_a_reader_may_stop_early(store: BlobStore, tmp_path: Path) -> None:
    source, digest = spooled(tmp_path, content(3 * MOST))
    await store.put(source, digest)
    reader = store.read(digest)
    assert len(await anext(reader)) == MOST
    await reader.aclose()  # type: ignore[attr-defined]


async def test_the_source_stays_and_is_independent(store: BlobStore, tmp_path: Path) -> None:
    """What happens to the source afterwards does not reach the blob."""
    data = content(5000)
    source, digest = spooled(tmp_path, data)
    await store.put(source, digest)
    assert source.read_bytes() == data
    with source.open("r+b") as file:
        file.write(b"overwritten in place")
    source.unlink()
    assert await whole(store, digest) == data


async def test_a_source_that_was_given_away_may_be_removed(
    store: BlobStore, tmp_path: Path
) -> None:
    """It may have become the blob itself: nobody writes to it, its owner only removes it."""
    data = content(5000)
    source, digest = spooled(tmp_path, data)
    await store.put(source, digest, given=True)
    source.unlink()
    assert await whole(store, digest) == data
    source, _ = spooled(tmp_path, data)
    await store.put(source, digest, given=True)
    assert await whole(store, digest) == data


@pytest.mark.parametrize("given", [False, True])
async def test_what_the_proof_refuses_is_not_kept(
    store: BlobStore, tmp_path: Path, *, given: bool
) -> None:
    source, digest = spooled(tmp_path, content(5000))

    def refuse(descriptor: int) -> bool:
        raise ZeroDivisionError(digest_of(descriptor))

    with pytest.raises(ZeroDivisionError, match=digest):
        await store.put(source, digest, given=given, proof=refuse)
    assert not await store.exists(digest)
    await store.put(source, digest, given=given, proof=lambda opened: digest_of(opened) == digest)
    assert await store.exists(digest)


async def test_where_the_proof_does_not_see_every_byte_the_digest_is_compared(
    store: BlobStore, tmp_path: Path
) -> None:
    source, _ = spooled(tmp_path, content(5000))
    with pytest.raises(StorageError, match="read back as"):
        await store.put(source, "0" * 64, given=True, proof=lambda _: False)
    assert not await store.exists("0" * 64)


async def test_putting_again_changes_nothing(store: BlobStore, tmp_path: Path) -> None:
    source, digest = spooled(tmp_path, content(5000))
    for _ in range(3):
        await store.put(source, digest)
    assert await whole(store, digest) == content(5000)


async def test_bytes_of_another_digest_are_refused(store: BlobStore, tmp_path: Path) -> None:
    """Nothing is kept under a name that its bytes do not have."""
    source, _ = spooled(tmp_path, b"one thing")
    digest = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(StorageError, match="read back as"):
        await store.put(source, digest)
    assert not await store.exists(digest)


async def test_a_missing_source_is_an_error(store: BlobStore, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    with pytest.raises(StorageError):
        await store.put(tmp_path / "nothing", digest)
    assert not await store.exists(digest)


async def test_a_missing_blob_is_an_error(store: BlobStore) -> None:
    digest = hashlib.sha256(b"never put").hexdigest()
    assert not await store.exists(digest)
    with pytest.raises(StorageError):
        await store.local_path(digest)
    with pytest.raises(StorageError):
        await whole(store, digest)


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "ab",
        "../" * 20 + "etc/passwd",
        "A" * 64,
        "g" * 64,
        "a" * 63,
        "a" * 65,
        "a" * 64 + "\n",
        "/" * 64,
    ],
)
async def test_what_is_no_digest_is_refused(store: BlobStore, tmp_path: Path, digest: str) -> None:
    """No name from outside reaches the store's folders."""
    source, _ = spooled(tmp_path, b"x")
    with pytest.raises(StorageError, match="is no digest"):
        await store.put(source, digest)
    with pytest.raises(StorageError, match="is no digest"):
        await whole(store, digest)
    with pytest.raises(StorageError, match="is no digest"):
        await store.local_path(digest)
    with pytest.raises(StorageError, match="is no digest"):
        await store.exists(digest)


async def test_the_same_blob_may_be_put_many_times_at_once(
    store: BlobStore, tmp_path: Path
) -> None:
    data = content(300_000)
    source, digest = spooled(tmp_path, data)
    await asyncio.gather(*(store.put(source, digest) for _ in range(16)))
    assert await whole(store, digest) == data


async def test_many_blobs_may_be_put_and_read_at_once(store: BlobStore, tmp_path: Path) -> None:
    async def round_trip(number: int) -> None:
        data = content(100_000 + number, number)
        source, digest = spooled(tmp_path, data, f"source-{number}")
        await store.put(source, digest)
        assert await whole(store, digest) == data

    await asyncio.gather(*(round_trip(number) for number in range(32)))


async def test_what_is_deleted_is_gone_and_can_be_kept_again(
    store: BlobStore, tmp_path: Path
) -> None:
    """A local copy does not outlive the blob; to delete what is not there is no mistake."""
    source, digest = spooled(tmp_path, content(5000))
    await store.delete(digest)
    await store.put(source, digest)
    await store.local_path(digest)
    await store.delete(digest)
    assert not await store.exists(digest)
    with pytest.raises(StorageError):
        await store.local_path(digest)
    await store.put(source, digest)
    assert await whole(store, digest) == content(5000)


async def test_every_blob_is_listed_with_its_size(store: BlobStore, tmp_path: Path) -> None:
    assert [one async for one in store.stored()] == []
    kept = {}
    for number in range(5):
        source, digest = spooled(tmp_path, content(100 + number, number))
        await store.put(source, digest)
        kept[digest] = 100 + number
    await store.claim("somebody")
    listed = [one async for one in store.stored()]
    assert {one.digest: one.bytes for one in listed} == kept
    assert len(listed) == len(kept)
    assert all(one.stored_at > 1_600_000_000_000 for one in listed)


async def test_a_store_belongs_to_the_first_who_claims_it(store: BlobStore) -> None:
    claims = await asyncio.gather(*(store.claim(f"installation-{n}") for n in range(4)))
    assert len(set(claims)) == 1
    assert await store.claim("a later one") == claims[0]


async def test_free_space_is_told(store: BlobStore) -> None:
    assert await store.free_bytes() > 0


# --- on disk ----------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "blobs"


@pytest.fixture
def disk(root: Path) -> Iterator[DiskStore]:
    store = DiskStore(root)
    yield store
    store.close()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_blobs_lie_under_their_digest_for_their_owner(
    disk: DiskStore, root: Path, tmp_path: Path
) -> None:
    source, digest = spooled(tmp_path, b"picture")
    await disk.put(source, digest)
    path = root / digest[:2] / digest[2:4] / digest
    assert files(root) == [path]
    assert await disk.local_path(digest) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.stat().st_nlink == 1


async def test_a_refused_put_leaves_no_file(disk: DiskStore, root: Path, tmp_path: Path) -> None:
    source, _ = spooled(tmp_path, b"picture")
    with pytest.raises(StorageError):
        await disk.put(source, "0" * 64)
    assert files(root) == []


async def test_leftovers_of_a_crash_are_harmless_and_go_after_a_day(
    root: Path, tmp_path: Path
) -> None:
    """A half-written file of a dead process is no blob; a young one may still be in use."""
    source, digest = spooled(tmp_path, b"picture")
    (root / "tmp").mkdir(parents=True)
    old, young = root / "tmp" / f"{digest[:16]}.aa", root / "tmp" / f"{digest[:16]}.bb"
    for part in (old, young):
        part.write_bytes(b"pict")
    day_ago = old.stat().st_mtime - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    store = DiskStore(root)
    assert not await store.exists(digest)
    await store.put(source, digest)
    assert await whole(store, digest) == b"picture"
    assert sorted(files(root / "tmp")) == [young]
    store.close()


async def test_a_blob_that_the_disk_has_damaged_is_replaced(
    disk: DiskStore, tmp_path: Path
) -> None:
    source, digest = spooled(tmp_path, b"picture")
    await disk.put(source, digest)
    path = await disk.local_path(digest)
    for damaged in (b"pic", b"PICTURE"):  # cut short, and of the right length
        path.write_bytes(damaged)
        await disk.put(source, digest)
        assert path.read_bytes() == b"picture"


async def test_a_source_that_was_given_away_is_the_blob(
    disk: DiskStore, root: Path, tmp_path: Path
) -> None:
    """The picture is written once: the blob is another name of its file, and read-only."""
    source, digest = spooled(tmp_path, b"picture")
    await disk.put(source, digest, given=True)
    path = root / digest[:2] / digest[2:4] / digest
    assert path.samefile(source)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert files(root) == [path]


async def test_a_damaged_blob_is_replaced_by_a_source_that_is_given_away(
    disk: DiskStore, tmp_path: Path
) -> None:
    source, digest = spooled(tmp_path, b"picture")
    await disk.put(source, digest)
    path = await disk.local_path(digest)
    path.write_bytes(b"PICTURE")
    await disk.put(source, digest, given=True)
    assert path.read_bytes() == b"picture"
    assert path.samefile(source)


async def test_two_stores_may_share_a_folder(root: Path, tmp_path: Path) -> None:
    """Several processes on one machine use one folder."""
    source, digest = spooled(tmp_path, content(100_000))
    stores = [DiskStore(root) for _ in range(4)]
    await asyncio.gather(*(store.put(source, digest) for store in stores * 3))
    for store in stores:
        assert await whole(store, digest) == content(100_000)
        store.close()
    assert len(files(root)) == 1


async def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file" / "blobs")
    source, digest = spooled(tmp_path, b"picture")
    with pytest.raises(StorageError, match="Could not keep blob"):
        await store.put(source, digest)
    assert not await store.exists(digest)
    assert await store.free_bytes() > 0
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_access_says_so(disk: DiskStore, root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o500)
    source, digest = spooled(tmp_path, b"picture")
    with pytest.raises(StorageError, match="Let the user that runs safelight write"):
        await disk.put(source, digest)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_fails_half_way_leaves_nothing(
    disk: DiskStore, root: Path, tmp_path: Path
) -> None:
    """The put fails as a StorageError, no file stays, and the next put works without a restart."""
    source, digest = spooled(tmp_path, content(300_000))
    with largest_file(100_000), pytest.raises(StorageError, match=os.strerror(errno.EFBIG)):
        await disk.put(source, digest)
    assert files(root) == []
    await disk.put(source, digest)
    assert await whole(disk, digest) == content(300_000)


async def test_the_event_loop_runs_on_while_the_disk_is_slow(
    disk: DiskStore, tmp_path: Path
) -> None:
    """A put that waits (here: for the other end of a pipe) holds up neither loop nor other puts."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = b"late"
    digest = hashlib.sha256(data).hexdigest()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    slow = asyncio.create_task(disk.put(pipe, digest))
    source, quick = spooled(tmp_path, b"quick")
    try:
        await disk.put(source, quick)
        assert not slow.done()
    finally:
        writer.start()
        await slow
        writer.join()
    assert await whole(disk, digest) == data


KEEPER = """
import asyncio, hashlib, pathlib, sys
from safelight.storage.disk import DiskStore

async def main(folder):
    store = DiskStore(folder / "blobs")
    for number in range(100_000):
        data = hashlib.sha256(str(number).encode()).digest() * 5_000
        source = folder / f"source-{number % 4}"
        source.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        await store.put(source, digest)
        print(digest, flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


def promises_until_killed(folder: Path) -> list[str]:
    """Keep blobs in a process of its own, kill it, and return the digests it had promised."""
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdout is not None
    with keeper, keeper.stdout as lines:
        promised = [next(lines).strip() for _ in range(12)]
        keeper.kill()
        return promised + [line.strip() for line in lines if line.endswith("\n")]


async def test_every_promised_blob_survives_a_kill(tmp_path: Path) -> None:
    """After kill -9 what was promised is there, and every file under a digest is whole."""
    promised = promises_until_killed(tmp_path)
    store = DiskStore(tmp_path / "blobs")
    for digest in promised:
        assert hashlib.sha256(await whole(store, digest)).hexdigest() == digest
    for path in files(tmp_path / "blobs"):
        if path.parent.name != "tmp":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    store.close()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EDQUOT, "Free space"),
        (errno.EROFS, "Let the user"),
        (errno.EIO, "disk's health"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(code: int, advice: str) -> None:
    with pytest.raises(StorageError, match=advice), translated("keep a blob"):
        raise OSError(code, os.strerror(code))
