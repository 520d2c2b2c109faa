"""One bucket of S3 or a compatible, through obstore: patient calls, and our own errors.

Owns what a call to the object store may cost in time, how often it is made again, and what its
errors mean. Knows keys and bytes, nothing of digests; `objects.py` makes a blob store of it.

Every request has a timeout, so a stall is cut; a call is made again with growing pauses until its
patience is over. That is safe for all of them: what is written under a key is always the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import S3Store

from safelight.errors import ConfigError, StorageError
from safelight.storage import CHUNK_BYTES
from safelight.storage.address import BucketAddress
from safelight.types import Secret

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import S3Config

T = TypeVar("T")

WINDOW_BYTES = 3 * CHUNK_BYTES
"""What one request reads: a reader holds so much in memory."""
PART_BYTES = 5 * 1024 * 1024
"""A file that is larger is sent in parts of this size (the least that S3 takes)."""
PARTS_AT_ONCE = 3
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.1, 3.0
_LASTING = (
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
    InvalidPathError,
)
"""Answers that stay the same however often one asks."""

_REFUSED = re.compile(r"status code: 4(?!00|08|09|29)\d\d")
"""Refusals by status; 400 is also how a body is answered that came too slowly (RequestTimeout)."""


@dataclass(frozen=True)
class Patience:
    """How long a call may take, seconds: one request, its connection, all tries together."""

    request_s: float = 20.0
    connect_s: float = 5.0
    total_s: float = 60.0


@dataclass(frozen=True)
class Credentials:
    """Who asks; of the environment's standard variables where there are none."""

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret | None = None


@dataclass(frozen=True)
class StoredObject:
    """An object as it is listed; `changed_at` in milliseconds since 1970."""

    key: str
    bytes: int
    changed_at: int


class Bucket:
    """The objects below an address.

    Args:
        address: bucket, folder, endpoint.
        credentials: None: those of the environment (AWS_ACCESS_KEY_ID and the like).
        patience: how long a call may take.

    Raises:
        ConfigError: the store cannot be set up so.
    """

    def __init__(
        self,
        address: BucketAddress,
        *,
        credentials: Credentials | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.address = address
        self._patience = patience or Patience()
        try:
            self._store = S3Store(
                address.bucket,
                prefix=address.prefix or None,
                config=_config(address, credentials),
                client_options={
                    "allow_http": address.endpoint.startswith("http://"),
                    "timeout": timedelta(seconds=self._patience.request_s),
                    "connect_timeout": timedelta(seconds=self._patience.connect_s),
                },
                # The tries are counted here: theirs know nothing of a body that was cut short.
                retry_config={"max_retries": 0},
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(
                f"the bucket {address} cannot be used: {_first_line(error)}"
            ) from error

    def __repr__(self) -> str:
        return f"Bucket({str(self.address)!r})"

    async def size_of(self, key: str) -> int | None:
        """Return how many bytes an object has; None: there is none.

        Raises:
            StorageError: the store does not say.
        """
        try:
            meta = await self._patiently(
                f"look for {key}", lambda: obstore.head_async(self._store, key)
            )
        except FileNotFoundError:
            return None
        return meta["size"]

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Return the bytes of an object from `start`, at most `length`; none behind its end.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: it cannot be read.
        """

        async def get() -> bytes:
            answer = await obstore.get_async(
                self._store, key, options={"range": (start, start + length)}
            )
            data = bytes(await answer.bytes_async())
            first, last = answer.range
            if len(data) != last - first:
                raise ConnectionError("the body was cut short")
            return data

        try:
            return await self._patiently(f"read {key}", get, enough=_beyond_the_end)
        except _BeyondTheEnd:
            return b""

    async def digest_of(self, key: str) -> str | None:
        """Return the SHA-256 of an object's bytes, read as any reader does; None: there is none.

        Raises:
            StorageError: it cannot be read.
        """
        real, start = hashlib.sha256(), 0
        while True:
            try:
                data = await self.read(key, start, WINDOW_BYTES)
            except FileNotFoundError:
                return None
            await asyncio.to_thread(real.update, data)
            start += len(data)
            if len(data) < WINDOW_BYTES:
                return real.hexdigest()

    async def upload(self, key: str, source: Path, *, media_type: str, create: bool) -> None:
        """Write a file as an object, in parts if it is large.

        Args:
            key: the object's name.
            source: the file.
            media_type: what the store shall call it when it hands it out.
            create: leave alone what is there already (RFC 9110, section 13.1.2). Stores that do
                not know the condition, and uploads in parts, write the same bytes once more.

        Raises:
            StorageError: it cannot be written.
        """
        attributes: Attributes = {"Content-Type": media_type, "Content-Disposition": "inline"}
        small = source.stat().st_size <= PART_BYTES

        async def put() -> None:
            if create and small:
                try:
                    await obstore.put_async(
                        self._store, key, source, attributes=attributes, mode="create"
                    )
                except (AlreadyExistsError, PreconditionError):
                    return
                except (NotSupportedError, BaseError) as error:
                    if not _unknown_condition(error):
                        raise
                else:
                    return
            await obstore.put_async(
                self._store,
                key,
                source,
                attributes=attributes,
                use_multipart=not small,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

        await self._patiently(f"keep {key}", put)

    async def create(self, key: str, data: bytes) -> None:
        """Write a small object unless there is one of that name.

        Raises:
            StorageError: it cannot be written.
        """

        async def put() -> None:
            try:
                await obstore.put_async(self._store, key, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return
            except BaseError as error:
                if not _unknown_condition(error):
                    raise
                if await self.size_of(key) is None:
                    await obstore.put_async(self._store, key, data)

        await self._patiently(f"keep {key}", put)

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none.

        Raises:
            StorageError: it is not known whether it is gone.
        """
        try:
            await self._patiently(f"remove {key}", lambda: obstore.delete_async(self._store, key))
        except FileNotFoundError:
            return

    async def objects(self) -> AsyncIterator[StoredObject]:
        """Yield every object, a page at a time.

        Raises:
            StorageError: the store does not say.
        """
        after: str | None = None
        while True:
            page = await self._patiently("list", partial(self._page, after))
            for one in page:
                yield one
            if not page:
                return
            after = page[-1].key

    async def _page(self, after: str | None) -> list[StoredObject]:
        """Return the objects behind a key, as many as one answer of the store has."""
        # A listing of its own for each page: one that broke off can be taken up again.
        found = obstore.list(self._store, offset=after)
        async for page in found:
            return [
                StoredObject(one["path"], one["size"], _milliseconds(one["last_modified"]))
                for one in page
            ]
        return []

    async def presigned(self, key: str, *, seconds: int) -> str:
        """Return an address that gives the object by GET for so long.

        Raises:
            StorageError: there are no credentials to sign with.
        """
        return await self._patiently(
            f"sign {key}",
            lambda: obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds)),
        )

    def url_of(self, key: str) -> str:
        """Return the object's address, without a signature."""
        folder = f"{self.address.prefix}/" if self.address.prefix else ""
        return f"{self.address.origin}/{quote(folder + key)}"

    async def _patiently(
        self,
        task: str,
        call: Callable[[], Awaitable[T]],
        *,
        enough: Callable[[BaseException], BaseException | None] = lambda _: None,
    ) -> T:
        """Make a call until it is answered.

        Args:
            task: what it does, for the message.
            call: makes it once.
            enough: says of an error as what it ends the tries; None: try again.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience.total_s
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await call()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise self._lasting(task, error) from error
                raise
            except _LASTING as error:
                raise self._lasting(task, error) from error
            except (BaseError, OSError, TimeoutError) as error:
                ending = enough(error)
                if ending is not None:
                    raise ending from error
                left_s = until - loop.time()
                if left_s <= pause_s or _REFUSED.search(str(error)):
                    raise StorageError(
                        f"Could not {task} in {self.address.bucket}: {_first_line(error)}. See the "
                        "object store's health and the way to it."
                    ) from error
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load)
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)

    def _lasting(self, task: str, error: BaseException) -> StorageError:
        if "NoSuchBucket" in str(error):
            advice = "There is no such bucket; make it, or name another."
        else:
            advice = "Let the credentials in the environment read, write, list and delete there."
        return StorageError(
            f"Could not {task} in {self.address.bucket}: {_first_line(error)}. {advice}",
            code="storage_read_only",
        )


class _BeyondTheEnd(Exception):
    """The range begins behind the object's last byte."""


def _beyond_the_end(error: BaseException) -> BaseException | None:
    return _BeyondTheEnd() if "416 Range Not Satisfiable" in str(error) else None


def _unknown_condition(error: BaseException) -> bool:
    """Return whether a store does not know `If-None-Match` on a PUT (RFC 9110, 13.1.2)."""
    return isinstance(error, NotSupportedError) or "501 Not Implemented" in str(error)


def _first_line(error: BaseException) -> str:
    """Return what an error says, without its source and without an address's signature."""
    words = str(error).partition("\n")[0].partition("?")[0].strip().rstrip(".")
    return words[:300] or type(error).__name__


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _config(address: BucketAddress, credentials: Credentials | None) -> S3Config:
    config: S3Config = {
        "region": address.region,
        "virtual_hosted_style_request": address.virtual,
        # What the environment may say of other things must not lead elsewhere.
        "skip_signature": False,
    }
    if address.endpoint:
        # With the bucket in the host, the library wants it written there.
        config["endpoint"] = address.origin if address.virtual else address.endpoint
    elif "AWS_ENDPOINT_URL" in os.environ or "AWS_ENDPOINT" in os.environ:
        config["endpoint"] = f"https://s3.{address.region}.amazonaws.com"
        if address.virtual:
            config["endpoint"] = address.origin
    if credentials is not None:
        config["access_key_id"] = credentials.access_key_id
        config["secret_access_key"] = credentials.secret_access_key.reveal()
        token = credentials.session_token
        if token is not None:
            config["session_token"] = token.reveal()
    return config
