"""Pictures by their first bytes: what they are, and how many pixels they have.

Reads only as much structure as the dimensions need. Sources: PNG specification section 11.2.2
(IHDR), ITU-T T.81 section B.2.2 (frame header), RFC 9649 (WebP container).
"""

from __future__ import annotations

from dataclasses import dataclass

ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
"""How the file of a picture ends."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""What a file's name may end with to be taken as it is."""
HEAD_BYTES = 256 * 1024
"""Enough of a file to hold its dimensions, also behind a large colour profile."""

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class Measured:
    """What a picture's own header says; pixels."""

    mime: str
    width: int
    height: int


def mime_of(head: bytes) -> str | None:
    """Return the media type that a file's first bytes promise, or None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def measure(head: bytes) -> Measured:
    """Return what a PNG, JPEG or WebP file's header says.

    Raises:
        ValueError: it is none of the three, or is cut off before its dimensions.
    """
    match mime_of(head):
        case "image/png" if len(head) >= 24:
            return Measured("image/png", int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
        case "image/jpeg":
            return _jpeg(head)
        case "image/webp" if len(head) >= 30:
            return _webp(head)
    raise ValueError("it is no PNG, JPEG or WebP picture")


def _jpeg(head: bytes) -> Measured:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
        elif marker in _FRAME_MARKERS:
            height, width = head[at + 5 : at + 7], head[at + 7 : at + 9]
            return Measured("image/jpeg", int.from_bytes(width), int.from_bytes(height))
        else:
            at += 2 + int.from_bytes(head[at + 2 : at + 4])
    raise ValueError("the JPEG file has no frame header")


def _webp(head: bytes) -> Measured:
    match head[12:16]:
        case b"VP8X":
            width = int.from_bytes(head[24:27], "little") + 1
            height = int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            packed = int.from_bytes(head[21:25], "little")
            width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width = int.from_bytes(head[26:28], "little") & 0x3FFF
            height = int.from_bytes(head[28:30], "little") & 0x3FFF
        case _:
            raise ValueError("the WebP file has no picture in it")
    return Measured("image/webp", width, height)
