"""Posters drawn by rule: text in varied faces, sizes and colours on flat and on busy grounds.

Owns how a poster looks; the same seed draws the same poster. The words come from `phrases`.
"""

from __future__ import annotations

import math
import random
from html import escape
from pathlib import Path
from typing import Any

import pyvips

from safelight.upstreams.proof.fonts import load_fonts

SIZES = ((1024, 1024), (1280, 848), (848, 1280), (1820, 1024), (1536, 2048), (2048, 2048))
GROUNDS = ("flat", "gradient", "shapes", "grain", "photo")
WEIGHTS = ("Light", "Regular", "Medium", "Bold", "Black")

_FAMILIES = {
    "Latin": ("Noto Sans", "Noto Sans Italic", "Noto Sans CJK KR"),
    "Chinese": ("Noto Sans CJK SC",),
    "Japanese": ("Noto Sans CJK JP",),
    "Korean": ("Noto Sans CJK KR",),
    "Devanagari": ("Noto Sans Devanagari",),
    "Bengali": ("Noto Sans Bengali",),
}
_LANGUAGES = {
    "Latin": "en",
    "Chinese": "zh-cn",
    "Japanese": "ja",
    "Korean": "ko",
    "Devanagari": "hi",
    "Bengali": "bn",
}
_CONTRAST_MIN = 3.0


def poster(lines: tuple[str, ...], script: str, seed: str) -> Any:
    """Return the libvips image of a poster that carries the lines, each as a text of its own."""
    load_fonts()
    dice = random.Random(seed)
    width, height = dice.choice(SIZES)
    kind = dice.choice(GROUNDS)
    colours = _palette(dice)
    image = _ground(kind, width, height, colours, dice)
    ink = _readable(colours, dice, busy=kind in ("shapes", "photo"))
    plate = kind in ("shapes", "photo") and dice.random() < 0.5
    margin = round(width * dice.uniform(0.05, 0.1))
    top = height * dice.uniform(0.06, 0.3)
    align = dice.choice(("left", "centre"))
    for index, line in enumerate(lines):
        share = dice.uniform(0.45, 0.9) if index == 0 else dice.uniform(0.2, 0.5)
        mask = _set(line, script, width * share, height, dice)
        mask = mask if dice.random() < 0.8 else _turned(mask, dice)
        left = margin if align == "left" else (width - mask.width) // 2
        left = max(8, min(left, width - mask.width - 8))
        image = _printed(image, mask, left, round(top), ink, colours[0] if plate else None)
        top += mask.height + height * dice.uniform(0.05, 0.12)
        if top > height * 0.85:
            top = height * 0.02
    return image


def saved(image: Any, path: Path, seed: str) -> Path:
    """Write the poster as PNG, JPEG or WebP, by the seed; return the file."""
    suffix = random.Random(seed).choice((".png", ".jpg", ".webp"))
    path = path.with_suffix(suffix)
    if suffix == ".png":
        image.pngsave(str(path), compression=1)
    else:
        image.write_to_file(f"{path}[Q=85]")
    return path


def _set(line: str, script: str, width: float, height: int, dice: random.Random) -> Any:
    family = dice.choice(_FAMILIES[script])
    weight = "Bold" if family == "Noto Sans Italic" else dice.choice(WEIGHTS)
    spacing = dice.choice((0, 0, 0, 2000, 6000))
    size = 100.0
    body = f'<span lang="{_LANGUAGES[script]}" letter_spacing="{spacing}">{escape(line)}</span>'
    wide = pyvips.Image.text(body, font=f"{family} {weight} {size}", dpi=72).width
    size = max(26.0, min(size * width / wide, height * 0.22))
    return pyvips.Image.text(body, font=f"{family} {weight} {size:.1f}", dpi=72)


def _turned(mask: Any, dice: random.Random) -> Any:
    return mask.similarity(angle=dice.uniform(-4, 4), background=0)


def _printed(
    image: Any, mask: Any, left: int, top: int, ink: list[int], plate: list[int] | None
) -> Any:
    top = max(8, min(top, image.height - mask.height - 8))
    if plate is not None:
        pad = max(10, mask.height // 4)
        x, y = max(0, left - pad), max(0, top - pad)
        wide = min(image.width - x, mask.width + 2 * pad)
        high = min(image.height - y, mask.height + 2 * pad)
        board = pyvips.Image.black(wide, high, bands=3) + plate
        image = image.insert(board.cast("uchar"), x, y)
    layer = mask.embed(left, top, image.width, image.height)
    painted = (pyvips.Image.black(image.width, image.height, bands=3) + ink).cast("uchar")
    return layer.ifthenelse(painted, image, blend=True).copy_memory()


def _palette(dice: random.Random) -> list[list[int]]:
    """Return a ground and three further colours beside it."""
    dark = dice.random() < 0.5
    least, most = (0, 90) if dark else (165, 256)
    return [[dice.randrange(least, most) for _ in range(3)] for _ in range(4)]


def _readable(colours: list[list[int]], dice: random.Random, *, busy: bool) -> list[int]:
    """Return an ink that a person can read on all of the colours."""
    least = 4.5 if busy else _CONTRAST_MIN
    for _ in range(60):
        ink = [dice.randrange(256) for _ in range(3)]
        if min(_contrast(ink, one) for one in colours) >= least:
            return ink
    return [255] * 3 if _luminance(colours[0]) < 0.2 else [0] * 3


def _luminance(colour: list[int]) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [
        c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
        for c in colour
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def _contrast(one: list[int], other: list[int]) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _ground(
    kind: str, width: int, height: int, colours: list[list[int]], dice: random.Random
) -> Any:
    plain = (pyvips.Image.black(width, height, bands=3) + colours[0]).cast("uchar")
    if kind == "flat":
        return plain
    if kind == "gradient":
        ramp = pyvips.Image.xyz(width, height)[1] / height
        return _mixed(plain, colours[1], ramp)
    if kind == "grain":
        noise = pyvips.Image.gaussnoise(width, height, sigma=14, mean=0, seed=dice.randrange(1000))
        return (plain + noise).cast("uchar").copy_memory()
    if kind == "shapes":
        return _shapes(plain, colours, dice)
    return _photo(plain, colours, dice)


def _mixed(plain: Any, colour: list[int], share: Any) -> Any:
    return (plain * (1 - share) + share.bandjoin([share, share]) * colour).cast("uchar")


def _shapes(plain: Any, colours: list[list[int]], dice: random.Random) -> Any:
    image = plain
    for _ in range(dice.randrange(8, 22)):
        colour = dice.choice(colours[1:])
        x, y = dice.randrange(plain.width), dice.randrange(plain.height)
        reach = dice.randrange(30, max(40, plain.width // 4))
        if dice.random() < 0.5:
            image = image.draw_circle(colour, x, y, reach // 2, fill=True)
        else:
            image = image.draw_rect(colour, x, y, reach, max(6, reach // 3), fill=True)
    return image.copy_memory()


def _photo(plain: Any, colours: list[list[int]], dice: random.Random) -> Any:
    """Return clouds of the palette's colours: as busy as a photo out of focus, with sharp grain."""
    width, height = plain.width, plain.height
    image = plain
    for index, colour in enumerate(colours[1:]):
        cell = 2 ** dice.randrange(5, 9)
        clouds = pyvips.Image.perlin(width, height, cell_size=cell, seed=dice.randrange(9999))
        share = ((clouds + 1) / 2) ** (1 + index / 2)
        image = _mixed(image, colour, share)
    waves = pyvips.Image.sines(width, height, hfreq=dice.uniform(3, 20), vfreq=math.pi) * 6
    return (image + waves).cast("uchar").copy_memory()
