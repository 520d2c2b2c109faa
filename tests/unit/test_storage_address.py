"""Addresses of buckets, and how a data folder remembers where its pictures are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.storage import address
from safelight.storage.cache import IN_USE_S, OLD_S, CacheFolder

MINIO = "s3://pictures/a/b?endpoint=http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("url", "spelled", "origin"),
    [
        ("s3://pictures", "s3://pictures?region=us-east-1",
         "https://pictures.s3.us-east-1.amazonaws.com"),
        (" s3://pictures/a/?region=eu-west-1 ", "s3://pictures/a?region=eu-west-1",
         "https://pictures.s3.eu-west-1.amazonaws.com"),
        (MINIO + "/", MINIO + "&region=us-east-1", "http://127.0.0.1:9000/pictures"),
        ("s3://p-1?style=virtual&region=oss-cn&endpoint=https://oss-cn.aliyuncs.com",
         "s3://p-1?endpoint=https://oss-cn.aliyuncs.com&region=oss-cn&style=virtual",
         "https://p-1.oss-cn.aliyuncs.com"),
        ("s3://pictures?endpoint=http://minio:9000&http=allow",
         "s3://pictures?endpoint=http://minio:9000&region=us-east-1&http=allow",
         "http://minio:9000/pictures"),
    ],
)  # fmt: skip
def test_an_address_has_one_spelling(url: str, spelled: str, origin: str) -> None:
    """Which reads as itself, and says where the objects lie."""
    found = address.parse(url)
    assert str(found) == spelled
    assert address.parse(spelled) == found
    assert found.origin == origin


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no address"),
        ("https://host/bucket", "no address"),
        ("s3://", "names no bucket"),
        ("s3://UPPER", "names no bucket"),
        ("s3://AKIA:hunter2@pictures", "credentials"),
        ("s3://pictures?secret=hunter2", "not known"),
        ("s3://pictures?endpoint=http://host:9000", "in clear"),
        ("s3://pictures?endpoint=ftp://host", "an origin"),
        ("s3://pictures?endpoint=https://host/path", "an origin"),
        ("s3://pictures?endpoint=https://u:hunter2@host", "an origin"),
        ("s3://pictures?endpoint=https://host:x", "an origin"),
        ("s3://pictures?style=odd", "style"),
        ("s3://pictures?region=a%20b", "region"),
        ("s3://pictures/a/../b", "plain path"),
        ("s3://pictures/a b", "plain path"),
        ("s3://pictures?region", "cannot be read"),
        ("s3://[", "cannot be read"),
    ],
)
def test_a_wrong_address_is_refused_and_never_repeated(url: str, says: str) -> None:
    """Who gets it wrong may have written a credential into it."""
    with pytest.raises(ConfigError, match=says) as caught:
        address.parse(url)
    assert "hunter2" not in str(caught.value)


def test_the_environment_goes_before_the_configuration() -> None:
    assert address.chosen({}) is None
    assert address.chosen({}, "s3://from-file") == "s3://from-file?region=us-east-1"
    both = address.chosen({address.VARIABLE: MINIO}, "s3://from-file")
    assert both == MINIO + "&region=us-east-1"
    assert address.chosen({address.VARIABLE: "file:"}, "s3://from-file") == address.FOLDER
    with pytest.raises(ConfigError, match=r"\[storage\] url"):
        address.chosen({}, "nonsense")


def test_a_folder_remembers_its_store(tmp_path: Path) -> None:
    """Where nothing is said the remembered one counts; another one is refused in clear words."""
    here, there = address.FOLDER, "s3://there?region=us-east-1"
    assert address.of_folder(tmp_path, None) == here
    assert address.of_folder(tmp_path, there) == there
    address.note(tmp_path, there)
    address.note(tmp_path, there)
    assert address.of_folder(tmp_path, None) == there
    for other in (here, "s3://elsewhere?region=us-east-1"):
        with pytest.raises(ConfigError, match="storage move"):
            address.of_folder(tmp_path, other)
    address.note(tmp_path, here)
    assert address.of_folder(tmp_path, None) == here


def test_a_folder_that_has_pictures_is_not_given_another_store(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "ab").mkdir(parents=True)
    with pytest.raises(ConfigError, match="are in the data folder"):
        address.of_folder(tmp_path, "s3://there?region=us-east-1")
    assert address.of_folder(tmp_path, address.FOLDER) == address.FOLDER


def test_the_cache_keeps_what_is_in_use_and_lets_go_of_the_rest(tmp_path: Path) -> None:
    """What is old goes; of the rest the least used, until it fits; never what was asked for now."""
    cache = CacheFolder(tmp_path / "cache", max_bytes=2500)
    cache.sweep()
    cache.root.mkdir()
    for name, idle_s in (("old", OLD_S + 60), ("idle", IN_USE_S + 60), ("used", 60), ("new", 0)):
        path = cache.root / name
        path.write_bytes(bytes(1000))
        at = path.stat().st_mtime - idle_s
        os.utime(path, (at, at))
    cache.sweep()
    assert sorted(path.name for path in cache.root.iterdir()) == ["new", "used"]
    tight = CacheFolder(cache.root, max_bytes=0)
    tight.sweep()
    assert tight.find("used") is not None
    assert tight.find("old") is None
