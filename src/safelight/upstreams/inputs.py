"""Input pictures and masks in the forms that a server reads, in files beside the spool.

Owns the conversions and the life of the files: they are named `<spool>.input<n>` and `<spool>.mask`
and are gone when the call is over, also after a cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import msgspec
import pyvips

from safelight.errors import FaultClass, UpstreamError
from safelight.types import BlobRef, ImageFormat, UpstreamCall
from safelight.upstreams.profiles import Profile

WorkP = ParamSpec("WorkP")
ResultT = TypeVar("ResultT")

# By name: libvips would also read formats that nobody has checked.
_LOADERS: Final = {
    "png": pyvips.Image.pngload,
    "jpeg": pyvips.Image.jpegload,
    "webp": pyvips.Image.webpload,
}


async def uninterrupted(
    work: Callable[WorkP, ResultT], *args: WorkP.args, **kwargs: WorkP.kwargs
) -> ResultT:
    """Run `work` in a thread; a cancelled caller waits for its end, so that files stand still."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # nobody else will look at it
        raise


class InputFile(msgspec.Struct, frozen=True):
    """A file to send."""

    path: Path
    format: ImageFormat


class Inputs(msgspec.Struct, frozen=True):
    """All files of an edit."""

    pictures: tuple[InputFile, ...] = ()
    mask: InputFile | None = None


@asynccontextmanager
async def converted_inputs(
    profile: Profile, call: UpstreamCall, spool: Path
) -> AsyncIterator[Inputs]:
    """Give the files of a call, converted where the server does not read them as they are.

    Raises:
        UpstreamError: CLIENT, one of them cannot be read as a picture.
        OSError: a file cannot be read or written.
    """
    async with AsyncExitStack() as made:
        pictures = []
        for at, (blob, path) in enumerate(zip(call.inputs, call.input_paths, strict=True)):
            file = InputFile(path, blob.format)
            if blob.format not in profile.input_formats:
                target = spool.with_name(f"{spool.name}.input{at}")
                made.callback(target.unlink, missing_ok=True)
                file = await uninterrupted(_as_png, file, target)
            pictures.append(file)
        mask = None
        if call.mask is not None and call.mask_path is not None:
            mask = InputFile(call.mask_path, call.mask.format)
            if profile.mask == "white":
                target = spool.with_name(f"{spool.name}.mask")
                made.callback(target.unlink, missing_ok=True)
                mask = await uninterrupted(_as_white_mask, mask, target)
        yield Inputs(tuple(pictures), mask)


def auto_size(profile: Profile, first_input: BlobRef | None) -> str | None:
    """Return what `auto` is sent as: about `auto_edge` squared pixels, on a grid of 16.

    Args:
        profile: None is returned where it sends no size.
        first_input: an edit's first picture, whose ratio is kept; None for a generation.
    """
    edge = profile.auto_edge
    if not edge or (first_input is not None and not profile.auto_edits):
        return None
    if first_input is None:
        return f"{edge}x{edge}"
    ratio = min(3.0, max(1 / 3, first_input.width / first_input.height))
    width, height = (max(16, round(edge * share / 16) * 16) for share in (ratio**0.5, ratio**-0.5))
    return f"{width}x{height}"


def _as_png(source: InputFile, target: Path) -> InputFile:
    try:
        _opened(source).pngsave(str(target), compression=1)
    except pyvips.Error as error:
        raise _unreadable("image") from error
    return InputFile(target, "png")


def _as_white_mask(source: InputFile, target: Path) -> InputFile:
    """Turn "transparent is edited" into "white is edited", half-transparent into grey."""
    try:
        picture = _opened(source)
        if not picture.hasalpha():
            raise _unreadable("mask")
        alpha = picture.extract_band(picture.bands - 1)
        grey = alpha.cast("uchar", shift=alpha.format == "ushort").copy(interpretation="b-w")
        grey.invert().pngsave(str(target), compression=1)
    except pyvips.Error as error:
        raise _unreadable("mask") from error
    return InputFile(target, "png")


def _opened(source: InputFile) -> pyvips.Image:
    if not source.path.is_file():
        raise FileNotFoundError(source.path)
    # libvips remembers results by file name; a name may have been used before.
    load = _LOADERS[source.format]
    return load(str(source.path), access="sequential", fail_on="error", revalidate=True)


def _unreadable(param: str) -> UpstreamError:
    words = {
        "image": "An input image could not be decoded.",
        "mask": "The mask could not be decoded, or has no alpha channel.",
    }
    return UpstreamError(
        FaultClass.CLIENT, "invalid_image", words[param], param=param, final_status=400
    )
