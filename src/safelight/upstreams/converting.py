"""An input picture or a mask in another form, made with libvips.

Owns the pixels; `inputs` owns the files and says when. Loaded with the first picture that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyvips

from safelight.errors import FaultClass, UpstreamError
from safelight.types import ImageFormat

# The cache of operations would keep files open and pictures in memory after their job, and
# remembers what was read by a file's name.
pyvips.cache_set_max(0)

# By name: libvips would also read formats that nobody has checked.
_LOADERS: Final = {
    "png": pyvips.Image.pngload,
    "jpeg": pyvips.Image.jpegload,
    "webp": pyvips.Image.webpload,
}


def write_png(source: Path, source_format: ImageFormat, target: Path) -> None:
    """Write a picture as PNG. Blocks.

    Raises:
        UpstreamError: CLIENT, it cannot be read as a picture.
        OSError: a file cannot be read or written.
    """
    try:
        _opened(source, source_format).pngsave(str(target), compression=1)
    except pyvips.Error as error:
        raise _unreadable("image") from error


def write_white_mask(source: Path, source_format: ImageFormat, target: Path) -> None:
    """Turn "transparent is edited" into "white is edited", half-transparent into grey. Blocks.

    Raises:
        UpstreamError: CLIENT, it cannot be read, or has no transparency.
        OSError: a file cannot be read or written.
    """
    try:
        picture = _opened(source, source_format)
        if not picture.hasalpha():
            raise _unreadable("mask")
        alpha = picture.extract_band(picture.bands - 1)
        grey = alpha.cast("uchar", shift=alpha.format == "ushort").copy(interpretation="b-w")
        grey.invert().pngsave(str(target), compression=1)
    except pyvips.Error as error:
        raise _unreadable("mask") from error


def _opened(source: Path, source_format: ImageFormat) -> pyvips.Image:
    if not source.is_file():
        raise FileNotFoundError(source)
    # libvips remembers results by file name; a name may have been used before.
    load = _LOADERS[source_format]
    return load(str(source), access="sequential", fail_on="error", revalidate=True)


def _unreadable(param: str) -> UpstreamError:
    words = {
        "image": "An input image could not be decoded.",
        "mask": "The mask could not be decoded, or has no alpha channel.",
    }
    return UpstreamError(
        FaultClass.CLIENT, "invalid_image", words[param], param=param, final_status=400
    )
