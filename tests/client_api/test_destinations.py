"""Keeping files: in a folder and in a bucket, whole, read back, never the wrong bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from client_api.scripted import PNG
from s3 import KEYS, FaultProxy, S3Server
from safelight.client import DestinationFailed, Misconfigured, destination
from safelight.client.destinations import Destination

DIGEST = hashlib.sha256(PNG).hexdigest()


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """Each kind of destination, empty."""
    if request.param == "folder":
        return destination(tmp_path / "kept")
    server: S3Server = request.getfixturevalue("s3_server")
    return bucket_of(server)


def bucket_of(server: S3Server, **more: str) -> Destination:
    server_url = server.url
    made = server.bucket()
    environ: Mapping[str, str] = {**KEYS, "AWS_ENDPOINT_URL": server_url, **more}
    return destination(f"s3://{made}/team/run", environment=environ)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    return path


async def test_what_is_put_is_there(place: Destination, file: Path) -> None:
    assert not await place.exists("posters/zh.png", DIGEST)
    where = await place.put("posters/zh.png", file, DIGEST)
    assert where.endswith("posters/zh.png")
    assert await place.exists("posters/zh.png", DIGEST)


async def test_other_bytes_under_the_name_are_not_it(place: Destination, file: Path) -> None:
    await place.put("a.png", file, DIGEST)
    assert not await place.exists("a.png", "0" * 64)


async def test_a_file_that_changed_since_is_noticed(place: Destination, file: Path) -> None:
    """The digest is of what was received: another file on disk is not kept under its name."""
    with pytest.raises(DestinationFailed, match="read back as"):
        await place.put("a.png", file, "0" * 64)


async def test_putting_again_replaces(place: Destination, file: Path, tmp_path: Path) -> None:
    await place.put("a.png", file, DIGEST)
    other = tmp_path / "b.png"
    other.write_bytes(PNG + b"more")
    digest = hashlib.sha256(PNG + b"more").hexdigest()
    await place.put("a.png", other, digest)
    assert await place.exists("a.png", digest)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "b/../../a.png", ""])
async def test_a_name_never_leads_outside(place: Destination, file: Path, name: str) -> None:
    with pytest.raises(DestinationFailed, match="no name"):
        await place.put(name, file, DIGEST)


async def test_a_folder_keeps_no_half_file(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with pytest.raises(DestinationFailed):
        await destination(kept).put("a.png", file, "0" * 64)
    assert list(kept.iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file, not a folder")
    with pytest.raises(DestinationFailed, match="kept"):
        await destination(tmp_path / "kept").put("a.png", file, DIGEST)


async def test_a_large_file_goes_up_in_parts(s3_server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(PNG + os.urandom(11 * 1024 * 1024))
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    place = bucket_of(s3_server)
    await place.put("large.png", large, digest)
    assert await place.exists("large.png", digest)


async def test_a_bucket_that_stumbles_is_asked_again(s3_server: S3Server, file: Path) -> None:
    proxy = FaultProxy(s3_server.url, seed=3, errors=0.3, cuts=0.1)
    async with proxy.open():
        place = destination(
            f"s3://{s3_server.bucket()}",
            environment={**KEYS, "AWS_ENDPOINT_URL": proxy.url},
        )
        for number in range(3):
            await place.put(f"{number}.png", file, DIGEST)
    assert proxy.seen["error"] > 0


async def test_a_bucket_that_is_not_there_is_named_at_once(s3_server: S3Server, file: Path) -> None:
    place = destination(
        f"s3://not-there-at-all?endpoint={s3_server.url}&region=eu-west-1", environment=KEYS
    )
    with pytest.raises(DestinationFailed, match="no such bucket"):
        await place.put("a.png", file, DIGEST)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://a/b", "name a folder"),
        ("s3://", "write s3://bucket"),
        ("s3://bucket?colour=red", "write s3://bucket"),
        ("s3://key:secret@bucket/a", "take them out"),
    ],
)
def test_an_address_that_names_no_place_is_refused(url: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        destination(url, environment=KEYS)


def test_missing_credentials_are_named() -> None:
    with pytest.raises(Misconfigured, match="AWS_ACCESS_KEY_ID"):
        destination("s3://bucket/prefix", environment={})


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    assert str(destination(f"file://{tmp_path}")) == str(tmp_path)
