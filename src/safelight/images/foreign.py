"""Files that are a picture and something else at once: which something elses are refused.

Owns the table of marks by which other programs know their files where a picture may hold any bytes:
at its beginning, behind the picture's own magic, or at its end. Decoding and writing anew drops all
of it anyway (`cleaning`); whoever sends such a file is told, and it is never kept.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from safelight.errors import InvalidImage

HEAD_BYTES: Final = 1024
"""How far from the beginning readers of PDF and browsers look for their mark."""
TAIL_BYTES: Final = 66 * 1024
"""A ZIP's directory ends within 22 + 65535 bytes of the file's end (APPNOTE.TXT, 4.3.16)."""


class Mark(NamedTuple):
    """Bytes that say what a file is, in lower case, and where they are looked for."""

    text: bytes
    what: str
    head: bool = True
    tail: bool = False


MARKS: Final = (
    Mark(b"%pdf-", "a PDF document", tail=True),
    Mark(b"<!doctype", "a web page", tail=True),
    Mark(b"<html", "a web page", tail=True),
    Mark(b"<script", "a web page", tail=True),
    Mark(b"<svg", "an SVG drawing", tail=True),
    Mark(b"<?php", "a program", tail=True),
    Mark(b"#!/", "a program"),
    Mark(b"this program cannot be run in dos mode", "a program", tail=True),
    Mark(b"\x7felf", "a program", tail=True),
    Mark(b"rar!\x1a\x07", "an archive", tail=True),
    Mark(b"7z\xbc\xaf\x27\x1c", "an archive", tail=True),
)
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_BYTES: Final = 22


def check_plain(descriptor: int) -> None:
    """Refuse an open file that other programs would take for one of theirs.

    Raises:
        InvalidImage: it bears such a mark.
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, HEAD_BYTES, 0).lower()
    tail = os.pread(descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES))
    if _ends_as_zip(tail):
        raise _refused("an archive")
    end = tail[-HEAD_BYTES:].lower()
    for mark in MARKS:
        if (mark.head and mark.text in head) or (mark.tail and mark.text in end):
            raise _refused(mark.what)


def _ends_as_zip(tail: bytes) -> bool:
    """Whether a ZIP's end record is there whose comment ends where the file does."""
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        record = tail[at : at + _ZIP_END_BYTES]
        if len(record) == _ZIP_END_BYTES:
            comment = int.from_bytes(record[20:], "little")
            if at + _ZIP_END_BYTES + comment == len(tail):
                return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False


def _refused(what: str) -> InvalidImage:
    return InvalidImage(
        f"The file is a picture and {what} at once. Save or export the picture alone."
    )
