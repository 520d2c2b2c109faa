"""Small real PNG files, made with nothing but the standard library."""

from __future__ import annotations

import struct
import zlib


def png(width: int = 4, height: int = 3, *, shade: int = 0) -> bytes:
    """Return a grey picture; another `shade` gives other bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([shade]) * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height as a PNG's header states them."""
    width, height = struct.unpack(">II", data[16:24])
    return width, height
