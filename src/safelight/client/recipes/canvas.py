"""Which size a picture is ordered in that shall look like another one.

Owns the choice of the nearest size: the shape first, as a wrong one moves a layout, then the
resolution. The named sizes are those of `gpt-image-2-vip` as it ships (README, "Sizes"); `--size`
stands above the choice where a gateway was set up otherwise.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from safelight.client.orders import DEFAULT_MODEL
from safelight.client.recipes.errors import BadRecipe

_TIERS = ("1K", "2K", "4K")
_BY_RATIO = {
    "1:1": ("1280x1280", "2048x2048", "2880x2880"),
    "2:3": ("848x1280", "1360x2048", "2336x3520"),
    "3:2": ("1280x848", "2048x1360", "3520x2336"),
    "3:4": ("960x1280", "1536x2048", "2480x3312"),
    "4:3": ("1280x960", "2048x1536", "3312x2480"),
    "4:5": ("1024x1280", "1632x2048", "2560x3216"),
    "5:4": ("1280x1024", "2048x1632", "3216x2560"),
    "9:16": ("720x1280", "1152x2048", "2160x3840"),
    "16:9": ("1280x720", "2048x1152", "3840x2160"),
    "21:9": ("1280x544", "2048x864", "3840x1632"),
}
NAMED = (
    *(name for names in _BY_RATIO.values() for name in names),
    *("1024x1024", "1820x1024", "1820x780", "3840x1640", "2880x3840"),
)
ANY_SIZE = frozenset({"gpt-image-2"})
"""Channels that take any size which the model draws, as they ship."""
SAME_SHAPE = 0.015
"""Shapes that differ by less are the same to the eye: the table itself rounds to a grid of 16."""


def size_of(path: Path, option: str) -> tuple[int, int]:
    """Return the pixels of a picture as it is seen, its orientation applied.

    Args:
        path: the picture.
        option: what named it, for the message.

    Raises:
        BadRecipe: there is no such file, or it is no picture.
    """
    import pyvips  # noqa: PLC0415 - loaded late: `safelight --help` must stay quick

    if not path.is_file():
        raise BadRecipe(f"{option}: there is no such file", file=path)
    try:
        picture = pyvips.Image.new_from_file(str(path)).autorot()
    except pyvips.Error:
        raise BadRecipe(f"{option}: this is no picture that can be read", file=path) from None
    return picture.width, picture.height


def pixels_of(size: str) -> str | None:
    """Return the `WIDTHxHEIGHT` that a size promises; None for `auto`, which promises none.

    Args:
        size: `2048x1152`, `16:9@2K` or `auto`.

    Raises:
        BadRecipe: none of these.
    """
    size = size.strip().lower().replace("×", "x")  # noqa: RUF001 - people paste the sign
    if size == "auto":
        return None
    ratio, at, tier = size.partition("@")
    if at and ratio in _BY_RATIO and tier.upper() in _TIERS:
        return _BY_RATIO[ratio][_TIERS.index(tier.upper())]
    if re.fullmatch(r"[1-9]\d{1,4}x[1-9]\d{1,4}", size):
        return size
    raise BadRecipe(f"--size: {size!r} is no size: write 2048x1152, 16:9@2K or auto")


def nearest(width: int, height: int, model: str = DEFAULT_MODEL) -> str:
    """Return the size of a channel that is most like these pixels; the same one if it has it."""
    name = f"{width}x{height}"
    if name in NAMED or (model in ANY_SIZE and _drawn(width, height)):
        return name
    return min(NAMED, key=lambda candidate: _distance(candidate, width, height))


def _drawn(width: int, height: int) -> bool:
    """Return whether the model draws this size (OpenAI image generation guide, "size")."""
    short, long = sorted((width, height))
    on_grid = width % 16 == 0 and height % 16 == 0
    return on_grid and long <= 3840 and long <= 3 * short and 655_360 <= width * height <= 8_294_400


def _distance(candidate: str, width: int, height: int) -> tuple[float, float]:
    """Return how far a size is off: first in shape, in steps of `SAME_SHAPE`, then in area."""
    wide, high = (int(edge) for edge in candidate.split("x"))
    shape = abs(math.log((wide / high) / (width / height)))
    area = math.log((wide * high) / (width * height))
    # Too few pixels lose detail of the base, too many only cost time.
    return round(shape / SAME_SHAPE), abs(area) * (3 if area < 0 else 1)
