"""The store of the pictures: one blob put, read back, signed for and deleted.

Owns the probe blob, whose bytes are random, so that it is nobody's picture. Beside a running server
that is one more blob for a moment.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from safelight.clock import Clock
from safelight.config import Config
from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.doctor.chain.wire import BadAddress, Origin, Request, ask
from safelight.doctor.machine import offset_check, offset_s
from safelight.errors import ConfigError, StorageError
from safelight.storage import BlobStore, address
from safelight.storage.bucket import Patience
from safelight.storage.opening import open_at

GROUP = "storage"
SLOW_S = 3.0
_PROBE_BYTES = 64 * 1024
_PATIENCE = Patience(request_s=10.0, connect_s=5.0, total_s=15.0)
_PRESIGN_S = 60


async def check(
    config: Config, data: Path, environ: Mapping[str, str], clock: Clock
) -> AsyncIterator[Check]:
    """Yield what is to be said of the store of a data folder."""
    try:
        url = address.of_folder(data, address.chosen(environ, config.storage.url))
    except ConfigError as error:
        yield failed(GROUP, "address", str(error), f"Mend {address.VARIABLE} or [storage] url.")
        return
    if url == address.FOLDER and not data.is_dir():
        yield unchecked(GROUP, "store", "the pictures' folder is not there yet")
        return
    try:
        store = open_at(url, data, patience=_PATIENCE)
    except ConfigError as error:
        yield failed(GROUP, "store", str(error), "See docs/storage.md.")
        return
    try:
        async for one in _round_trip(store, data, address.in_words(url)):
            yield one
    finally:
        store.close()
    if url != address.FOLDER:
        skew = await _skew(url, clock)
        if skew is not None:
            yield skew


async def _round_trip(store: BlobStore, data: Path, where: str) -> AsyncIterator[Check]:
    content = os.urandom(_PROBE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    step = "kept"
    try:
        with tempfile.NamedTemporaryFile(dir=data if data.is_dir() else None) as source:
            source.write(content)
            source.flush()
            began = time.perf_counter()
            await store.put(Path(source.name), digest)
            put_s = time.perf_counter() - began
        step = "read back"
        whole = b"".join([bytes(chunk) async for chunk in store.read(digest)])
        if whole != content:
            said = f"{where}: other bytes came back than were kept"
            yield failed(GROUP, "round trip", said, "Look at the disk, or at what is in between.")
            return
        step = "signed for"
        signed = await store.presigned(digest, seconds=_PRESIGN_S)
        step = "deleted"
        await store.delete(digest)
    except (StorageError, OSError) as error:
        advice = "Look at the credentials and rights: put, get, list and delete are needed."
        yield failed(GROUP, "round trip", f"{where}: a blob cannot be {step}: {error}", advice)
        return
    said = f"{where}: a blob was kept, read back and deleted ({put_s * 1000:.0f} ms to keep)"
    facts = {"put_ms": round(put_s * 1000, 1)}
    if put_s > SLOW_S:
        advice = "Every picture waits for that: choose a nearer store."
        yield warning(GROUP, "round trip", said, advice, **facts)
    else:
        yield ok(GROUP, "round trip", said, **facts)
    if signed:
        yield ok(GROUP, "signed addresses", "it signs addresses (serve = redirect may be used)")


async def _skew(url: str, clock: Clock) -> Check | None:
    """Compare clocks with the bucket's API, which refuses signatures of another time."""
    try:
        origin = Origin.parse(address.parse(url).origin)
    except (BadAddress, ConfigError):
        return None
    answer = await ask(origin, Request(path="/"), timeout_s=10)
    ahead_s = offset_s(answer.headers, clock.now_ms())
    if ahead_s is None:
        return None
    return offset_check(GROUP, "the object store", ahead_s)
