"""The replies that the mock upstream sells: a valid PNG of a chosen weight, each one different.

Owns the making of the picture and of the OpenAI images body around it. A gateway that keeps blobs
by digest would store equal pictures once and look cheap, so every reply carries its own serial
number, in a chunk of 24 bytes that becomes exactly 32 characters of base64: all other bytes are
shared between replies and were encoded once, at start.
"""

from __future__ import annotations

import re
import secrets
import struct
import zlib
from dataclasses import dataclass

import msgspec
import pybase64

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALLEST = 1024
LARGEST = 48 * 1024 * 1024
"""Characters of base64: less does not hold the picture, more is refused by the gateway."""

# Private, ancillary chunks (PNG specification, section 5.4): every reader skips them.
_SERIAL, _FILLER = b"saFe", b"saFf"
_CHUNK_FRAME = 12
_HEAD_BYTES = 33  # signature and IHDR; a multiple of 3, so that base64 can be cut behind it
_SERIAL_BYTES = 12
_UNITS = {"kb": 1024, "mb": 1024 * 1024}
_NAME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(kb|mb)")


@dataclass(frozen=True, slots=True)
class Weight:
    """One size of reply: its name, its characters of base64, and the pixels that are asked for."""

    name: str
    base64_bytes: int
    width: int
    height: int

    @property
    def size(self) -> str:
        """The `size` of the order."""
        return f"{self.width}x{self.height}"

    @property
    def picture_bytes(self) -> int:
        """Bytes of the PNG file."""
        return self.base64_bytes // 4 * 3


def weight(name: str) -> Weight:
    """Return the weight that a name such as `1kb` or `2mb` means (1024 and 1024 x 1024 bytes).

    Raises:
        ValueError: it is no such name, or outside of 1kb to 48mb.
    """
    text = name.strip().lower()
    match = _NAME.fullmatch(text)
    if match is None:
        raise ValueError(f"{name!r} is no size such as 1kb or 2mb")
    count = round(float(match[1]) * _UNITS[match[2]]) // 4 * 4
    if not SMALLEST <= count <= LARGEST:
        raise ValueError(f"{name!r} is not between 1kb and {LARGEST // _UNITS['mb']}mb")
    return Weight(text, count, *_pixels(count))


def _pixels(count: int) -> tuple[int, int]:
    """Return the pixels that real pictures of that weight have, roughly."""
    if count < _UNITS["mb"]:
        return 1024, 1024
    return (2048, 1152) if count < 6 * _UNITS["mb"] else (3840, 2160)


def make_picture(wanted: Weight, serial: int) -> bytes:
    """Return the picture with that serial number, `wanted.picture_bytes` long.

    Its pixels are one grey plane of 1 bit; the rest of the weight is random bytes in a chunk that
    readers skip, because what a gateway does to a file does not depend on what the bytes mean.
    """
    header = struct.pack(">IIBBBBB", wanted.width, wanted.height, 1, 0, 0, 0, 0)
    rows = bytes((wanted.width + 7) // 8 + 1) * wanted.height
    head = SIGNATURE + _chunk(b"IHDR", header)
    end = _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    serials = _SERIAL_BYTES + _CHUNK_FRAME
    filler = wanted.picture_bytes - len(head) - serials - _CHUNK_FRAME - len(end)
    return head + _serial_chunk(serial) + _chunk(_FILLER, secrets.token_bytes(filler)) + end


class Replies:
    """Prepared images bodies (OpenAI images API), each with a picture of its own."""

    def __init__(self, wanted: Weight) -> None:
        picture = make_picture(wanted, 0)
        after = _HEAD_BYTES + _SERIAL_BYTES + _CHUNK_FRAME
        body = _body(wanted)
        cut = body.index(b'"b64_json":"') + len(b'"b64_json":"')
        self.head = body[:cut] + pybase64.b64encode(picture[:_HEAD_BYTES])
        self.tail = pybase64.b64encode(picture[after:]) + body[cut:]
        self.length = len(self.head) + 32 + len(self.tail)

    def pieces(self, serial: int) -> tuple[bytes, bytes, bytes]:
        """Return the body of one reply; joined, the pieces are `length` bytes of JSON."""
        return self.head, pybase64.b64encode(_serial_chunk(serial)), self.tail


def _serial_chunk(serial: int) -> bytes:
    return _chunk(_SERIAL, serial.to_bytes(_SERIAL_BYTES))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _body(wanted: Weight) -> bytes:
    return msgspec.json.encode(
        {
            "created": 1_776_729_600,
            "background": "opaque",
            "data": [{"b64_json": ""}],
            "output_format": "png",
            "quality": "high",
            "size": wanted.size,
            "usage": {
                "input_tokens": 12,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
                "output_tokens": 4160,
                "total_tokens": 4172,
            },
        }
    )
