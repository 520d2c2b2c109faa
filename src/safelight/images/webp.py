"""The structure of WebP files: the RIFF container, its chunks and the bitstream headers.

Sources of the rules: RFC 9649 (WebP container and lossless bitstream) and RFC 6386, section 9.1
(VP8 frame header). WebP has no checksums: what is found is truncation (the container knows its own
length) and broken structure, not a flipped bit inside the bitstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from safelight.images.reading import MAX_PARTS, Probe, Reader, animated, damaged, truncated

_ANIMATION, _ALPHA = 0x02, 0x10


class _Bitstream(NamedTuple):
    width: int
    height: int
    alpha: bool


def probe(reader: Reader) -> Probe:
    """Return what the first chunk says; of an animation the frames are counted.

    Raises:
        InvalidImage: the container or the first chunk breaks the format's rules.
    """
    _container(reader)
    kind, length = next(_chunks(reader))
    if kind != b"VP8X":
        stream = _bitstream(reader, kind, length)
        return Probe("webp", stream.width, stream.height, stream.alpha)
    flags, width, height = _extended(reader, length)
    frames = _count_frames(reader) if flags & _ANIMATION else 1
    return Probe("webp", width, height, bool(flags & _ALPHA), frames)


def verify(reader: Reader) -> Probe:
    """Walk all chunks; the container's length must be the file's.

    Raises:
        InvalidImage: the file is longer or shorter than it says, its structure breaks the rules,
            or it is animated.
    """
    _container(reader, exact=True)
    canvas: Probe | None = None
    picture: _Bitstream | None = None
    for number, (kind, length) in enumerate(_chunks(reader)):
        if kind == b"VP8X":
            if number:
                raise damaged("its WebP header is not at the beginning")
            canvas = _still_canvas(reader, length)
        elif kind in (b"VP8 ", b"VP8L"):
            if picture is not None:
                raise damaged("it has two WebP bitstreams")
            picture = _bitstream(reader, kind, length)
        elif not number:
            raise damaged("its WebP header is missing")
    if picture is None:
        raise damaged("the WebP file holds no pixels")
    if canvas is None:
        return Probe("webp", picture.width, picture.height, picture.alpha)
    if (canvas.width, canvas.height) != (picture.width, picture.height):
        raise damaged("its WebP canvas and bitstream differ in size")
    return canvas


def _container(reader: Reader, *, exact: bool = False) -> None:
    head = reader.take(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise damaged("the WebP signature is wrong")
    length = int.from_bytes(head[4:8], "little") + 8
    if length > reader.size and exact:
        raise truncated()
    if length != reader.size and exact:
        raise damaged(f"{reader.size - length} bytes follow the end of the WebP file")


def _chunks(reader: Reader) -> Iterator[tuple[bytes, int]]:
    """Yield each chunk's kind and length, the reader at its data, whatever was read of it."""
    for _ in range(MAX_PARTS):
        if not reader.left:
            return
        head = reader.take(8)
        length = int.from_bytes(head[4:], "little")
        end = reader.position + length + (length & 1)
        yield head[:4], length
        reader.skip(end - reader.position)
    raise damaged(f"it has more than {MAX_PARTS} WebP chunks")


def _extended(reader: Reader, length: int) -> tuple[int, int, int]:
    """Return flags, width and height of a VP8X chunk (RFC 9649, section 2.7)."""
    if length != 10:
        raise damaged("its WebP header has a wrong length")
    data = reader.take(10)
    width = int.from_bytes(data[4:7], "little") + 1
    height = int.from_bytes(data[7:10], "little") + 1
    return data[0], width, height


def _still_canvas(reader: Reader, length: int) -> Probe:
    flags, width, height = _extended(reader, length)
    if flags & _ANIMATION:
        raise animated(_count_frames(reader))
    return Probe("webp", width, height, bool(flags & _ALPHA))


def _count_frames(reader: Reader) -> int:
    """Count the frames from here on; the reader stands at a chunk's end."""
    return max(1, sum(kind == b"ANMF" for kind, _ in _chunks(reader)))


def _bitstream(reader: Reader, kind: bytes, length: int) -> _Bitstream:
    if kind == b"VP8 ":
        return _lossy(reader, length)
    if kind == b"VP8L":
        return _lossless(reader, length)
    raise damaged("its WebP header is missing")


def _lossy(reader: Reader, length: int) -> _Bitstream:
    if length < 10:
        raise damaged("its VP8 bitstream is too short")
    data = reader.take(10)
    tag = int.from_bytes(data[:3], "little")
    key_frame, version, shown, first_part = not tag & 1, tag >> 1 & 7, tag >> 4 & 1, tag >> 5
    width = int.from_bytes(data[6:8], "little") & 0x3FFF
    height = int.from_bytes(data[8:10], "little") & 0x3FFF
    if not key_frame or version > 3 or not shown or data[3:6] != b"\x9d\x01\x2a":
        raise damaged("its VP8 frame header is wrong")
    if not width or not height or first_part > length - 10:
        raise damaged("its VP8 frame header is wrong")
    return _Bitstream(width, height, alpha=False)


def _lossless(reader: Reader, length: int) -> _Bitstream:
    if length < 6:
        raise damaged("its VP8L bitstream is too short")
    data = reader.take(5)
    bits = int.from_bytes(data[1:], "little")
    if data[0] != 0x2F or bits >> 29:
        raise damaged("its VP8L header is wrong")
    return _Bitstream((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
