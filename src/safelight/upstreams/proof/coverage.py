"""Which characters a font file can draw, read from its character map.

Owns reading the `cmap` table (OpenType specification, "cmap", formats 4 and 12). Pango draws a
box with digits for a character that no font has; such characters are taken out before.
"""

from __future__ import annotations

import bisect
import struct
from pathlib import Path

Range = tuple[int, int]
"""First and last code point, inclusive."""


def _format_4(table: bytes) -> list[Range]:
    count = struct.unpack_from(">H", table, 6)[0] // 2
    last = struct.unpack_from(f">{count}H", table, 14)
    first = struct.unpack_from(f">{count}H", table, 16 + 2 * count)
    return [pair for pair in zip(first, last, strict=True) if pair[0] != 0xFFFF]


def _format_12(table: bytes) -> list[Range]:
    (count,) = struct.unpack_from(">I", table, 12)
    groups = struct.iter_unpack(">III", table[16 : 16 + 12 * count])
    return [(first, last) for first, last, _ in groups]


def font_ranges(path: Path) -> list[Range]:
    """Return the code points of a font file, or of a collection's first font.

    Raises:
        OSError: the file cannot be read.
        struct.error: the file is cut short.
    """
    with path.open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        start = struct.unpack(">I", read(12, 4))[0] if read(0, 4) == b"ttcf" else 0
        tables = struct.unpack(">H", read(start + 4, 2))[0]
        for tag, _, offset, size in struct.iter_unpack(">4sIII", read(start + 12, 16 * tables)):
            if tag == b"cmap":
                return _cmap(read(offset, size))
    return []


def _cmap(table: bytes) -> list[Range]:
    (count,) = struct.unpack_from(">H", table, 2)
    found: dict[int, bytes] = {}
    for at in range(count):
        (offset,) = struct.unpack_from(">I", table, 4 + 8 * at + 4)
        (kind,) = struct.unpack_from(">H", table, offset)
        found[kind] = table[offset:]
    if 12 in found:
        return _format_12(found[12])
    return _format_4(found[4]) if 4 in found else []


class Coverage:
    """The characters that a set of fonts can draw together."""

    def __init__(self, ranges: list[Range]) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in sorted(ranges):
            if self._last and first <= self._last[-1] + 1:
                self._last[-1] = max(self._last[-1], last)
            else:
                self._first.append(first)
                self._last.append(last)

    def __contains__(self, char: str) -> bool:
        at = bisect.bisect_right(self._first, ord(char)) - 1
        return at >= 0 and ord(char) <= self._last[at]
