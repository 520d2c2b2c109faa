"""/v1/files: what customers upload, and what batches leave for them (OpenAI Files API).

Owns the shapes and the reading of an upload, which goes to disk as it arrives. Quotas, lifetimes
and whose file it is are the gateway's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from safelight.api.body import media_type, read_chunks
from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.multipart import FilePart, Form, FormReader, SpoolFolder, boundary_of
from safelight.config_batches import KEEP_MAX_S, KEEP_MIN_S
from safelight.errors import (
    InvalidRequest,
    InvalidValue,
    MissingParameter,
    UnknownParameter,
    UnsupportedMediaType,
    storage_code,
    storage_refusal,
)
from safelight.files import FileRow

Purpose = Literal["batch", "user_data", "vision"]
PURPOSES = ("batch", "user_data", "vision")
_LIMIT = 10_000
_NAME_MAX = 255
_FORM_BYTES = 64 * 1024
"""What a form may have around its file."""
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_QUERY = ("purpose", "order", "after", "limit")


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A file; times in unix seconds."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str = "processed"
    status_details: str | None = None


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/files; `after` takes the last id to go on."""

    object: str = "list"
    data: tuple[FileView, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """DELETE /v1/files/{id}."""

    id: str
    object: str = "file"
    deleted: bool = True


class ExpiresAfter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a file ends: seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: int


class FileForm(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/files, a form; for the contract only, for it is read as it arrives.

    `expires_after` comes in two fields, both or none.
    """

    file: Annotated[str, msgspec.Meta(extra_json_schema={"format": "binary"})]
    purpose: Purpose
    anchor: Literal["created_at"] = msgspec.field(
        name="expires_after[anchor]", default="created_at"
    )
    seconds: Annotated[int, msgspec.Meta(ge=KEEP_MIN_S, le=KEEP_MAX_S)] = msgspec.field(
        name="expires_after[seconds]", default=KEEP_MAX_S
    )


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/files."""
    identity = await authenticate(exchange)
    content_type = exchange.header("content-type") or ""
    if media_type(content_type) != "multipart/form-data":
        raise UnsupportedMediaType("Send the file as multipart/form-data, in the field 'file'.")
    with SpoolFolder(exchange.services.spool_dir) as spool:
        form = await _read_form(exchange, content_type, spool)
        part = _file_of(form)
        purpose, keep_s = _fields_of(form)
        row = await exchange.services.filing.add(
            identity.customer_id,
            part.path,
            purpose=purpose,
            filename=_filename(part.filename),
            keep_s=keep_s,
        )
    await exchange.respond_json(file_view(row))


async def listing(exchange: Exchange) -> None:
    """Answer GET /v1/files."""
    identity = await authenticate(exchange)
    query = exchange.query()
    for name in query:
        if name not in _QUERY:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise InvalidValue("'order' is asc or desc.", param="order")
    rows, has_more = await exchange.services.filing.page(
        identity.customer_id,
        purpose=query.get("purpose") or None,
        after=query.get("after") or None,
        limit=limit_of(query, default=_LIMIT, most=_LIMIT),
        newest_first=order == "desc",
    )
    await exchange.respond_json(
        FileList(
            data=tuple(file_view(row) for row in rows),
            first_id=rows[0].id if rows else None,
            last_id=rows[-1].id if rows else None,
            has_more=has_more,
        )
    )


async def file(exchange: Exchange) -> None:
    """Answer GET /v1/files/{id}."""
    await exchange.respond_json(file_view(await _found(exchange)))


async def delete(exchange: Exchange) -> None:
    """Answer DELETE /v1/files/{id}."""
    identity = await authenticate(exchange)
    file_id = exchange.path_param("id")
    await exchange.services.filing.delete(identity.customer_id, file_id)
    await exchange.respond_json(FileDeleted(id=file_id))


async def content(exchange: Exchange) -> None:
    """Answer GET /v1/files/{id}/content, however large it is."""
    row = await _found(exchange)
    async with exchange.services.sending.place(row.bytes) as chunk_bytes:
        await _send(exchange, row, chunk_bytes)


async def _send(exchange: Exchange, row: FileRow, chunk_bytes: int) -> None:
    storage = exchange.services.storage
    chunks = aiter(storage.read(row.digest, length=row.bytes, chunk_bytes=chunk_bytes))
    # The first chunk is read before the head is sent, so that a lost blob can still be an error.
    first = await anext(chunks)
    await exchange.start(
        200,
        [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(row.bytes).encode()),
            (b"content-disposition", _attachment(row.filename)),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"private"),
        ],
    )
    async with exchange.watched():
        await exchange.write(first)
        async for chunk in chunks:
            await exchange.write(chunk)
        await exchange.finish()


def file_view(row: FileRow) -> FileView:
    """Return a file as its owner sees it."""
    return FileView(
        id=row.id,
        bytes=row.bytes,
        created_at=row.created_at // 1000,
        expires_at=None if row.expires_at is None else row.expires_at // 1000,
        filename=row.filename,
        purpose=row.purpose,
    )


def limit_of(query: Mapping[str, str], *, default: int, most: int) -> int:
    """Return the `limit` of a list.

    Raises:
        InvalidValue: it is no number from 1 to `most`.
    """
    text = query.get("limit") or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise InvalidValue(f"'limit' is a number from 1 to {most}.", param="limit")
    return int(text)


def keep_s_of(anchor: str | None, seconds: int | None, param: str) -> int:
    """Return for how many seconds a file is to be kept.

    Raises:
        InvalidValue: OpenAI's bounds: an hour to thirty days after it was made.
    """
    if anchor != "created_at":
        raise InvalidValue(f"'{param}.anchor' is created_at.", param=f"{param}.anchor")
    if seconds is None or not KEEP_MIN_S <= seconds <= KEEP_MAX_S:
        raise InvalidValue(
            f"'{param}.seconds' is {KEEP_MIN_S} to {KEEP_MAX_S}.", param=f"{param}.seconds"
        )
    return seconds


async def _found(exchange: Exchange) -> FileRow:
    identity = await authenticate(exchange)
    return await exchange.services.filing.file(identity.customer_id, exchange.path_param("id"))


async def _read_form(exchange: Exchange, content_type: str, spool: SpoolFolder) -> Form:
    config = exchange.services.config.files
    reader = FormReader(
        boundary_of(content_type),
        spool=spool,
        picture_fields=lambda name: name == "file",
        max_file_bytes=config.max_bytes,
    )
    limit, timeout_s = config.max_bytes + _FORM_BYTES, config.upload_timeout_s
    with reader:
        try:
            async for chunk in read_chunks(exchange, limit, timeout_s=timeout_s):
                reader.feed(chunk)
        except OSError as error:
            raise storage_refusal(storage_code(error)) from error
        return reader.finish()


def _file_of(form: Form) -> FilePart:
    for part in form.files:
        if part.name != "file":
            name = part.name[:64]
            raise UnknownParameter(f"Unknown parameter: {name!r}.", param=name)
    if not form.files:
        raise MissingParameter("Missing required parameter: 'file'.", param="file")
    part = form.files[0]
    if len(form.files) > 1:
        raise InvalidValue("'file' was sent more than once.", param="file")
    if part.is_text and not part.filename:
        raise InvalidRequest(
            "Invalid type for 'file': expected a file, got a string.",
            code="invalid_type",
            param="file",
        )
    if not part.size:
        raise InvalidValue("The file is empty.", param="file")
    return part


def _fields_of(form: Form) -> tuple[str, int | None]:
    fields: dict[str, str] = {}
    for name, text in form.texts:
        if name not in _FIELDS:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
        fields[name] = text
    purpose = fields.get("purpose")
    if not purpose:
        raise MissingParameter("Missing required parameter: 'purpose'.", param="purpose")
    if purpose not in PURPOSES:
        raise InvalidValue(
            f"Invalid value of 'purpose'. Send one of: {', '.join(PURPOSES)}.", param="purpose"
        )
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return purpose, None
    number = seconds or ""
    fine = number.isascii() and number.isdigit() and len(number) <= 9
    return purpose, keep_s_of(anchor, int(number) if fine else None, "expires_after")


def _filename(sent: str) -> str:
    """Return a file's name without a path in it and without what is not for people's eyes."""
    name = _UNPRINTABLE.sub("", sent.replace("\\", "/").rpartition("/")[2]).strip()
    return name[:_NAME_MAX] or "file"


def _attachment(filename: str) -> bytes:
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", filename)
    return f'attachment; filename="{plain}"'.encode()
