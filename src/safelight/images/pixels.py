"""Pixels: cropping, resampling and re-encoding with libvips in a bounded pool of threads.

Owns the decision whether a picture needs new pixels, how they are made for each size plan, and how
each format is written. A picture whose plan and format are already right never comes here.

libvips releases the GIL while it works. Files are opened by the one loader of the format that their
magic bytes name, never by libvips' own guess, so its other loaders are out of reach. Metadata is
dropped from what is written, but for the colour profile: without it colours would change.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyvips

from safelight.errors import InvalidImage, StorageError
from safelight.images.lanczos import resample
from safelight.images.reading import Probe
from safelight.images.structure import MAX_PIXELS, check_input, describe, probe, verify
from safelight.types import BlobRef, ImageFormat, PlanMethod, SizePlan

T = TypeVar("T")

PNG_LEVEL = 1
"""Deflate level: 1 takes a sixth of the time of 6 on a 2048x1152 picture, for some more bytes."""
DEFAULT_QUALITY = 90
"""Quality of JPEG and WebP when the request gives no `output_compression`."""

_CHECK_THREADS = 4
_LOADERS = {
    # libjpeg calls damaged scan data a warning; libpng warns of odd but harmless profiles.
    "png": partial(pyvips.Image.pngload, fail_on="error"),
    "jpeg": partial(pyvips.Image.jpegload, fail_on="warning"),
    "webp": partial(pyvips.Image.webpload, fail_on="error"),
}


class BadPicture(Exception):
    """An answered picture that is damaged or does not fit its size plan; another may be right."""


def needs_pixels(found: Probe, plan: SizePlan, output_format: ImageFormat) -> bool:
    """Return whether the picture must be decoded to become what was ordered.

    False means that its bytes are delivered as they came.
    """
    return plan.method in (PlanMethod.CROP, PlanMethod.RESAMPLE) or found.format != output_format


def glance(path: Path) -> Probe:
    """Return what the header of an answered picture says; blocks for a read of some bytes.

    Raises:
        BadPicture: it is no PNG, JPEG or WebP, or its header is broken.
    """
    return _judged(probe, path)


class Proof:
    """Walks a picture's structure while its blob store reads it back (`safelight.storage.Proof`).

    `found` is what it found, None before. A PNG has a checksum over every byte; of the other
    formats the store compares the digest as well.
    """

    def __init__(self) -> None:
        self.found: Probe | None = None

    def __call__(self, path: Path) -> bool:
        """Read the file to its end; True if no byte can have changed unseen.

        Raises:
            BadPicture: it is no whole, still PNG, JPEG or WebP.
        """
        self.found = _judged(verify, path)
        return self.found.format == "png"


class PixelWorker:
    """Threads for work on pictures: a few that make pixels, a few that only check.

    Args:
        workers: how many pictures are decoded at the same time. Each takes up to about 200 MB for
            the largest sizes, and libvips spreads each over the cores.
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._pixels = ThreadPoolExecutor(workers, thread_name_prefix="pixels")
        # Checks have threads of their own: they are short and must not queue behind a resample.
        self._checks = ThreadPoolExecutor(_CHECK_THREADS, thread_name_prefix="checks")
        # The cache of operations would keep files open and pictures in memory after their job.
        pyvips.cache_set_max(0)

    def __repr__(self) -> str:
        return f"PixelWorker(workers={self._workers})"

    async def verify(self, path: Path) -> Probe:
        """Walk the structure of an answered picture; see `images.verify`.

        Raises:
            BadPicture: it is no whole, still PNG, JPEG or WebP.
        """
        return await self._run(self._checks, partial(_judged, verify, path))

    async def decode(self, path: Path) -> None:
        """Decode a whole picture, for what its structure cannot tell.

        Raises:
            BadPicture: its pixels cannot be read to their end.
        """
        await self._run(self._pixels, lambda: _check_decodes(path, _judged(probe, path)))

    async def check_input(self, path: Path, *, max_bytes: int, param: str) -> Probe:
        """Verify a caller's picture and hold it to the limits; see `images.check_input`.

        Raises:
            InvalidImage: naming `param`.
        """
        work = partial(check_input, path, max_bytes=max_bytes, param=param)
        return await self._run(self._checks, work)

    async def describe(self, path: Path) -> BlobRef:
        """Return digest, length, format and pixels of a file; see `images.describe`.

        Raises:
            InvalidImage: it is no picture.
        """
        return await self._run(self._checks, partial(describe, path))

    async def render(
        self,
        source: Path,
        target: Path,
        plan: SizePlan,
        output_format: ImageFormat,
        output_compression: int | None,
    ) -> BlobRef:
        """Make the ordered picture from an answered one.

        CROP cuts the plan's width x height out of the middle of its canvas (of an odd difference
        the larger part falls away at the right and the bottom); RESAMPLE makes exactly width x
        height with Lanczos3; every plan re-encodes where the format differs. If neither is needed,
        `target` becomes a copy of `source`, byte for byte.

        Args:
            source: the answered picture; stays.
            target: where the result goes. It appears there complete or not at all, but is not
                fsynced: the blob store does that.
            plan: how the pixels are made.
            output_format: what is written. PNG keeps 16 bits and transparency; JPEG has its
                transparency laid on white.
            output_compression: 0 to 100, higher is larger and better; the quality of JPEG and WebP
                (OpenAI images API: "compression level" of these two formats). None: 90. PNG has no
                loss and ignores it.

        Raises:
            BadPicture: the source is damaged, or does not measure what the plan asked for.
            StorageError: the target cannot be written.
        """
        work = partial(_render, source, target, plan, output_format, output_compression)
        return await self._run(self._pixels, work)

    def close(self) -> None:
        """Finish what runs and end the threads."""
        self._pixels.shutdown()
        self._checks.shutdown()

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _judged(check: Callable[[Path], Probe], path: Path) -> Probe:
    try:
        return check(path)
    except InvalidImage as error:
        raise BadPicture(error.message) from error


def _render(
    source: Path,
    target: Path,
    plan: SizePlan,
    output_format: ImageFormat,
    output_compression: int | None,
) -> BlobRef:
    found = _judged(probe, source)
    _check_measures(found, plan)
    part = target.with_name(target.name + ".part")
    try:
        if needs_pixels(found, plan, output_format):
            image = _shape(_open(source, found), plan)
            _save(image, part, output_format, output_compression)
        else:
            shutil.copyfile(source, part)
        part.replace(target)
        return describe(target)
    except pyvips.Error as error:
        # The two ends of a pipeline raise the same error; decoding alone tells which end it was.
        _check_decodes(source, found)
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


def _check_decodes(source: Path, found: Probe) -> None:
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


def _save(
    image: pyvips.Image, target: Path, output_format: ImageFormat, output_compression: int | None
) -> None:
    if output_format == "png":
        # The filter "up" costs nothing and saves a fifth at this level.
        image.pngsave(str(target), compression=PNG_LEVEL, filter="up", keep="icc")
        return
    if image.format != "uchar":
        image = image.colourspace("srgb" if image.bands > 2 else "b-w")
    quality = DEFAULT_QUALITY if output_compression is None else output_compression
    if output_format == "webp":
        image.webpsave(str(target), Q=quality, keep="icc")
        return
    if image.hasalpha():
        image = image.flatten(background=255)
    # libjpeg counts from 1.
    image.jpegsave(str(target), Q=max(1, quality), optimize_coding=True, keep="icc")
