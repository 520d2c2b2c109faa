"""A picture made small, so that it fills little of a model's context.

Owns the format of previews. A model is charged by pixels and a protocol message by bytes; the file
on disk keeps all of both. Blocking: call it in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_QUALITY = 80


@dataclass(frozen=True)
class Preview:
    """A small picture, ready to be sent."""

    data: bytes
    mime: str
    width: int
    height: int


def preview(path: Path, longest: int) -> Preview | None:
    """Return the picture with at most `longest` pixels on its longer side, never enlarged.

    JPEG, or PNG where it is transparent. None: it cannot be made small, which hides nothing, as
    the file itself was checked when it was saved.
    """
    import pyvips  # noqa: PLC0415 - loads libvips, which only a finished picture needs

    try:
        image = pyvips.Image.thumbnail(str(path), longest, height=longest, size="down")
        if image.hasalpha():
            data = image.pngsave_buffer(keep="none")
            return Preview(data, "image/png", image.width, image.height)
        data = image.jpegsave_buffer(Q=_QUALITY, keep="none")
    except pyvips.Error:
        return None
    return Preview(data, "image/jpeg", image.width, image.height)
