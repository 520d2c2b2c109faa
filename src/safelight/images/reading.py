"""Reading a picture file from front to back in bounded memory, and the words for what it is.

Owns `Probe` and the reader that the format modules share; knows no format.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from isal import isal_zlib

from safelight.errors import InvalidImage
from safelight.types import ImageFormat
from safelight.windows import WINDOW_BYTES, Window

SLICE_BYTES = 256 * 1024
"""What is taken at once where a format has no lengths."""

MAX_PARTS = 65_536
"""Most chunks, segments or scans of one file: real pictures of 50 MB stay far below, and a file
made of empty parts cannot keep a thread busy."""


class Probe(msgspec.Struct, frozen=True):
    """What a picture file says of itself.

    `width` x `height` is in pixels as stored (an EXIF orientation is not applied), `has_alpha` is
    true when the format announces transparency, `frames` is 1 unless the file is animated.
    """

    format: ImageFormat
    width: int
    height: int
    has_alpha: bool = False
    frames: int = 1


class Reader:
    """An open file from front to back; every wish beyond its end is `InvalidImage`.

    Args:
        descriptor: open for reading; stays open.
        most: bytes that are in memory at once.
    """

    def __init__(self, descriptor: int, most: int = WINDOW_BYTES) -> None:
        self._window = Window(descriptor, most)
        self.size = self._window.size
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self.size - self.position

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        self._need(count)
        part = self._window.at(self.position)
        if len(part) >= count:
            self.position += count
            return bytes(part[:count])
        return b"".join([bytes(part) for part in self._parts(count)])

    def take_slice(self) -> bytes:
        """Return the next bytes, at most SLICE_BYTES, at least one."""
        return self.take(max(1, min(SLICE_BYTES, self.left)))

    def skip(self, count: int) -> None:
        """Step over `count` bytes without reading them; negative steps back."""
        self._need(count)
        self.position += count

    def crc32(self, count: int, start: int = 0) -> int:
        """Read `count` bytes and return their CRC-32, continuing from `start`."""
        self._need(count)
        value = start
        for part in self._parts(count):
            value = isal_zlib.crc32(part, value)
        return value

    def _parts(self, count: int) -> Iterator[memoryview]:
        """Yield the next `count` bytes; each part is overwritten by the next."""
        while count:
            part = self._window.at(self.position)[:count]
            if not part:  # somebody shortened the file meanwhile
                raise truncated()
            self.position += len(part)
            count -= len(part)
            yield part

    def _need(self, count: int) -> None:
        if count > self.left:
            raise truncated()


def truncated() -> InvalidImage:
    """Return the error for a file that ends before its picture does."""
    return InvalidImage("The picture is incomplete: its file ends too early. Send it again.")


def damaged(what: str) -> InvalidImage:
    """Return the error for a file that breaks its format's rules; `what` names the rule."""
    return InvalidImage(f"The picture is damaged: {what}. Save or export it again.")


def animated(frames: int) -> InvalidImage:
    """Return the error for a file with several pictures."""
    return InvalidImage(f"The picture is animated ({frames} frames). Send one still picture.")
