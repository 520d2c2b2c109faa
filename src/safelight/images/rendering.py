"""New pixels: cropping, resampling and re-encoding with libvips.

Owns how pixels are made for each size plan and how each format is written. Loaded with the first
picture that needs it.

libvips releases the GIL while it works. Files are opened by the one loader of the format that their
magic bytes name, never by libvips' own guess, so its other loaders are out of reach. Metadata is
dropped from what is written, but for the colour profile: without it colours would change. In its
place comes a word on how the picture was made (`provenance`).
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pyvips

from safelight.errors import StorageError
from safelight.images.lanczos import resample
from safelight.images.pixels import BadPicture, judged, needs_pixels
from safelight.images.provenance import add_to_png, packet
from safelight.images.reading import Probe
from safelight.images.structure import MAX_PIXELS, describe, probe
from safelight.types import BlobRef, ImageFormat, PlanMethod, SizePlan

# The cache of operations would keep files open and pictures in memory after their job, and
# remembers what was read by a file's name.
pyvips.cache_set_max(0)

PNG_LEVEL = 1
"""Deflate level: 1 takes a sixth of the time of 6 on a 2048x1152 picture, for some more bytes."""
DEFAULT_QUALITY = 90
"""Quality of JPEG and WebP when the request gives no `output_compression`."""

_XMP = "xmp-data"
_LOADERS = {
    # libjpeg calls damaged scan data a warning; libpng warns of odd but harmless profiles.
    "png": partial(pyvips.Image.pngload, fail_on="error"),
    "jpeg": partial(pyvips.Image.jpegload, fail_on="warning"),
    "webp": partial(pyvips.Image.webpload, fail_on="error"),
}


def render(
    source: Path,
    target: Path,
    plan: SizePlan,
    output_format: ImageFormat,
    output_compression: int | None,
) -> BlobRef:
    """Make the ordered picture from an answered one; see `PixelWorker.render`. Blocks.

    Raises:
        BadPicture: the source is damaged, or does not measure what the plan asked for.
        StorageError: the target cannot be written.
    """
    found = judged(probe, source)
    _check_measures(found, plan)
    part = target.with_name(target.name + ".part")
    try:
        if needs_pixels(found, plan, output_format):
            image = _open(source, found)
            xmp = packet(_xmp_of(image))
            _save(_shape(image, plan), part, output_format, output_compression, xmp)
        else:
            shutil.copyfile(source, part)
        part.replace(target)
        return describe(target)
    except pyvips.Error as error:
        # The two ends of a pipeline raise the same error; decoding alone tells which end it was.
        check_decodes(source, found)
        raise StorageError(
            f"The picture could not be written to {target.parent}: {error}"
        ) from error
    except OSError as error:
        raise StorageError(
            f"The picture could not be written to {target.parent}: {error}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _check_measures(found: Probe, plan: SizePlan) -> None:
    if found.frames > 1:
        raise BadPicture(f"The picture is animated ({found.frames} frames).")
    if found.width * found.height > MAX_PIXELS:
        raise BadPicture(f"The picture has {found.width}x{found.height} pixels.")
    if plan.exact and (found.width, found.height) != (plan.canvas_width, plan.canvas_height):
        raise BadPicture(
            f"The picture measures {found.width}x{found.height}; the plan needs {plan.canvas}."
        )
    if plan.method is PlanMethod.CROP and (plan.width > found.width or plan.height > found.height):
        raise BadPicture(f"The picture is smaller than {plan.size}.")


def _open(source: Path, found: Probe) -> pyvips.Image:
    load = _LOADERS[found.format]
    return load(str(source), access="sequential", revalidate=True)


def check_decodes(source: Path, found: Probe) -> None:
    """Decode a picture to its end.

    Raises:
        BadPicture: it cannot be.
    """
    try:
        _open(source, found).avg()
    except pyvips.Error as error:
        raise BadPicture(f"The picture cannot be decoded: {error}") from error


def _shape(image: pyvips.Image, plan: SizePlan) -> pyvips.Image:
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True)
    if plan.method is PlanMethod.CROP:
        left, top = (image.width - plan.width) // 2, (image.height - plan.height) // 2
        return image.crop(left, top, plan.width, plan.height)
    if plan.method is PlanMethod.RESAMPLE:
        return resample(image, plan.width, plan.height)
    return image


def _xmp_of(image: pyvips.Image) -> bytes | None:
    return bytes(image.get(_XMP)) if _XMP in image.get_fields() else None


def _save(
    image: pyvips.Image,
    target: Path,
    output_format: ImageFormat,
    output_compression: int | None,
    xmp: bytes,
) -> None:
    if output_format == "png":
        # The filter "up" costs nothing and saves a fifth at this level.
        image.pngsave(str(target), compression=PNG_LEVEL, filter="up", keep="icc")
        add_to_png(target, xmp)  # libvips would compress it, which XMP forbids
        return
    if image.format != "uchar":
        image = image.colourspace("srgb" if image.bands > 2 else "b-w")
    quality = DEFAULT_QUALITY if output_compression is None else output_compression
    if output_format == "webp":
        _stating(image, xmp).webpsave(str(target), Q=quality, keep="icc|xmp")
        return
    if image.hasalpha():
        image = image.flatten(background=255)
    # libjpeg counts from 1.
    quality = max(1, quality)
    _stating(image, xmp).jpegsave(str(target), Q=quality, optimize_coding=True, keep="icc|xmp")


def _stating(image: pyvips.Image, xmp: bytes) -> pyvips.Image:
    """Return the image with this packet and no other."""
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, _XMP, xmp)
    return image
