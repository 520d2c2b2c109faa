"""The threads that work on pictures: bounded pools for checks, for new pixels and for inputs.

Owns the threads and the decision whether a picture needs new pixels; `rendering` makes them. A
picture whose plan and format are already right is never decoded. What callers send is decoded in
processes of its own (`sandbox`); the threads of inputs only wait for them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from safelight.errors import InvalidImage
from safelight.images.reading import Probe
from safelight.images.sandbox import Sandbox
from safelight.images.structure import describe, describe_input, probe, verify, verify_open
from safelight.types import BlobRef, ImageFormat, SizePlan

T = TypeVar("T")

_CHECK_THREADS = 4
_DECODERS = max(1, min(4, os.cpu_count() or 1))
"""Inputs that are decoded at one time, each in a process of its own."""


class BadPicture(Exception):
    """An answered picture that is damaged or does not fit its size plan; another may be right."""


def needs_pixels(found: Probe, plan: SizePlan, output_format: ImageFormat) -> bool:
    """Return whether the picture must be decoded to become what was ordered.

    False means that its bytes are delivered as they came.
    """
    return plan.remakes or found.format != output_format


class Proof:
    """Walks a picture's structure while its blob store reads it back (`safelight.storage.Proof`).

    `found` is what it found, None before. A PNG has a checksum over every byte; of the other
    formats the store compares the digest as well.

    Args:
        check: refuses, by an exception of its own, a whole picture that is not the one ordered.
    """

    def __init__(self, check: Callable[[Probe], None]) -> None:
        self.found: Probe | None = None
        self._check = check

    def __call__(self, descriptor: int) -> bool:
        """Read the open file to its end; True if no byte can have changed unseen.

        Raises:
            BadPicture: it is no whole, still PNG, JPEG or WebP.
            Exception: whatever `check` raises.
        """
        found = judged(verify_open, descriptor)
        self._check(found)
        self.found = found
        return found.format == "png"


class Cleaner(Protocol):
    """Writes callers' pictures anew; see `sandbox.Sandbox`."""

    def clean(self, source: Path, target: Path, kind: ImageFormat) -> None:
        """Write a new file of a picture's pixels alone. Blocks.

        Raises:
            InvalidImage: its pixels cannot be decoded within the limits.
            Unavailable: it cannot be decoded here and now.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class PixelWorker:
    """Threads for work on pictures: a few that make pixels, a few that only check.

    Args:
        workers: how many pictures are decoded at the same time. Each takes up to about 200 MB for
            the largest sizes, and libvips spreads each over the cores.
        cleaner: decodes callers' pictures; None: processes of its own.
    """

    def __init__(self, workers: int = 2, cleaner: Cleaner | None = None) -> None:
        self._workers = workers
        self._pixels = ThreadPoolExecutor(workers, thread_name_prefix="pixels")
        # Checks have threads of their own: they are short and must not queue behind a resample.
        self._checks = ThreadPoolExecutor(_CHECK_THREADS, thread_name_prefix="checks")
        self._inputs = ThreadPoolExecutor(_DECODERS, thread_name_prefix="inputs")
        self._cleaner: Cleaner = cleaner or Sandbox()

    def __repr__(self) -> str:
        return f"PixelWorker(workers={self._workers})"

    async def verify(self, path: Path) -> Probe:
        """Walk the structure of an answered picture; see `images.verify`.

        Raises:
            BadPicture: it is no whole, still PNG, JPEG or WebP.
        """
        return await self._run(self._checks, partial(judged, verify, path))

    async def decode(self, path: Path) -> None:
        """Decode a whole picture, for what its structure cannot tell.

        Raises:
            BadPicture: its pixels cannot be read to their end.
        """
        await self._run(self._pixels, partial(_decode, path))

    async def describe_input(self, path: Path, *, max_bytes: int, param: str) -> BlobRef:
        """Describe a caller's picture and hold it to the limits; see `images.describe_input`.

        Raises:
            InvalidImage: naming `param`.
        """
        work = partial(describe_input, path, max_bytes=max_bytes, param=param)
        return await self._run(self._checks, work)

    async def clean_input(
        self, source: Path, target: Path, found: BlobRef, *, param: str
    ) -> BlobRef:
        """Write a caller's picture anew, without anything but its pixels; see `Sandbox.clean`.

        Whoever is cancelled waits for the end, so that nobody writes to `target` afterwards.

        Args:
            source: the upload, described.
            target: the new file.
            found: what describes it.
            param: the request parameter it came in; errors name it.

        Raises:
            InvalidImage: it cannot be decoded within the limits.
            Unavailable: it cannot be decoded here and now.
        """
        work = partial(_clean, self._cleaner, source, target, found.format, param)
        future = asyncio.ensure_future(self._run(self._inputs, work))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            if not future.cancelled():
                future.exception()  # nobody else will look at it
            raise

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
        self._inputs.shutdown()
        self._cleaner.close()

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def judged(check: Callable[[T], Probe], file: T) -> Probe:
    """Return what a check finds in an answered picture.

    Raises:
        BadPicture: the picture is at fault, as a caller's would be.
    """
    try:
        return check(file)
    except InvalidImage as error:
        raise BadPicture(error.message) from error


def _clean(cleaner: Cleaner, source: Path, target: Path, kind: ImageFormat, param: str) -> BlobRef:
    try:
        cleaner.clean(source, target, kind)
    except InvalidImage as error:
        error.param = param
        raise
    return describe(target)


def _decode(path: Path) -> None:
    from safelight.images.rendering import check_decodes  # noqa: PLC0415  (as below)

    check_decodes(path, judged(probe, path))


def _render(
    source: Path,
    target: Path,
    plan: SizePlan,
    output_format: ImageFormat,
    output_compression: int | None,
) -> BlobRef:
    # libvips takes 9 MB and a moment to load; most gateways pass native pictures on.
    from safelight.images.rendering import render  # noqa: PLC0415

    return render(source, target, plan, output_format, output_compression)
