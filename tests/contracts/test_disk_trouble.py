"""Pictures on a disk that refuses: what callers are told, and that it works again afterwards."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from e2e import in_process
from media import filled, no_file_longer_than, no_more_open_files, protected, small_disk
from safelight.errors import StorageError, storage_code, storage_refusal
from safelight.storage.disk import DiskStore

PICTURE = bytes(range(256)) * 1024


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DiskStore]:
    found = DiskStore(tmp_path / "blobs")
    yield found
    found.close()


async def put_refused(
    store: DiskStore, source: Path, medium: Callable[[], contextlib.AbstractContextManager[None]]
) -> str:
    """Put a picture on a medium that refuses it, and again when it does not; return the code."""
    digest = hashlib.sha256(PICTURE).hexdigest()
    await store.exists(digest)  # its threads have begun
    with medium(), pytest.raises(StorageError) as refused:
        await store.put(source, digest)
    assert not await store.exists(digest)
    await store.put(source, digest)
    assert await store.exists(digest)
    return refused.value.code


async def test_a_blob_on_a_full_disk_is_refused_and_kept_later(tmp_path: Path) -> None:
    source = tmp_path / "picture"
    source.write_bytes(PICTURE)
    with small_disk(tmp_path / "disk", 2) as disk:
        store = DiskStore(disk / "blobs")
        assert await put_refused(store, source, lambda: filled(disk)) == "storage_full"
        store.close()


async def test_a_blob_longer_than_files_may_be_is_a_full_disk(
    store: DiskStore, tmp_path: Path
) -> None:
    source = tmp_path / "picture"
    source.write_bytes(PICTURE)
    bound = len(PICTURE) // 2
    assert await put_refused(store, source, lambda: no_file_longer_than(bound)) == "storage_full"


async def test_a_blob_without_a_free_descriptor_is_refused_and_kept_later(
    store: DiskStore, tmp_path: Path
) -> None:
    source = tmp_path / "picture"
    source.write_bytes(PICTURE)
    assert await put_refused(store, source, no_more_open_files) == "too_many_open_files"


async def test_a_blob_in_a_protected_folder_is_refused_and_kept_later(
    store: DiskStore, tmp_path: Path
) -> None:
    source = tmp_path / "picture"
    source.write_bytes(PICTURE)
    (tmp_path / "blobs").mkdir()
    code = await put_refused(store, source, lambda: protected(tmp_path / "blobs"))
    assert code == "storage_read_only"


@pytest.mark.parametrize(
    ("number", "code", "again"),
    [
        (errno.ENOSPC, "storage_full", False),
        (errno.EDQUOT, "storage_full", False),
        (errno.EFBIG, "storage_full", False),
        (errno.EROFS, "storage_read_only", False),
        (errno.EACCES, "storage_read_only", False),
        (errno.EMFILE, "too_many_open_files", True),
        (errno.ENFILE, "too_many_open_files", True),
        (errno.EIO, "storage_unavailable", True),
    ],
)
def test_each_error_of_a_disk_has_one_answer(number: int, code: str, again: bool) -> None:
    assert storage_code(OSError(number, "")) == code
    refusal = storage_refusal(code)
    assert (refusal.status, refusal.code, refusal.should_retry) == (503, code, again)
    assert (refusal.retry_after_s is not None) == again


ORDER: dict[str, Any] = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}


async def test_an_edit_whose_input_cannot_be_kept_is_refused_and_free(tmp_path: Path) -> None:
    """The folder of uploads, and then that of pictures, becomes read-only; then neither is."""
    data = tmp_path / "data"
    async with in_process.running(data) as gateway:
        first = await gateway.ask("POST", "/v1/images/generations", ORDER)
        sent = base64.b64decode(first.json()["data"][0]["b64_json"])
        uploads = next((data / "uploads").iterdir())
        for number, folder in enumerate((uploads, data / "blobs")):
            # A comment of another length makes another picture, which is not kept yet.
            url = f"data:image/png;base64,{base64.b64encode(commented(sent, number)).decode()}"
            body = {**ORDER, "images": [{"image_url": url}]}
            with protected(folder, *(folder.glob("tmp"))):
                refused = await gateway.ask("POST", "/v1/images/edits", body)
            assert refused.status == 503, refused.body
            assert refused.json()["error"]["code"] == "storage_read_only"
            assert refused.headers["x-should-retry"] == "false"
            balance = await gateway.ask("GET", "/v1/billing/balance")
            assert balance.json()["posted_micros"] == 10_000_000 - 30_000
            assert balance.json()["held_micros"] == 0
        assert (await gateway.ask("POST", "/v1/images/edits", body)).status == 200


async def test_a_picture_that_cannot_be_spooled_is_free(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with in_process.running(data) as gateway:
        spool = next((data / "spool").iterdir())
        with protected(spool):
            refused = await gateway.ask("POST", "/v1/images/generations", ORDER)
        assert refused.status == 503, refused.body
        assert refused.headers["x-should-retry"] == "false"
        balance = await gateway.ask("GET", "/v1/billing/balance")
        assert balance.json()["posted_micros"] == 10_000_000
        assert balance.json()["held_micros"] == 0
        assert (await gateway.ask("POST", "/v1/images/generations", ORDER)).status == 200


def commented(png: bytes, number: int) -> bytes:
    """Return a PNG with a text chunk of our own before its end."""
    body = b"tEXtComment\0" + b"x" * (number + 1)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return png[:-12] + chunk + png[-12:]
