"""Pictures that callers send: files of a form, data: URLs and links that this gateway made.

Owns where the bytes come from. Whether they are a usable picture is asked of the gateway. No
other address is ever fetched: remote images are off (failure catalogue C17).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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
    Unavailable,
    UnsupportedParameter,
)
from safelight.links import parse_own_link
from safelight.types import BlobRef, Identity

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.IGNORECASE)
_HEAD_MAX = 256
_INLINE_BYTES = 64 * 1024


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
        text = await asyncio.to_thread(part.path.read_bytes)
        if not text.startswith(b"data:"):
            raise InvalidRequest(
                f"Invalid type for {param!r}: expected a file, got a string.",
                code="invalid_type",
                param=param,
            )
        return await self.url(text.decode("ascii", "replace"), param)

    async def reference(self, reference: str | ImageRef, param: str) -> BlobRef:
        """Store the picture that a JSON body names.

        Raises:
            UnsupportedParameter: it is a `file_id`.
            MissingParameter: it names nothing.
            InvalidImage: `url`'s reasons.
        """
        if isinstance(reference, str):
            return await self.url(reference, param)
        if reference.file_id is not None:
            raise UnsupportedParameter(
                "file_id is not supported here: send the picture inline, as a file of a form or as "
                "a data: URL in image_url.",
                param=f"{param}.file_id",
            )
        if reference.image_url is None:
            raise MissingParameter(
                f"Missing required parameter: '{param}.image_url'.", param=f"{param}.image_url"
            )
        return await self.url(reference.image_url, f"{param}.image_url")

    def knows(self, url: str) -> bool:
        """Return whether `url` can be staged at all: inline, or in the form of our own links."""
        return url[:5].lower() == "data:" or self._own_image_id(url) is not None

    async def url(self, url: str, param: str) -> BlobRef:
        """Store the picture of a data: URL, or find that of one of our own links.

        Raises:
            InvalidImage: `invalid_image_url` with one text for every address that is not ours.
            RequestTooLarge: the picture is larger than a file may be.
        """
        if url[:5].lower() == "data:":
            return await self._data_url(url, param)
        image_id = self._own_image_id(url)
        if image_id is None:
            raise InvalidImage(
                "Remote images are not fetched here. Send the picture as a data: URL, or use a "
                "link that this gateway returned.",
                code="invalid_image_url",
                param=param,
            )
        return await self._own_image(image_id, url, param)

    async def _data_url(self, url: str, param: str) -> BlobRef:
        head = _DATA_URL.match(url[:_HEAD_MAX])
        if head is None:
            raise _bad_data_url(param)
        limit = self.services.config.server.max_file_bytes
        if (len(url) - head.end()) // 4 * 3 > limit + 3:
            raise RequestTooLarge(f"A picture is larger than {limit} bytes.", param=param)
        path = self.spool.new()
        if len(url) > _INLINE_BYTES:
            await asyncio.to_thread(_decode, url, head.end(), path, param)
        else:
            _decode(url, head.end(), path, param)
        return await self.services.gateway.stage_input(path, param=param)

    def _own_image_id(self, url: str) -> str | None:
        return parse_own_link(url, (self.origin,))

    async def _own_image(self, image_id: str, url: str, param: str) -> BlobRef:
        parts = urlsplit(url)
        try:
            record = await self.services.gateway.image(image_id)
            # The owner may use an expired link: chat histories outlive the links in them.
            if record.customer_id != self.identity.customer_id:
                self.services.links.verify(parts.path, parts.query, link_epoch=record.link_epoch)
        except NotFound as error:
            raise InvalidImage(
                "The link has expired or is not one that this gateway returned.",
                code="invalid_image_url",
                param=param,
            ) from error
        return record.blob


def _decode(url: str, start: int, path: Path, param: str) -> None:
    try:
        path.write_bytes(pybase64.b64decode(url[start:], validate=True))
    except ValueError as error:
        raise _bad_data_url(param) from error
    except OSError as error:
        raise Unavailable("The picture could not be kept.", code="storage_full") from error


def _bad_data_url(param: str) -> InvalidImage:
    return InvalidImage(
        "The data: URL cannot be read. Write data:image/png;base64, and then base64 without line "
        "breaks.",
        code="invalid_image_url",
        param=param,
    )
