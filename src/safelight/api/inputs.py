"""Pictures that callers send: files of a form, data: URLs and links that this gateway made.

Owns where the bytes come from. Whether they are a usable picture is asked of the gateway. No
other address is ever fetched: remote images are off (failure catalogue C17).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pybase64

from safelight.api.context import Services
from safelight.api.multipart import FilePart, SpoolFolder
from safelight.api.wire import ImageRef
from safelight.errors import (
    InvalidImage,
    InvalidRequest,
    MissingParameter,
    NotFound,
    RequestTooLarge,
    storage_code,
    storage_refusal,
)
from safelight.links import FoundLink, LinkInvalid, find_link
from safelight.types import BlobRef, Identity, ImageRecord

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.IGNORECASE)
_HEAD_MAX = 256
_INLINE_BYTES = 64 * 1024
_SLICE = 1024 * 1024
"""Characters of base64 decoded at a time; a multiple of 4, so that slices join."""


@dataclass(frozen=True, slots=True)
class Staging:
    """Turns what a caller sent into stored pictures, for one request."""

    services: Services
    identity: Identity
    spool: SpoolFolder
    origin: str

    async def file(self, part: FilePart, param: str) -> BlobRef:
        """Store an uploaded file, or the data: URL that was sent as text in its place.

        Raises:
            InvalidRequest: `invalid_type`: any other text where a file belongs.
            InvalidImage: it is no usable picture.
        """
        if not part.is_text:
            return await self.services.gateway.stage_input(part.path, param=param)
        with part.path.open("rb") as file:
            start = file.read(_HEAD_MAX)
        if start[:5].lower() != b"data:":
            raise InvalidRequest(
                f"Invalid type for {param!r}: expected a file, got a string.",
                code="invalid_type",
                param=param,
            )
        head = self._data_head(start.decode("latin-1"), part.size, param)
        path = self.spool.new()
        await asyncio.to_thread(_decode, _file_slices(part.path, head), path, param)
        return await self.services.gateway.stage_input(path, param=param)

    async def reference(self, reference: str | ImageRef, param: str) -> BlobRef:
        """Store the picture that a JSON body names.

        Raises:
            MissingParameter: it names nothing.
            NotFound: the caller has no file of that id.
            InvalidImage: `url`'s reasons.
        """
        if isinstance(reference, str):
            return await self.url(reference, param)
        if reference.file_id is not None:
            return await self._filed(reference.file_id, f"{param}.file_id")
        if reference.image_url is None:
            raise MissingParameter(
                f"Missing required parameter: '{param}.image_url'.", param=f"{param}.image_url"
            )
        return await self.url(reference.image_url, f"{param}.image_url")

    async def url(self, url: str, param: str) -> BlobRef:
        """Store the picture of a data: URL, or find that of one of our own links.

        Raises:
            InvalidImage: `invalid_image_url` with one text for every address that is not ours.
            RequestTooLarge: the picture is larger than a file may be.
        """
        if url[:5].lower() == "data:":
            return await self._data_url(url, param)
        found = await self._linked(url, param)
        if found is None:
            raise InvalidImage(
                "Remote images are not fetched here. Send the picture as a data: URL, or use a "
                "link that this gateway returned.",
                code="invalid_image_url",
                param=param,
            )
        return found

    async def _filed(self, file_id: str, param: str) -> BlobRef:
        """Store the picture that the caller uploaded to /v1/files."""
        try:
            row = await self.services.filing.file(self.identity.customer_id, file_id)
        except NotFound as error:
            raise NotFound(error.message, param=param) from error
        limit = self.services.config.server.max_file_bytes
        if row.bytes > limit:
            raise RequestTooLarge(f"A picture is larger than {limit} bytes.", param=param)
        path = self.spool.new()
        try:
            with path.open("xb") as file:
                async for chunk in self.services.storage.read(row.digest, length=row.bytes):
                    file.write(chunk)
        except OSError as error:
            raise storage_refusal(storage_code(error)) from error
        return await self.services.gateway.stage_input(path, param=param)

    async def mentioned(self, url: str, param: str) -> BlobRef | None:
        """Store a picture that a text only mentions; None if it cannot be read or is not ours.

        Raises:
            InvalidImage: it is a link at this gateway that is not valid. To pass over it would make
                a new picture, and charge for it, where a change of the old one is meant.
            RequestTooLarge: as `url`.
        """
        if url[:5].lower() != "data:":
            return await self._linked(url, param)
        try:
            return await self._data_url(url, param)
        except InvalidImage:
            return None

    async def _data_url(self, url: str, param: str) -> BlobRef:
        head = self._data_head(url[:_HEAD_MAX], len(url), param)
        path = self.spool.new()
        slices = (url[at : at + _SLICE] for at in range(head, len(url), _SLICE))
        if len(url) > _INLINE_BYTES:
            await asyncio.to_thread(_decode, slices, path, param)
        else:
            _decode(slices, path, param)
        return await self.services.gateway.stage_input(path, param=param)

    def _data_head(self, start: str, length: int, param: str) -> int:
        """Return where the base64 of a data: URL begins; `start` is its first characters."""
        head = _DATA_URL.match(start)
        if head is None:
            raise _bad_data_url(param)
        limit = self.services.config.server.max_file_bytes
        if (length - head.end()) // 4 * 3 > limit + 3:
            raise RequestTooLarge(f"A picture is larger than {limit} bytes.", param=param)
        return head.end()

    async def _linked(self, url: str, param: str) -> BlobRef | None:
        """Return the picture behind an address, or None for an address that is not ours.

        This gateway is known under many names (its public one, a host name, an IP address), so an
        address elsewhere is ours if its signature is.
        """
        link = find_link(url)
        if link is None:
            return None
        here = link.is_at(self.origin)
        try:
            record = await self.services.gateway.image(link.image_id)
            if not (here and record.customer_id == self.identity.customer_id):
                self._check_signature(link, record)
        except NotFound as error:
            if not here:
                return None
            raise InvalidImage(
                "The link has expired or is not one that this gateway returned.",
                code="invalid_image_url",
                param=param,
            ) from error
        return record.blob

    def _check_signature(self, link: FoundLink, record: ImageRecord) -> None:
        try:
            self.services.links.verify(link.path, link.query, link_epoch=record.link_epoch)
        except LinkInvalid as error:
            # The owner may use an expired link: chat histories outlive the links in them.
            if not (error.expired and record.customer_id == self.identity.customer_id):
                raise


def _file_slices(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_SLICE):
            yield piece


def _decode(slices: Iterator[str] | Iterator[bytes], path: Path, param: str) -> None:
    """Write what the base64 in `slices` stands for; only the last one may end in padding."""
    try:
        with path.open("xb") as file:
            full = True
            for piece in slices:
                data = pybase64.b64decode(piece, validate=True)
                if not full:
                    raise _bad_data_url(param)
                full = len(data) == _SLICE // 4 * 3
                file.write(data)
    except ValueError as error:
        raise _bad_data_url(param) from error
    except OSError as error:
        raise storage_refusal(storage_code(error)) from error


def _bad_data_url(param: str) -> InvalidImage:
    return InvalidImage(
        "The data: URL cannot be read. Write data:image/png;base64, and then base64 without line "
        "breaks.",
        code="invalid_image_url",
        param=param,
    )
