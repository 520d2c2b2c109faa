"""Colour arithmetic: hex strings, Oklab and Oklch, contrast.

Owns the mathematics only; which colours a picture has is `palette.py`. Conversions follow
Björn Ottosson, "A perceptual color space for image processing" (Oklab); contrast follows WCAG 2.2,
"relative luminance" and "contrast ratio".
"""

from __future__ import annotations

import math

Rgb = tuple[float, float, float]
"""Red, green, blue, each 0..255, sRGB-encoded."""


def parse_hex(text: str) -> Rgb:
    """Return the colour of `#rrggbb` or `#rgb`."""
    digits = text.lstrip("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue = (float(int(digits[at : at + 2], 16)) for at in (0, 2, 4))
    return (red, green, blue)


def to_hex(colour: Rgb) -> str:
    """Return `#rrggbb`, clamped to the sRGB cube."""
    return "#" + "".join(f"{min(255, max(0, round(part))):02x}" for part in colour)


def _linear(part: float) -> float:
    value = part / 255
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _encoded(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 255 * (value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055)


def to_oklab(colour: str) -> tuple[float, float, float]:
    """Return lightness 0..1 and the two colour axes of a hex colour."""
    red, green, blue = (_linear(part) for part in parse_hex(colour))
    long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
    medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def from_oklab(lightness: float, first: float, second: float) -> str:
    """Return the hex colour of an Oklab triple, clamped to sRGB."""
    long = (lightness + 0.3963377774 * first + 0.2158037573 * second) ** 3
    medium = (lightness - 0.1055613458 * first - 0.0638541728 * second) ** 3
    short = (lightness - 0.0894841775 * first - 1.2914855480 * second) ** 3
    return to_hex(
        (
            _encoded(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
            _encoded(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
            _encoded(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
        )
    )


def to_oklch(colour: str) -> tuple[float, float, float]:
    """Return lightness 0..1, chroma (about 0..0.3) and hue in degrees."""
    lightness, first, second = to_oklab(colour)
    return lightness, math.hypot(first, second), math.degrees(math.atan2(second, first)) % 360


def from_oklch(lightness: float, chroma: float, hue: float) -> str:
    """Return the hex colour; chroma is reduced until the colour exists in sRGB."""
    angle = math.radians(hue)
    while chroma > 0.004:
        found = from_oklab(lightness, chroma * math.cos(angle), chroma * math.sin(angle))
        back = to_oklch(found)
        if abs(back[0] - lightness) < 0.012 and abs(back[1] - chroma) < 0.012:
            return found
        chroma *= 0.93
    return from_oklab(lightness, 0.0, 0.0)


def mix(start: str, end: str, share: float) -> str:
    """Return the colour `share` (0..1) of the way from `start` to `end`, in Oklab."""
    one, two = to_oklab(start), to_oklab(end)
    return from_oklab(
        one[0] + (two[0] - one[0]) * share,
        one[1] + (two[1] - one[1]) * share,
        one[2] + (two[2] - one[2]) * share,
    )


def shade(colour: str, lightness: float, chroma_scale: float = 1.0, turn: float = 0.0) -> str:
    """Return the colour's hue, turned by degrees, at another lightness and scaled chroma."""
    _, chroma, hue = to_oklch(colour)
    return from_oklch(lightness, chroma * chroma_scale, hue + turn)


def luminance(colour: Rgb) -> float:
    """Return WCAG relative luminance, 0 (black) to 1 (white)."""
    red, green, blue = (_linear(part) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, two: float) -> float:
    """Return the WCAG contrast ratio, 1..21, of two relative luminances."""
    lighter, darker = max(one, two), min(one, two)
    return (lighter + 0.05) / (darker + 0.05)
