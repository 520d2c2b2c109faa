"""What a picture file is and whether it is whole, told by its magic bytes and its structure.

Owns the choice of the format module and the limits on callers' inputs. Decodes no pixel.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from safelight.errors import InvalidImage
from safelight.images import jpeg, png, webp
from safelight.images.foreign import check_plain
from safelight.images.reading import Probe, Reader
from safelight.types import BlobRef
from safelight.windows import digest_of

MAX_SIDE = 8192
"""Longest side of an input, pixels (failure catalogue, C14)."""
MAX_PIXELS = 50_000_000
"""Most pixels of an input (failure catalogue, C14)."""
HEADER_BYTES = 8192
"""How much is read at once of what only its header is wanted of."""


def probe(path: Path) -> Probe:
    """Return what the header of the file at `path` says; cheap, whatever the file's size.

    Raises:
        InvalidImage: the file is no PNG, JPEG or WebP, or its header is broken.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        reader = Reader(file.fileno(), HEADER_BYTES)
        found: Probe = _format(reader).probe(reader)
        return found


def verify(path: Path) -> Probe:
    """Walk the whole structure of the file at `path`, in bounded memory.

    A PNG passes when every byte is under a right checksum; a JPEG or WebP (which have none) when
    it is complete and well-formed. See the modules `png`, `jpeg` and `webp` for the rules.

    Raises:
        InvalidImage: the file is no PNG, JPEG or WebP, is damaged, cut off or animated.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return verify_open(file.fileno())


def verify_open(descriptor: int) -> Probe:
    """Walk the whole structure of an open file; see `verify`.

    Raises:
        InvalidImage: the file is no PNG, JPEG or WebP, is damaged, cut off or animated.
        OSError: the file cannot be read.
    """
    reader = Reader(descriptor)
    found: Probe = _format(reader).verify(reader)
    return found


def describe_input(path: Path, *, max_bytes: int, param: str) -> BlobRef:
    """Describe a picture that a caller sent, hold it to the limits and verify its structure.

    Its header comes first: what says that it is too large is read no further.

    Args:
        path: the spooled upload.
        max_bytes: longest file that is taken.
        param: the request parameter it came in; errors name it.

    Raises:
        InvalidImage: with `param`; code `image_too_large` where bytes or pixels are over a limit,
            else `invalid_image`.
        OSError: the file cannot be read.
    """
    try:
        _check_bytes(path.stat().st_size, max_bytes)
        _check_pixels(probe(path))
        with path.open("rb", buffering=0) as file:
            check_plain(file.fileno())
            verify_open(file.fileno())
        return describe(path)
    except InvalidImage as error:
        error.param = param
        raise


class InputProof:
    """Verifies an input picture while its blob store reads it back (`safelight.storage.Proof`).

    Args:
        param: the request parameter it came in; errors name it.
    """

    def __init__(self, param: str) -> None:
        self._param = param

    def __call__(self, descriptor: int) -> bool:
        """Read the open file to its end; True if no byte can have changed unseen.

        Raises:
            InvalidImage: it is no whole, still PNG, JPEG or WebP; with `param`.
            OSError: the file cannot be read.
        """
        try:
            return verify_open(descriptor).format == "png"
        except InvalidImage as error:
            error.param = self._param
            raise


def describe(path: Path) -> BlobRef:
    """Return digest, length, format and pixels of the file at `path`; the structure is not walked.

    Raises:
        InvalidImage: the file is no PNG, JPEG or WebP, or its header is broken.
        OSError: the file cannot be read.
    """
    found = probe(path)
    with path.open("rb", buffering=0) as file:
        digest = digest_of(file.fileno())
        size = os.fstat(file.fileno()).st_size
    return BlobRef(digest, size, found.format, found.width, found.height, found.has_alpha)


def _format(reader: Reader) -> ModuleType:
    """Return the module for the file's magic bytes; the reader stays at the beginning."""
    if not reader.size:
        raise InvalidImage("The picture is empty: its file has 0 bytes.")
    head = reader.take(min(12, reader.size))
    reader.skip(-len(head))
    if head.startswith(png.SIGNATURE):
        return png
    if head.startswith(jpeg.SIGNATURE):
        return jpeg
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return webp
    raise InvalidImage("The file is no picture that is taken here. Send PNG, JPEG or WebP.")


def _check_bytes(size: int, max_bytes: int) -> None:
    if not size:
        raise InvalidImage(
            "The uploaded picture is empty (0 bytes). If your program has read the file before, "
            "reopen it or rewind it to its beginning, then send it again."
        )
    if size > max_bytes:
        raise InvalidImage(
            f"The picture has {size} bytes; at most {max_bytes} are taken. Make it smaller.",
            code="image_too_large",
        )


def _check_pixels(found: Probe) -> None:
    if max(found.width, found.height) > MAX_SIDE or found.width * found.height > MAX_PIXELS:
        raise InvalidImage(
            f"The picture has {found.width}x{found.height} pixels; at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS} in all are taken. Make it smaller.",
            code="image_too_large",
        )
