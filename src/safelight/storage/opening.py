"""Opening the store that an address names: a folder, or a bucket with a cache beside it.

Owns that choice, for the server and for the operator's commands.
"""

from __future__ import annotations

from pathlib import Path

from safelight.storage import BlobStore
from safelight.storage.address import FOLDER, parse
from safelight.storage.bucket import Bucket, Credentials, Patience
from safelight.storage.cache import CacheFolder
from safelight.storage.disk import DiskStore
from safelight.storage.objects import CACHE_BYTES, ObjectStore


def open_at(
    url: str,
    data_dir: Path,
    *,
    cache_bytes: int = CACHE_BYTES,
    patience: Patience | None = None,
    credentials: Credentials | None = None,
) -> BlobStore:
    """Open a store.

    Args:
        url: s3://..., or empty for the data folder.
        data_dir: holds the pictures, or the cache of those that are elsewhere.
        cache_bytes: how many bytes of local copies are kept.
        patience: how long a call to a bucket may take.
        credentials: of a bucket; None: those of the environment.

    Raises:
        ConfigError: it cannot be set up.
    """
    if url == FOLDER:
        return DiskStore(data_dir / "blobs")
    bucket = Bucket(parse(url), credentials=credentials, patience=patience)
    return ObjectStore(bucket, CacheFolder(data_dir / "cache", max_bytes=cache_bytes))
