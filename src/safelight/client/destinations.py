"""Where pictures are kept: a folder, or a bucket of S3 and its compatibles (R2, OSS, MinIO).

Owns writing a file there so that it is whole or not there, and reading it back: nothing counts as
kept before its digest was compared. Which pictures are kept is a run's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from safelight.client.errors import DestinationFailed, Misconfigured
from safelight.client.folders import sync_folder
from safelight.client.pictures import mime_of

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024
_PART_BYTES = 5 * 1024 * 1024
_TRIES, _PAUSE_S = 5, 0.5
_FORM = "s3://bucket/prefix?endpoint=https://host&region=name"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Destination(Protocol):
    """A place that keeps files by name; names may have folders in them (`posters/zh.png`)."""

    async def put(self, name: str, file: Path, sha256: str) -> str:
        """Keep a file, read it back, and return where it lies.

        Raises:
            DestinationFailed: it is not there, or is not the same.
        """

    async def exists(self, name: str, sha256: str) -> bool:
        """Return whether these very bytes lie there under that name.

        Raises:
            DestinationFailed: the place does not say.
        """


def destination(
    url_or_path: str | Path, *, environment: Mapping[str, str] | None = None
) -> Destination:
    """Return the place that an address or a path names.

    Args:
        url_or_path: a folder, or `s3://bucket/prefix`, with `?endpoint=` and `&region=` where the
            store is not Amazon's and AWS_ENDPOINT_URL and AWS_REGION do not say so.
        environment: has the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if there is
            one, AWS_SESSION_TOKEN); None: the process's own.

    Raises:
        Misconfigured: it names no place, or credentials are missing.
    """
    text = str(url_or_path)
    if isinstance(url_or_path, Path) or "://" not in text:
        return Folder(Path(text))
    if text.startswith("file://"):
        return Folder(Path(urlsplit(text).path))
    if not text.startswith("s3://"):
        raise Misconfigured(f"{text!r} is no place to keep files: name a folder, or {_FORM}")
    return Bucket(text, os.environ if environment is None else environment)


def _plain(name: str) -> PurePosixPath:
    """Return a name as a relative path that stays below its place.

    Raises:
        DestinationFailed: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DestinationFailed(f"{name!r} is no name for a file below a folder")
    return path


class Folder:
    """A folder; made with the first file.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    async def put(self, name: str, file: Path, sha256: str) -> str:
        """Copy a file under a temporary name, fsync it, read it back, and rename it.

        Raises:
            DestinationFailed: it is not there, or is not the same.
        """
        target = self._path / _plain(name)
        await asyncio.to_thread(self._copied, target, file, sha256)
        return str(target)

    def _copied(self, target: Path, file: Path, sha256: str) -> None:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
                copy.flush()
                os.fsync(copy.fileno())
            found = _digest(part)
            if found != sha256:
                raise DestinationFailed(
                    f"{target}: read back as {found[:12]}, not as {sha256[:12]}: nothing was kept"
                )
            part.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise DestinationFailed(f"{target}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    async def exists(self, name: str, sha256: str) -> bool:
        """Return whether these very bytes lie there under that name."""
        target = self._path / _plain(name)

        def look() -> bool:
            try:
                return _digest(target) == sha256
            except FileNotFoundError:
                return False
            except OSError as error:
                raise DestinationFailed(f"{target}: {error.strerror or error}") from error

        return await asyncio.to_thread(look)


class Bucket:
    """The objects below an `s3://` address.

    Args:
        url: the address.
        environment: has the credentials, and maybe endpoint and region.

    Raises:
        Misconfigured: the address or the credentials cannot be right.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._bucket, self._prefix, config = _parsed(url, environment)
        self._store = _opened(self._bucket, self._prefix, config)

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    async def put(self, name: str, file: Path, sha256: str) -> str:
        """Upload a file (in parts if it is large) and read it back.

        Raises:
            DestinationFailed: it is not there, or is not the same.
        """
        import obstore  # noqa: PLC0415 - only who writes to a bucket loads it

        key = str(_plain(name))
        mime = mime_of(_first_bytes(file)) or "application/octet-stream"
        large = file.stat().st_size > _PART_BYTES

        async def upload() -> None:
            await obstore.put_async(
                self._store,
                key,
                file,
                attributes={"Content-Type": mime, "Content-Disposition": "inline"},
                use_multipart=large,
                chunk_size=_PART_BYTES,
            )

        await self._patiently(f"write {key}", upload)
        found = await self._digest(key)
        if found != sha256:
            raise DestinationFailed(
                f"{self}/{key}: read back as {(found or 'nothing')[:12]}, not as {sha256[:12]}"
            )
        return f"{self}/{quote(key)}"

    async def exists(self, name: str, sha256: str) -> bool:
        """Return whether these very bytes lie there under that name.

        Raises:
            DestinationFailed: the store does not say.
        """
        return await self._digest(str(_plain(name))) == sha256

    async def _digest(self, key: str) -> str | None:
        """Return the SHA-256 of an object's bytes; None: there is none."""
        import obstore  # noqa: PLC0415 - only who reads from a bucket loads it

        async def read() -> str | None:
            real = hashlib.sha256()
            try:
                answer = await obstore.get_async(self._store, key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise DestinationFailed(f"{self}: there is no such bucket") from error
                return None
            count = 0
            async for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                real.update(chunk)
                count += len(chunk)
            if count != answer.meta["size"]:
                raise ConnectionError("the object was cut short on its way")
            return real.hexdigest()

        return await self._patiently(f"read {key}", read)

    async def _patiently(self, task: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again where that may help; what is written is the same each time."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 - as above

        for number in range(1, _TRIES + 1):
            try:
                return await call()
            except (BaseError, OSError) as error:
                if number == _TRIES or _is_final(error):
                    raise DestinationFailed(
                        f"{self}: could not {task}: {_first_line(error)}{_advice(error)}"
                    ) from error
            await asyncio.sleep(_PAUSE_S * 2 ** (number - 1))
        raise AssertionError("the last try returned or raised")


def _parsed(url: str, environment: Mapping[str, str]) -> tuple[str, str, S3Config]:
    try:
        parts = urlsplit(url)
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError as error:
        raise Misconfigured(f"{url!r} is no address of a bucket: write {_FORM}") from error
    if "@" in parts.netloc:
        raise Misconfigured(
            "the bucket's address has credentials in it: take them out and set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY"
        )
    unknown = sorted(given.keys() - {"endpoint", "region"})
    if unknown or not _BUCKET.fullmatch(parts.netloc):
        raise Misconfigured(f"{url!r} is no address of a bucket: write {_FORM}")
    endpoint = given.get("endpoint") or _first(environment, _ENDPOINTS)
    config: S3Config = {
        "region": given.get("region") or _first(environment, _REGIONS) or "us-east-1",
        "virtual_hosted_style_request": not endpoint,
        "access_key_id": _needed(environment, "AWS_ACCESS_KEY_ID"),
        "secret_access_key": _needed(environment, "AWS_SECRET_ACCESS_KEY"),
    }
    if endpoint:
        config["endpoint"] = endpoint.rstrip("/")
    if environment.get("AWS_SESSION_TOKEN"):
        config["session_token"] = environment["AWS_SESSION_TOKEN"]
    return parts.netloc, parts.path.strip("/"), config


def _opened(bucket: str, prefix: str, config: S3Config) -> S3Store:
    from obstore.exceptions import BaseError  # noqa: PLC0415 - only who names a bucket loads it
    from obstore.store import S3Store  # noqa: PLC0415 - the same

    plain = str(config.get("endpoint", "")).startswith("http://")
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={"allow_http": plain, "timeout": "60s", "connect_timeout": "10s"},
            # Tries are counted here: theirs know nothing of a body that was cut short.
            retry_config={"max_retries": 0},
        )
    except (BaseError, ValueError) as error:
        raise Misconfigured(f"the bucket {bucket} cannot be used: {_first_line(error)}") from error


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise Misconfigured(f"{name} is not set: a bucket needs credentials")
    return value


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _is_final(error: BaseException) -> bool:
    """Whether asking again gives the same answer: a refusal, or a missing bucket."""
    from obstore.exceptions import (  # noqa: PLC0415 - as above
        InvalidPathError,
        PermissionDeniedError,
        UnauthenticatedError,
    )

    lasting = (PermissionDeniedError, UnauthenticatedError, InvalidPathError)
    return isinstance(error, (*lasting, FileNotFoundError))


def _advice(error: BaseException) -> str:
    if "NoSuchBucket" in str(error):
        return ": there is no such bucket"
    if _is_final(error):
        return ": let the credentials read and write there"
    return ""


def _first_line(error: BaseException) -> str:
    """Return what an error says, without its source and without an address's signature."""
    words = str(error).partition("\n")[0].partition("?")[0].strip().rstrip(".")
    return words[:300] or type(error).__name__
