"""How gates look at a picture's pixels.

Owns opening, flattening and shrinking with libvips, which is loaded at the first picture. Decides
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safelight.client.gates.verdict import Verdict

WHITE = 255
BLACK = 0


class Unreadable(Exception):
    """The file is no picture, or a broken one; the message says what libvips found."""


def opened(picture: Path) -> Any:
    """Return the picture's libvips image; only its header has been read.

    Raises:
        Unreadable: it is missing, or no picture.
    """
    import pyvips  # noqa: PLC0415  (a tenth of a second: not for `safelight --help`)

    try:
        return pyvips.Image.new_from_file(str(picture), fail_on="error")
    except pyvips.Error as error:
        raise Unreadable(_first_line(error)) from error


def small(picture: Path, width: int, height: int) -> Any:
    """Return the whole picture squeezed into `width` x `height` pixels of sRGB, alpha kept.

    Raises:
        Unreadable: it is missing, or no picture.
    """
    import pyvips  # noqa: PLC0415  (as above)

    try:
        shrunk = pyvips.Image.thumbnail(
            str(picture), width, height=height, size="force", fail_on="error"
        )
        return coloured(shrunk).copy_memory()
    except pyvips.Error as error:
        raise Unreadable(_first_line(error)) from error


def coloured(image: Any) -> Any:
    """Return the image in 8-bit sRGB, with its alpha if it has one."""
    if image.interpretation != "srgb":
        image = image.colourspace("srgb")
    return image if image.format == "uchar" else image.cast("uchar")


def flat(image: Any, level: int = WHITE) -> Any:
    """Return the image without alpha, laid on grey of this level."""
    if not image.hasalpha():
        return image
    return image.flatten(background=[level] * (image.bands - 1)).cast("uchar")


def rows(image: Any) -> list[Sequence[int]]:
    """Return a small one-band image as rows of levels."""
    data = bytes(image.cast("uchar").write_to_memory())
    return [data[start : start + image.width] for start in range(0, len(data), image.width)]


def judged(gate: str, measure: Callable[[], Verdict]) -> Verdict:
    """Return what `measure` says; a file that cannot be read fails the gate with that reason."""
    import pyvips  # noqa: PLC0415  (as above)

    try:
        return measure()
    except (Unreadable, OSError) as error:
        return _unreadable(gate, str(error))
    except pyvips.Error as error:  # pixels are decoded late: a cut file is found out by then
        return _unreadable(gate, _first_line(error))


def _unreadable(gate: str, why: str) -> Verdict:
    return Verdict(gate, passed=False, reason=f"cannot be read as a picture: {why}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
