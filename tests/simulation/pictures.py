"""Pictures of the simulated vendor: whole PNG files, quickly made, no two alike."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path

from safelight.images.cleaning import cleaned
from safelight.types import ImageFormat

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(width: int, height: int, number: int, *, coloured: bool = False) -> bytes:
    """Return a PNG that differs for each number.

    Args:
        width: in pixels.
        height: in pixels.
        number: written beside the pixels.
        coloured: whether the pixels differ too, as they must where they are made anew.
    """
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = _pixels(width, height, number if coloured else 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"tEXt", b"Comment\0sale %d" % number)
        + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )


class CleaningInPlace:
    """Decodes inputs as the sandbox does, without its processes: a simulation has one."""

    def clean(self, source: Path, target: Path, kind: ImageFormat) -> None:
        with source.open("rb") as file:
            target.write_bytes(cleaned(file.fileno(), kind))

    def close(self) -> None:
        return None


def damaged(data: bytes) -> bytes:
    """Return a picture with one bit changed in the midst of it."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@cache
def _pixels(width: int, height: int, number: int) -> bytes:
    row = b"\0" + bytes((number % 251, number // 251 % 251, 90)) * width
    return zlib.compress(row * height, 1)


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(kind))
    return len(data).to_bytes(4) + kind + data + crc.to_bytes(4)
