"""Base64 text that arrives in pieces, decoded while it does; and what makes a reply unusable.

Owns the decoding (RFC 4648, section 4) and the groups of four that lie over the seam of two pieces.
Knows no JSON.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import pybase64

Sink = Callable[[bytes], object]
"""Takes the picture's decoded bytes, in order."""

_PADDING: Final = ord("=")
_DATA_PREFIX_MAX: Final = 128
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")


class ReplyFault(StrEnum):
    """Why a reply cannot be used."""

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    BAD_BASE64 = "bad_base64"


class ReplyError(Exception):
    """A reply that cannot be used; `fault` says why."""

    def __init__(self, fault: ReplyFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Base64Stream:
    """Decodes base64 text that arrives in pieces (RFC 4648 section 4, padding required).

    A `data:image/png;base64,` prefix is dropped. Whitespace is refused.
    """

    def __init__(self, sink: Sink) -> None:
        self.bytes_out = 0
        self._sink = sink
        self._head: bytes | None = b""
        self._rest = b""
        self._ended = False

    @property
    def buffered(self) -> int:
        """Bytes kept between calls."""
        return len(self._rest) + len(self._head or b"")

    def feed(self, text: bytes) -> None:
        """Decode as much of `text` as makes whole groups of four.

        Raises:
            ReplyError: this is not base64.
        """
        if self._head is not None:
            text = self._after_prefix(text)
        begin = 0
        if self._rest:
            # Only the group over the seam is put together: the text is long, and copies cost.
            begin = min(len(text), 4 - len(self._rest))
            self._rest += text[:begin]
            if len(self._rest) < 4:
                return
            group, self._rest = self._rest, b""
            self._decode(group)
        end = len(text) - (len(text) - begin) % 4
        self._rest = text[end:]
        if end > begin:
            self._decode(memoryview(text)[begin:end])

    def take(self, text: bytes | memoryview) -> bool:
        """Decode `text` if it is base64 from end to end, in the middle of a picture.

        What is not, be it the end of the picture or no base64 at all, is left to `feed`: False is
        returned then, and nothing has changed. Nearly all of a picture comes this way, and is
        looked at once.
        """
        if self._head is not None or self._ended:
            return False
        begin = -len(self._rest) % 4
        end = len(text) - (len(text) - begin) % 4
        rest = bytes(text[end:])
        if end <= begin or not _BASE64.fullmatch(rest):
            return False
        try:
            whole = pybase64.b64decode(memoryview(text)[begin:end], validate=True)
            group = self._rest + text[:begin]
            seam = pybase64.b64decode(group, validate=True) if group else b""
        except binascii.Error:
            return False
        if text[end - 1] == _PADDING or group[-1:] == b"=":
            return False
        self._rest = rest
        if seam:
            self._sink(seam)
        self._sink(whole)
        self.bytes_out += len(seam) + len(whole)
        return True

    def finish(self) -> None:
        """Take the end of the text.

        Raises:
            ReplyError: the text ends inside a group or inside its prefix.
        """
        if self._head is not None:
            head, self._head = self._head, None
            if head[:5].lower() == b"data:":
                raise ReplyError(ReplyFault.BAD_BASE64, "a data URL without its data")
            self.feed(head)
        if self._rest:
            raise ReplyError(ReplyFault.BAD_BASE64, "base64 that ends inside a group of four")

    def _after_prefix(self, text: bytes) -> bytes:
        """Hold text back until it is known whether a data URL begins here (RFC 2397)."""
        head = (self._head or b"") + text
        self._head = head
        if head[:5].lower() != b"data:"[: len(head)]:
            self._head = None
            return head
        comma = head.find(b",", 0, _DATA_PREFIX_MAX)
        if comma < 0:
            if len(head) >= _DATA_PREFIX_MAX:
                raise ReplyError(ReplyFault.BAD_BASE64, "a data URL without its data")
            return b""
        if not head[:comma].lower().endswith(b";base64"):
            raise ReplyError(ReplyFault.BAD_BASE64, "a data URL that is not base64")
        self._head = None
        return head[comma + 1 :]

    def _decode(self, groups: bytes | memoryview) -> None:
        if self._ended:
            raise ReplyError(ReplyFault.BAD_BASE64, "base64 that goes on after its padding")
        try:
            data = pybase64.b64decode(groups, validate=True)
        except binascii.Error as error:
            raise ReplyError(ReplyFault.BAD_BASE64, "not base64") from error
        self._ended = groups[-1] == _PADDING
        self.bytes_out += len(data)
        self._sink(data)
