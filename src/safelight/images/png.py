"""The structure of PNG files: chunks, their order and their checksums.

Source of the rules: Portable Network Graphics Specification (Third Edition), sections 5 (datastream
structure) and 11 (chunks). Not checked: the compressed pixels themselves; every byte of them is
under a chunk's CRC-32, so a changed or missing byte is found without inflating anything.

Stricter than some viewers: bytes after IEND are refused. A file that goes on after its end is
either two files glued together or the rest of an older, larger one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from safelight.images.reading import MAX_PARTS, Probe, Reader, animated, damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Allowed bit depths by colour type: grey, RGB, palette, grey + alpha, RGB + alpha."""
_PALETTE = 3
_HEAD_BYTES = 16
_MAX_LENGTH = 2**31 - 1


class _Chunk(NamedTuple):
    kind: bytes
    length: int
    head: bytes
    """The first bytes of the data, at most `_HEAD_BYTES`."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int


def probe(reader: Reader) -> Probe:
    """Return what the chunks before the pixels say; checksums are not computed.

    Raises:
        InvalidImage: the header breaks the format's rules or the file ends before its pixels.
    """
    chunks = _chunks(reader, check=False)
    header = _header(next(chunks))
    alpha, frames = header.colour in (4, 6), 1
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            return Probe("png", header.width, header.height, alpha, frames)
        if chunk.kind == b"IEND":
            break
        alpha = alpha or chunk.kind == b"tRNS"
        frames = _frames(chunk) if chunk.kind == b"acTL" else frames
    raise damaged("the PNG file holds no pixels")


def verify(reader: Reader) -> Probe:
    """Walk the whole file: order of chunks, every CRC-32, the end.

    Raises:
        InvalidImage: anything is missing, changed, out of order or too much; or it is animated.
    """
    chunks = _chunks(reader, check=True)
    walk = _Walk(_header(next(chunks)))
    for chunk in chunks:
        walk.see(chunk)
        if walk.ended:
            break
    if reader.left:
        raise damaged(f"{reader.left} bytes follow the end of the PNG file")
    if walk.frames > 1:
        raise animated(walk.frames)
    return Probe("png", walk.header.width, walk.header.height, walk.alpha, 1)


def _chunks(reader: Reader, *, check: bool) -> Iterator[_Chunk]:
    if reader.take(len(SIGNATURE)) != SIGNATURE:
        raise damaged("the PNG signature is wrong")
    for _ in range(MAX_PARTS):
        prefix = reader.take(8)
        length, kind = int.from_bytes(prefix[:4]), prefix[4:]
        if length > _MAX_LENGTH or not kind.isalpha():
            raise damaged("a PNG chunk has no proper header")
        head = _checked(reader, kind, length) if check else _unchecked(reader, length)
        yield _Chunk(kind, length, head)
    raise damaged(f"it has more than {MAX_PARTS} PNG chunks")


def _unchecked(reader: Reader, length: int) -> bytes:
    head = reader.take(min(length, _HEAD_BYTES))
    reader.skip(length - len(head) + 4)
    return head


def _checked(reader: Reader, kind: bytes, length: int) -> bytes:
    head = reader.take(min(length, _HEAD_BYTES))
    crc = reader.crc32(length - len(head), zlib.crc32(head, zlib.crc32(kind)))
    if crc != int.from_bytes(reader.take(4)):
        raise damaged(f"the checksum of its {kind.decode()} chunk is wrong")
    return head


def _header(chunk: _Chunk) -> _Header:
    if chunk.kind != b"IHDR" or chunk.length != 13:
        raise damaged("the PNG file does not begin with its header")
    width, height = int.from_bytes(chunk.head[:4]), int.from_bytes(chunk.head[4:8])
    depth, colour, compression, filtering, interlace = chunk.head[8:13]
    if not (0 < width <= _MAX_LENGTH and 0 < height <= _MAX_LENGTH):
        raise damaged(f"its PNG header says {width}x{height} pixels")
    if depth not in _DEPTHS.get(colour, ()):
        raise damaged(f"PNG knows no bit depth {depth} with colour type {colour}")
    if compression or filtering or interlace > 1:
        raise damaged("its PNG header names an unknown compression, filter or interlacing")
    return _Header(width, height, depth, colour)


def _frames(chunk: _Chunk) -> int:
    if chunk.length != 8:
        raise damaged("its animation header is broken")
    return max(1, int.from_bytes(chunk.head[:4]))


class _Walk:
    """What was seen so far, and which chunk may come next."""

    def __init__(self, header: _Header) -> None:
        self.header = header
        self.alpha = header.colour in (4, 6)
        self.frames = 1
        self.ended = False
        self._palette = False
        self._pixels = False
        self._pixels_over = False

    def see(self, chunk: _Chunk) -> None:
        """Take in the next chunk."""
        if chunk.kind == b"IDAT":
            self._see_pixels(chunk)
            return
        self._pixels_over = self._pixels
        match chunk.kind:
            case b"PLTE":
                self._see_palette(chunk)
            case b"tRNS":
                self.alpha = True
            case b"acTL":
                self.frames = _frames(chunk)
            case b"IEND":
                self._see_end(chunk)
            case kind if not kind[0] & 0x20:
                # A first letter in upper case means: who does not know this chunk cannot show the
                # picture (section 5.4). A second IHDR ends here, too.
                raise damaged(f"it has an unexpected {kind.decode()} chunk")
            case _:
                pass

    def _see_palette(self, chunk: _Chunk) -> None:
        entries, rest = divmod(chunk.length, 3)
        most = 2**self.header.depth if self.header.colour == _PALETTE else 256
        if rest or not 1 <= entries <= most:
            raise damaged(f"its PNG palette has {chunk.length} bytes")
        if self._palette or self._pixels or self.header.colour in (0, 4):
            raise damaged("its PNG palette is not allowed there")
        self._palette = True

    def _see_pixels(self, chunk: _Chunk) -> None:
        if self._pixels_over:
            raise damaged("its PNG pixels are not in one piece")
        if self.header.colour == _PALETTE and not self._palette:
            raise damaged("its PNG palette is missing")
        if not self._pixels and chunk.length >= 2:
            self._check_zlib(chunk.head)
        # An empty IDAT chunk is legal; it holds no pixels.
        self._pixels = self._pixels or chunk.length > 0

    def _check_zlib(self, head: bytes) -> None:
        method, flags = head[0], head[1]
        if method & 15 != 8 or method >> 4 > 7 or (method * 256 + flags) % 31 or flags & 0x20:
            raise damaged("its PNG pixels are not a zlib stream")

    def _see_end(self, chunk: _Chunk) -> None:
        if not self._pixels:
            raise damaged("the PNG file holds no pixels")
        if chunk.length:
            raise damaged("its PNG end chunk is not empty")
        self.ended = True
