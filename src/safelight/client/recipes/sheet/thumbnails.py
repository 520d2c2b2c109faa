"""Small pictures for a contact sheet, made with libvips.

Owns sizes and formats; a picture that cannot be read any more is the caller's error.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MANY = 200
"""A sheet with more pictures has smaller thumbnails, so that the file stays easy to send."""
_QUALITY = 82


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG, and its pixels: browsers show it, and it goes into a PDF unchanged."""

    data: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a `data:` address, for a file that needs no other."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode('ascii')}"


def thumbnails(paths: Sequence[Path]) -> Mapping[Path, Thumbnail]:
    """Return the thumbnail of each picture, on white where the picture is transparent.

    Raises:
        OSError: a file cannot be read as a picture.
    """
    edge = 640 if len(paths) <= MANY else 320
    return {path: _thumbnail(path, edge) for path in dict.fromkeys(paths)}


def _thumbnail(path: Path, edge: int) -> Thumbnail:
    import pyvips  # noqa: PLC0415 - loaded late: `safelight --help` must stay quick

    try:
        small = pyvips.Image.thumbnail(
            str(path), edge, height=edge, size="down", export_profile="srgb"
        )
        if small.hasalpha():
            small = small.flatten(background=[255, 255, 255])
        data = small.write_to_buffer(f".jpg[Q={_QUALITY},optimize-coding]")
    except pyvips.Error as error:
        raise OSError(f"{path}: not readable as a picture any more: {error}") from error
    return Thumbnail(data, small.width, small.height)
