"""Pictures to sell: valid files of any size, encoded once per size and format, each one unique."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import pyvips

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
OTHER_FORMAT = {"png": "jpeg", "jpeg": "png", "webp": "png"}


@lru_cache(maxsize=64)
def encoded(width: int, height: int, form: str, *, alpha: bool = False) -> bytes:
    """Return a picture of exactly width x height: a plain ground, a bright block in its middle."""
    bands = 4 if alpha else 3
    block = pyvips.Image.black(max(1, width // 2), max(1, height // 2), bands=bands)
    block = (block + [230, 180, 60, 255][:bands]).cast("uchar")
    ground = pyvips.Image.black(width, height, bands=bands)
    ground = (ground + [width % 200, height % 200, 90, 128][:bands]).cast("uchar")
    picture = ground.insert(block, width // 4, height // 4).copy(interpretation="srgb")
    options: dict[str, int] = {"png": {"compression": 1}, "webp": {"effort": 0}}.get(form, {})
    data: bytes = picture.write_to_buffer({"jpeg": ".jpg"}.get(form, f".{form}"), **options)
    return data


def unique(data: bytes, form: str, tag: str, *, padding: int = 0) -> bytes:
    """Return the picture with `tag` (and `padding` zero bytes) in its metadata."""
    text = tag.encode() + b"\0" * padding
    if form == "png":
        # PNG spec section 5: IHDR ends at byte 33; a private ancillary chunk may follow.
        return data[:33] + _png_chunk(b"saLe", text) + data[33:]
    if form == "jpeg":
        comments = (text[at : at + 60_000] for at in range(0, len(text), 60_000))
        marked = b"".join(b"\xff\xfe" + struct.pack(">H", len(c) + 2) + c for c in comments)
        return data[:2] + marked + data[2:]
    return _webp_with(data, text)


def corrupted(data: bytes) -> bytes:
    """Return the picture with one bit of its pixel data flipped."""
    at = len(data) - 24
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _png_chunk(name: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


def _webp_with(data: bytes, text: bytes) -> bytes:
    """Return a WebP in the extended form with an XMP chunk (WebP container specification)."""
    picture = pyvips.Image.new_from_buffer(data, "")
    chunks = data[12:]
    if chunks[:4] == b"VP8X":
        flags = chunks[8]
        chunks = chunks[18:]
    else:
        flags = 0x10 if picture.hasalpha() else 0
    sides = (picture.width - 1).to_bytes(3, "little") + (picture.height - 1).to_bytes(3, "little")
    body = _riff(b"VP8X", bytes([flags | 0x04, 0, 0, 0]) + sides) + chunks + _riff(b"XMP ", text)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
