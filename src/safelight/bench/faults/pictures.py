"""Pictures to sell: valid files of any size, encoded once per size and format, each one unique.

Encoding, and base64 of all but the few bytes that differ, is done once for each size and format: a
`Mould` holds both and casts a picture per sale.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import pybase64
import pyvips

CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_PNG_TAG = b"saLe"
_CRC_BYTES = 4
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
        return data[:33] + _png_chunk(_PNG_TAG, text) + data[33:]
    if form == "jpeg":
        comments = (text[at : at + 60_000] for at in range(0, len(text), 60_000))
        marked = b"".join(b"\xff\xfe" + struct.pack(">H", len(c) + 2) + c for c in comments)
        return data[:2] + marked + data[2:]
    return _webp_with(data, text)


def corrupted(data: bytes) -> bytes:
    """Return the picture with one bit of its pixel data flipped."""
    at = len(data) - 24
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@dataclass
class Picture:
    """A picture to sell: its bytes and their base64, each in pieces, and its digest."""

    form: str
    size: str
    parts: tuple[bytes, ...]
    text: tuple[bytes, ...]
    sha256: str

    @classmethod
    def of(cls, data: bytes, form: str, size: str) -> Picture:
        """Return the picture with these bytes."""
        digest = hashlib.sha256(data).hexdigest()
        return cls(form, size, (data,), (pybase64.b64encode(data),), digest)

    @cached_property
    def data(self) -> bytes:
        """The file."""
        return b"".join(self.parts)

    @property
    def bytes(self) -> int:
        """Length of the file."""
        return sum(map(len, self.parts))


class Mould:
    """One encoded picture with room for a tag of `tag_bytes` in its metadata."""

    def __init__(self, data: bytes, form: str, size: str, tag_bytes: int) -> None:
        self.form = form
        self.size = size
        self.tag_bytes = tag_bytes
        blank = unique(data, form, "#" * tag_bytes)
        at = blank.index(b"#" * tag_bytes)
        after = at + tag_bytes + (_CRC_BYTES if form == "png" else 0)
        # Base64 turns three bytes into four characters: cut where a group of three begins.
        begin, end = at // 3 * 3, min(-(-after // 3) * 3, len(blank))
        self._head, self._tail = blank[:begin], blank[end:]
        self._before, self._behind = blank[begin:at], blank[after:end]
        self._head_text = pybase64.b64encode(self._head)
        self._tail_text = pybase64.b64encode(self._tail)
        self._digest = hashlib.sha256(self._head)

    def cast(self, tag: str) -> Picture:
        """Return the picture that carries `tag`, as `unique` would make it."""
        text = tag.encode()
        if len(text) != self.tag_bytes:
            raise ValueError(f"the tag is not {self.tag_bytes} bytes long: {tag!r}")
        crc = struct.pack(">I", zlib.crc32(_PNG_TAG + text)) if self.form == "png" else b""
        middle = self._before + text + crc + self._behind
        digest = self._digest.copy()
        digest.update(middle)
        digest.update(self._tail)
        return Picture(
            self.form,
            self.size,
            (self._head, middle, self._tail),
            (self._head_text, pybase64.b64encode(middle), self._tail_text),
            digest.hexdigest(),
        )


@lru_cache(maxsize=64)
def mould(width: int, height: int, form: str, *, alpha: bool, tag_bytes: int) -> Mould:
    """Return the mould for pictures of that size and format."""
    data = encoded(width, height, form, alpha=alpha)
    return Mould(data, form, f"{width}x{height}", tag_bytes)


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
