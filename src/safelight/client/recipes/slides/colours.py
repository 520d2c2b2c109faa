"""An accent colour that goes with the pictures of a deck.

Owns the choice: the strongest hue of a picture, at a lightness on which white type is readable.
Lightness, chroma and hue are those of CIE LCh(ab), D65.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

_GREY_CHROMA = 8.0
_BINS = 36
_EDGE = 64


@dataclass(frozen=True)
class Colours:
    """The colours of a deck, as RRGGBB. White on `deep` has a contrast of 10:1 or more."""

    accent: str
    deep: str
    tint: str


PLAIN = Colours(accent="B3261E", deep="3B1512", tint="F6F2EF")
"""Where pictures have no hue, or there are none."""


def colours_of(picture: Path | None) -> Colours:
    """Return colours that go with a picture.

    Raises:
        OSError: it cannot be read.
    """
    if picture is None:
        return PLAIN
    found = _strongest(picture)
    if found is None:
        return PLAIN
    hue, chroma = found
    return Colours(
        accent=_hex(46.0, min(max(chroma, 38.0), 62.0), hue),
        deep=_hex(19.0, min(max(chroma * 0.5, 14.0), 28.0), hue),
        tint=_hex(96.5, 2.5, hue),
    )


def _strongest(picture: Path) -> tuple[float, float] | None:
    """Return hue in degrees and mean chroma of the hue that has most colour in the picture."""
    import pyvips  # noqa: PLC0415 - loaded late

    try:
        small = pyvips.Image.thumbnail(str(picture), _EDGE, height=_EDGE, export_profile="srgb")
        if small.hasalpha():
            small = small.flatten(background=[255, 255, 255])
        pixels = memoryview(small.colourspace("lch").cast("float").write_to_memory()).cast("f")
    except pyvips.Error as error:
        raise OSError(f"{picture}: not readable as a picture: {error}") from error
    weight, count = [0.0] * _BINS, [0] * _BINS
    for at in range(0, len(pixels), 3):
        chroma, hue = pixels[at + 1], pixels[at + 2]
        if chroma >= _GREY_CHROMA:
            where = int(hue / 360 * _BINS) % _BINS
            weight[where] += chroma
            count[where] += 1
    best = max(range(_BINS), key=lambda at: weight[at])
    if count[best] * 200 < len(pixels) / 3:
        return None
    return (best + 0.5) * 360 / _BINS, weight[best] / count[best]


def _hex(lightness: float, chroma: float, hue: float) -> str:
    """Return an sRGB colour as RRGGBB; chroma is lowered until the colour exists in sRGB."""
    while chroma > 0:
        channels = _srgb(lightness, chroma, hue)
        if all(-0.001 <= one <= 1.001 for one in channels):
            break
        chroma -= 1.0
    else:
        channels = _srgb(lightness, 0.0, hue)
    return "".join(f"{round(min(max(one, 0.0), 1.0) * 255):02X}" for one in channels)


def _srgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Convert LCh(ab) to sRGB (IEC 61966-2-1), channels 0 to 1, unclipped."""
    fy = (lightness + 16) / 116
    fx = fy + chroma * math.cos(math.radians(hue)) / 500
    fz = fy - chroma * math.sin(math.radians(hue)) / 200
    x, y, z = 0.95047 * _cubed(fx), _cubed(fy), 1.08883 * _cubed(fz)
    return (
        _gamma(3.2406 * x - 1.5372 * y - 0.4986 * z),
        _gamma(-0.9689 * x + 1.8758 * y + 0.0415 * z),
        _gamma(0.0557 * x - 0.2040 * y + 1.0570 * z),
    )


def _cubed(part: float) -> float:
    return part**3 if part > 6 / 29 else 3 * (6 / 29) ** 2 * (part - 4 / 29)


def _gamma(linear: float) -> float:
    if linear <= 0.0031308:
        return 12.92 * linear
    return 1.055 * math.pow(linear, 1 / 2.4) - 0.055
