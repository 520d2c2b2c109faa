"""A caller's picture made anew: its pixels, upright and in sRGB, and nothing else of its file.

Owns how an input is decoded and written again. Runs in the process of `sandboxed` alone: these are
bytes that a stranger chose, and the decoders are C. Metadata, colour profiles, comments, thumbnails
and whatever else the file held do not come through; the pixels of PNG and lossless WebP do, exactly
where the colours need no conversion.

Each format is opened by its one loader, never by libvips' own guess.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

import pyvips

from safelight.images.structure import MAX_PIXELS, MAX_SIDE
from safelight.types import ImageFormat

# The cache of operations would keep files open and pictures in memory after their job.
pyvips.cache_set_max(0)

QUALITY: Final = 95
"""Of JPEG: a second loss that is not seen (over 44 dB on photos), and files no
larger than they came."""
PNG_LEVEL: Final = 3
"""Deflate level: files are about as small as with 6, in 40 % of its time."""

# libjpeg calls damaged scan data a warning; libpng warns of odd but harmless chunks.
_LOADERS: Final = {
    "png": partial(pyvips.Image.pngload_source, fail_on="error"),
    "jpeg": partial(pyvips.Image.jpegload_source, fail_on="warning"),
    "webp": partial(pyvips.Image.webpload_source, fail_on="error"),
}
_PROFILE = "icc-profile-data"
_SRGB_NAMES = (b"sRGB", "sRGB".encode("utf-16-be"))
"""How a profile's description says so: ASCII in version 2 of ICC.1, UTF-16 in version 4."""


class Undecodable(Exception):
    """The pixels cannot be read, or are not those that the header spoke of."""


def cleaned(descriptor: int, kind: ImageFormat) -> bytes:
    """Return a new file of the pixels of an open one.

    JPEG stays JPEG. WebP becomes JPEG, or PNG where it is lossless or has transparency: libwebp
    would take up to twenty times as long, and hold the picture twice.

    Args:
        descriptor: open for reading, at any offset.
        kind: what the structure of the file says.

    Raises:
        Undecodable: the pixels are damaged, or too many.
    """
    lossless = kind == "png" or (kind == "webp" and _is_lossless(descriptor))
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return _encoded(_in_srgb(_upright(descriptor, kind)), lossless=lossless)
    except pyvips.Error as error:
        raise Undecodable from error


def _opened(descriptor: int, kind: ImageFormat, access: str) -> pyvips.Image:
    os.lseek(descriptor, 0, os.SEEK_SET)
    source = pyvips.Source.new_from_descriptor(descriptor)
    image = _LOADERS[kind](source, access=access)
    # Judged again by what decodes it: the header that was read before might have been another one.
    too_many = max(image.width, image.height) > MAX_SIDE or image.width * image.height > MAX_PIXELS
    if too_many or _fields(image, "n-pages", 1) > 1:
        raise Undecodable
    return image


def _upright(descriptor: int, kind: ImageFormat) -> pyvips.Image:
    """Return the picture as people see it: what told how to turn it is dropped with the rest."""
    image = _opened(descriptor, kind, "sequential")
    if _fields(image, "orientation", 1) == 1:
        return image
    return _opened(descriptor, kind, "random").copy_memory().autorot()


def _in_srgb(image: pyvips.Image) -> pyvips.Image:
    """Return the picture in sRGB or grey, which need no profile."""
    foreign = _PROFILE in image.get_fields() and not any(
        name in bytes(image.get(_PROFILE)) for name in _SRGB_NAMES
    )
    if foreign or image.interpretation == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        try:
            return image.icc_transform("srgb", embedded=True, depth=depth)
        except pyvips.Error:
            # A broken profile says nothing about the colours; viewers pass over it, too.
            return image.colourspace("srgb") if image.interpretation == "cmyk" else image
    return image


def _encoded(image: pyvips.Image, *, lossless: bool) -> bytes:
    if lossless or image.hasalpha():
        return bytes(image.pngsave_buffer(compression=PNG_LEVEL, filter="sub", keep="none"))
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep="none"))


def _fields(image: pyvips.Image, name: str, default: int) -> int:
    return int(image.get(name)) if name in image.get_fields() else default


def _is_lossless(descriptor: int) -> bool:
    """Return whether a WebP's pixels are a VP8L chunk (RFC 9649, section 2.6); its structure is
    known to be right."""
    offset = 12
    while len(head := os.pread(descriptor, 8, offset)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        length = int.from_bytes(head[4:], "little")
        offset += 8 + length + (length & 1)
    return False
