"""Which sizes exist, which of them the vendor makes, and how the others get their exact pixels.

Owns the vendor's size rules, the table of named sizes, reading a size as people write it, the price
tiers and the size planner. Owns no channel policy (channels.py) and touches no pixels (images.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import msgspec

from safelight.errors import InvalidValue
from safelight.types import PlanMethod, SizePlan

Tier = Literal["1K", "2K", "4K"]
TIERS: tuple[Tier, ...] = ("1K", "2K", "4K")

# What gpt-image-2 draws (OpenAI image generation guide, "size"). All bounds are inclusive.
GRID = 16
EDGE_MAX = 3840
RATIO_MAX = 3
PIXELS_MIN = 655_360
PIXELS_MAX = 8_294_400

TIER_1K_PIXELS_MAX = 2_000_000
TIER_2K_EDGE_MIN = 2048
TIER_2K_PIXELS_MAX = 2048 * 2048

# Bounds of the planner, as fractions (numerator, denominator), so that no float decides.
UPSCALE_MAX = (3, 2)
"""A picture is enlarged by at most this factor; beyond it the detail would be invented."""
RATIO_TOLERANCE = (1, 200)
"""A resample may stretch one edge against the other by at most this share: not visible."""
CROP_LOSS_MAX = (1, 16)
"""A crop may cut away at most this share of the canvas, or the composition suffers."""
CROP_LOSS_MAX_BEYOND_RATIO = (1, 4)
"""The same for banners longer than 3:1: nothing but a crop can make them."""


class NamedSize(msgspec.Struct, frozen=True):
    """One row of the table: `name` is `WxH`. `published` names answer to `ratio@tier`."""

    name: str
    width: int
    height: int
    ratio: str
    tier: Tier
    published: bool = True


# Ten ratios in three tiers, as the supplier of the vip model publishes them.
_PUBLISHED: dict[str, tuple[str, str, str]] = {
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
# Five further sizes that users were promised by name.
_ALSO_NAMED: tuple[tuple[str, str, Tier], ...] = (
    ("1024x1024", "1:1", "1K"),
    ("1820x1024", "16:9", "1K"),
    ("1820x780", "21:9", "1K"),
    ("3840x1640", "21:9", "4K"),
    ("2880x3840", "3:4", "4K"),
)

_PIXELS = re.compile(r"([1-9][0-9]{0,4})\s*[xX\u00d7]\s*([1-9][0-9]{0,4})")
_RATIO_TIER = re.compile(r"([1-9][0-9]?)\s*:\s*([1-9][0-9]?)\s*@\s*([124][kK])")


def dimensions(size: str) -> tuple[int, int]:
    """Return the edges of a canonical `WxH`."""
    width, height = size.split("x")
    return int(width), int(height)


def _table() -> Iterator[NamedSize]:
    for ratio, names in _PUBLISHED.items():
        for tier, name in zip(TIERS, names, strict=True):
            yield NamedSize(name, *dimensions(name), ratio, tier)
    for name, ratio, tier in _ALSO_NAMED:
        yield NamedSize(name, *dimensions(name), ratio, tier, published=False)


TABLE: tuple[NamedSize, ...] = tuple(_table())
"""The 35 named sizes: ten ratios in three tiers, then the five further names."""
SIZES_BY_NAME: dict[str, NamedSize] = {size.name: size for size in TABLE}
RATIOS: tuple[str, ...] = tuple(_PUBLISHED)
_BY_RATIO_AND_TIER: dict[tuple[str, str], str] = {
    (size.ratio, size.tier): size.name for size in TABLE if size.published
}


def parse_size(text: str) -> str:
    """Return a size as people write it in canonical form: `WxH` or `auto`.

    Reads `2048x1152` (also with a capital X, a multiplication sign or spaces), `16:9@2K` (the
    published table) and `auto`. Whether a channel takes the size is not asked here.

    Raises:
        InvalidValue: on `size`, saying which forms are read.
    """
    stripped = text.strip()
    if stripped.lower() == "auto":
        return "auto"
    if match := _PIXELS.fullmatch(stripped):
        return f"{match[1]}x{match[2]}"
    if match := _RATIO_TIER.fullmatch(stripped):
        name = _BY_RATIO_AND_TIER.get((f"{match[1]}:{match[2]}", match[3].upper()))
        if name is None:
            raise invalid_size(text, f"The ratios that have a tier are {', '.join(RATIOS)}.")
        return name
    raise invalid_size(
        text,
        "Write WIDTHxHEIGHT such as 2048x1152, ratio@tier such as 16:9@2K, or auto. The sizes with "
        f"names are {', '.join(SIZES_BY_NAME)}; GET /v1/sizes shows what each model takes.",
    )


def invalid_size(text: str, advice: str) -> InvalidValue:
    """Return the error for a size that is not taken: OpenAI's first sentence, then our advice."""
    shown = text if len(text) <= 40 else f"{text[:40]}\u2026"
    return InvalidValue(f"Invalid size {shown!r}. {advice}", param="size")


def why_illegal(width: int, height: int) -> str | None:
    """Return the vendor's rule that the size breaks, as a sentence, or None when it is legal."""
    if width % GRID or height % GRID:
        return f"Width and height must both be divisible by {GRID}."
    if max(width, height) > EDGE_MAX:
        return f"The longest edge must be at most {EDGE_MAX} pixels."
    if max(width, height) > RATIO_MAX * min(width, height):
        return f"The ratio of the edges must be at most {RATIO_MAX}:1."
    if width * height < PIXELS_MIN:
        return f"A picture has at least {PIXELS_MIN:,} pixels."
    if width * height > PIXELS_MAX:
        return f"A picture has at most {PIXELS_MAX:,} pixels."
    return None


def is_legal(width: int, height: int) -> bool:
    """Return whether the vendor draws exactly this size."""
    return why_illegal(width, height) is None


def tier_of(width: int, height: int) -> Tier:
    """Return the price tier of a size.

    1K: up to 2,000,000 pixels with every edge below 2048. 2K: otherwise up to 2048 x 2048 pixels.
    4K: more. So the table's names get the tier they are published under, and growing an edge
    never lowers the tier.
    """
    pixels = width * height
    if pixels <= TIER_1K_PIXELS_MAX and max(width, height) < TIER_2K_EDGE_MIN:
        return "1K"
    return "2K" if pixels <= TIER_2K_PIXELS_MAX else "4K"


def _up(pixels: int) -> int:
    return -(-pixels // GRID) * GRID


def _down(pixels: int) -> int:
    return pixels // GRID * GRID


def _columns() -> Iterator[tuple[int, int, int]]:
    """Yield every legal width with its least and greatest legal height."""
    for width in range(GRID, EDGE_MAX + 1, GRID):
        least = max(_up(-(-width // RATIO_MAX)), _up(-(-PIXELS_MIN // width)))
        greatest = min(EDGE_MAX, RATIO_MAX * width, _down(PIXELS_MAX // width))
        if least <= greatest:
            yield width, least, greatest


# All legal canvases in some two hundred rows: every search below is one short loop over them.
_COLUMNS = tuple(_columns())


def nearest_legal(width: int, height: int) -> tuple[int, int]:
    """Return the legal size whose edges are nearest to the given ones (for advice)."""
    sizes = [
        (column, min(max(_down(height + GRID // 2), least), greatest))
        for column, least, greatest in _COLUMNS
    ]
    return min(sizes, key=lambda size: (size[0] - width) ** 2 + (size[1] - height) ** 2)


def _covering_canvas(width: int, height: int) -> tuple[int, int] | None:
    """Return the legal canvas of fewest pixels that covers the size, or None."""
    canvases = [
        (column, max(least, _up(height)))
        for column, least, greatest in _COLUMNS
        if column >= width and _up(height) <= greatest
    ]
    # Of two canvases with as many pixels the one nearer in ratio loses less of the picture's shape.
    return min(
        canvases, key=lambda c: (c[0] * c[1], abs(c[0] * height - c[1] * width)), default=None
    )


def _crop_is_bearable(canvas: tuple[int, int], width: int, height: int) -> bool:
    beyond_ratio = max(width, height) > RATIO_MAX * min(width, height)
    part, whole = CROP_LOSS_MAX_BEYOND_RATIO if beyond_ratio else CROP_LOSS_MAX
    pixels = canvas[0] * canvas[1]
    return (pixels - width * height) * whole <= pixels * part


def _resample_canvas(width: int, height: int) -> tuple[int, int] | None:
    """Return the legal canvas of the same ratio to scale from, or None.

    The exact ratio is taken where it exists on the grid, else one within the tolerance. Large
    sizes are enlarged from the largest such canvas; sizes below the vendor's least number of
    pixels are reduced from the smallest.
    """
    canvases = [
        (column, row)
        for column, least, greatest in _COLUMNS
        for row in {_down(column * height // width), _up(-(-column * height // width))}
        if least <= row <= greatest
    ]
    choose = min if width * height < PIXELS_MIN else max
    for part, whole in ((0, 1), RATIO_TOLERANCE):
        found = [
            (column, row)
            for column, row in canvases
            if abs(column * height - row * width) * whole <= row * width * part
            and width * UPSCALE_MAX[1] <= column * UPSCALE_MAX[0]
            and height * UPSCALE_MAX[1] <= row * UPSCALE_MAX[0]
        ]
        if found:
            return choose(found, key=lambda canvas: canvas[0] * canvas[1])
    return None


@lru_cache(maxsize=1024)
def plan_size(width: int, height: int) -> SizePlan:
    """Return how exactly `width` x `height` pixels are made.

    A legal size is asked for as it is. Else the smallest legal canvas that covers it is asked for
    and its centre cut out, if little is lost. Else a legal canvas of the same ratio is asked for
    and resampled (Lanczos): 2880x3840 from 2448x3264.

    Raises:
        InvalidValue: on `size`: no legal canvas is near enough.
    """
    if is_legal(width, height):
        return SizePlan(PlanMethod.NATIVE, width, height, width, height)
    covering = _covering_canvas(width, height)
    if covering is not None and _crop_is_bearable(covering, width, height):
        return SizePlan(PlanMethod.CROP, width, height, *covering)
    canvas = _resample_canvas(width, height)
    if canvas is not None:
        return SizePlan(PlanMethod.RESAMPLE, width, height, *canvas)
    nearest = "{}x{}".format(*nearest_legal(width, height))
    raise invalid_size(
        f"{width}x{height}",
        "It can neither be cut out of a canvas that the vendor draws nor be enlarged from one by "
        f"{UPSCALE_MAX[0] / UPSCALE_MAX[1]} or less. The nearest size that is drawn is {nearest}.",
    )
