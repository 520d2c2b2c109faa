"""Pictures at the client's end: measure their header, write them so that no half file is ever seen.

Reads only as much structure as the dimensions need; the gateway has verified the rest before it
charged.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from safelight.types import ImageFormat

SUFFIXES: dict[str, ImageFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}
"""File name endings and the format they promise."""

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class Measured:
    """What a picture's own header says; pixels."""

    format: ImageFormat
    width: int
    height: int

    @property
    def size(self) -> str:
        """Return `WxH`."""
        return f"{self.width}x{self.height}"


def measure(data: bytes) -> Measured:
    """Return format and pixels of a PNG, JPEG or WebP file.

    Sources: PNG specification section 11.2.2 (IHDR), ITU-T T.81 section B.2.2 (frame header),
    RFC 9649 (WebP container).

    Raises:
        ValueError: none of the three, or cut off before the dimensions.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        return Measured("png", int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if data[:2] == b"\xff\xd8":
        return _measure_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _measure_webp(data)
    raise ValueError("the file is no PNG, JPEG or WebP picture")


def _measure_jpeg(data: bytes) -> Measured:
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS:
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return Measured("jpeg", int.from_bytes(width), int.from_bytes(height))
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    raise ValueError("the JPEG file ends before its frame header")


def _measure_webp(data: bytes) -> Measured:
    match data[12:16]:
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            height = int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width = int.from_bytes(data[26:28], "little") & 0x3FFF
            height = int.from_bytes(data[28:30], "little") & 0x3FFF
        case _:
            raise ValueError("the WebP file starts with an unknown chunk")
    return Measured("webp", width, height)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`: readers see the old file or the whole new one.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
