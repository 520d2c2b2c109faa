"""Input pictures and masks in the forms that a server reads, in files beside the spool.

Owns the conversions and the life of the files: they are named `<spool>.input<n>` and `<spool>.mask`
and are gone when the call is over, also after a cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from safelight.types import BlobRef, ImageFormat, UpstreamCall
from safelight.upstreams.profiles import Profile

WorkP = ParamSpec("WorkP")
ResultT = TypeVar("ResultT")


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


# libvips takes 9 MB and a moment to load: with the first picture that needs it.


def _as_png(source: InputFile, target: Path) -> InputFile:
    from safelight.upstreams.converting import write_png  # noqa: PLC0415

    write_png(source.path, source.format, target)
    return InputFile(target, "png")


def _as_white_mask(source: InputFile, target: Path) -> InputFile:
    from safelight.upstreams.converting import write_white_mask  # noqa: PLC0415

    write_white_mask(source.path, source.format, target)
    return InputFile(target, "png")
