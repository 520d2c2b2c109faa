"""What else an input picture may be for: a product to be shown, or a style to be kept.

Owns which edits are product shots, and which take a picture for its style alone; the cutting out
of a plain ground; the settings (places that a prompt names, else a studio) and where the product
stands in them. Words are `sheet.py`'s business.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from safelight.upstreams.proof import pictures
from safelight.upstreams.proof.brief import Brief
from safelight.upstreams.proof.colour import mix
from safelight.upstreams.proof.drawing import Drawing, circle, ellipse, line_path, path, rect
from safelight.upstreams.proof.palette import (
    CURATED,
    Palette,
    choose_palette,
    named_colours,
    named_moods,
)
from safelight.upstreams.proof.raster import Raster
from safelight.upstreams.proof.scenes_land import city, landscape, sea
from safelight.upstreams.proof.scenes_plant import botanical
from safelight.upstreams.proof.scenes_print import arcs, tiles
from safelight.upstreams.proof.words import word_table

# A prompt that speaks of these asks for a product shot; one that names a print asks for its layout.
_ASKED = word_table("""
product: product products packshot | 产品 產品 商品 製品 제품 상품 उत्पाद পণ্য
print: poster flyer banner cover slide infographic | 海报 海報 ポスター 포스터
""")
_PLACES = word_table("""
city: city street streets urban asphalt skyline | 城市 街 도시
sea: sea ocean beach wave waves foam water ripples surf | 海 波 바다
landscape: mountain mountains hill hills forest desert dunes dune snow sunset terrace mist |
  山 森 산
botanical: leaf leaves branches blossom petals flower flowers garden fern plant | 花 葉 꽃
tiles: terrazzo mosaic geometry pattern grid confetti | 图案
arcs: retro seventies rainbow record | 复古
""")
_SCENES: dict[str, Callable[[Drawing], object]] = {
    "city": city,
    "sea": sea,
    "landscape": landscape,
    "botanical": botanical,
    "tiles": tiles,
    "arcs": arcs,
}
_EVEN = 6
"""Of 255: what differs less from the corners belongs to a plain ground."""
_SHARE = (0.03, 0.85)
"""How much of the picture a product covers; less or more is no product on a plain ground."""
FLOOR = 0.7
"""Where the floor is, as a share of the height."""


_STYLE = re.compile(
    r"\b(?:new|different|another) (?:motif|composition|subject|scene)\b"
    r"|\bstyle reference\b|\bsame series\b|\bstyle of the attached\b"
    r"|风格参考|新的构图|スタイル参照|別の構図|스타일 참고"
)


def is_style(brief: Brief) -> bool:
    """Return whether the prompt takes its picture for the style alone: the motif is to be new."""
    return _STYLE.search(brief.subject) is not None


def product_of(brief: Brief, image: Raster) -> Raster | None:
    """Return the product of a picture if the prompt asks for a product shot, else None.

    It is cut out where it stands on a plain or transparent ground; else it is the whole picture.
    """
    asked = {entry.name for entry in _ASKED if entry.count(brief.subject)}
    if asked != {"product"}:
        return None
    if pictures.is_cutout(image):
        return _trimmed(image)
    flat = image.flatten(background=255) if image.hasalpha() else image
    return _without_ground(flat) or flat


def _without_ground(image: Raster) -> Raster | None:
    """Return what stands on a plain ground, with the ground's pixels transparent."""
    width, height = image.width, image.height
    corners = [image(x, y) for x in (1, width - 2) for y in (1, height - 2)]
    ground = corners[0]
    if any(
        abs(one - two) > _EVEN
        for corner in corners
        for one, two in zip(corner, ground, strict=True)
    ):
        return None
    even = ((image - ground).abs().bandor() <= _EVEN).ifthenelse(255, 0).cast("uchar")
    # A frame of ground around it joins the corners, so that one fill finds all that is outside.
    framed = even.embed(1, 1, width + 2, height + 2, extend="background", background=[255])
    filled = framed.copy_memory().draw_flood(128, 0, 0, equal=True)
    outside = (filled == 128).crop(1, 1, width, height)
    share = 1 - outside.avg() / 255
    if not _SHARE[0] <= share <= _SHARE[1]:
        return None
    soft = outside.invert().gaussblur(0.8, precision="approximate").cast("uchar")
    return _trimmed(image[0:3].bandjoin(soft).copy(interpretation="srgb"))


def _trimmed(image: Raster) -> Raster:
    left, top, width, height = image[image.bands - 1].find_trim(threshold=8, background=[0])
    return image.crop(left, top, width, height) if width and height else image


def draw_setting(d: Drawing) -> None:
    """Draw the place that the prompt names, else a studio."""
    best = max(_PLACES, key=lambda entry: entry.count(d.subject))
    if best.count(d.subject):
        _SCENES[best.name](d)
    else:
        _studio(d)


def _studio(d: Drawing) -> None:
    """Draw a wall and a floor, and one thing behind the product."""
    p = d.palette
    floor = d.height * FLOOR * d.chance.uniform(0.84, 0.95)
    wall = mix(p.ground, d.chance.choice((p.main, p.second, p.accent)), d.chance.uniform(0.1, 0.55))
    lit = mix(wall, p.light, 0.12 if p.dark else 0.45)
    left, right = (lit, wall) if d.chance.random() < 0.5 else (wall, lit)
    d.back(d.across(0, d.width, left, right))
    ground = mix(wall, d.chance.choice((p.deep, p.second, p.light)), d.chance.uniform(0.15, 0.4))
    d.plate.append(
        rect(
            0,
            floor,
            d.width,
            d.height - floor,
            d.down(floor, d.height, ground, mix(ground, p.light, 0.2)),
        )
    )
    d.chance.choice((_arch, _disc, _steps, _blinds, _corner, _beam))(d, floor)


def _arch(d: Drawing, floor: float) -> None:
    x, wide = d.width * d.chance.uniform(0.3, 0.7), d.unit * d.chance.uniform(18, 30)
    top = floor - d.unit * d.chance.uniform(34, 52)
    colour = d.down(top - wide, floor, mix(d.palette.main, d.palette.ground, 0.2), d.palette.main)
    d.plate += [
        circle(x, top, wide, colour),
        rect(x - wide, top, 2 * wide, floor - top, colour),
    ]


def _disc(d: Drawing, floor: float) -> None:
    x, y = d.width * d.chance.uniform(0.28, 0.72), floor - d.unit * d.chance.uniform(14, 40)
    radius = d.unit * d.chance.uniform(22, 34)
    d.plate.append(
        circle(x, y, radius, d.down(y - radius, y + radius, d.palette.accent, d.palette.second))
    )


def _steps(d: Drawing, floor: float) -> None:
    towards = d.chance.choice((-1, 1))
    for at in range(4):
        wide, tall = d.width * 0.2, d.unit * (8 + 11 * at)
        x = d.width * (0.5 - 0.4 * towards) + towards * at * wide - (wide if towards < 0 else 0)
        colour = mix(d.palette.second, d.palette.main, at / 3)
        d.plate.append(rect(x, floor - tall, wide, tall, mix(colour, d.palette.light, 0.25)))


def _blinds(d: Drawing, floor: float) -> None:
    tilt = d.unit * d.chance.uniform(10, 30) * d.chance.choice((-1, 1))
    across, count = d.width * 0.62, d.chance.randint(5, 8)
    left, step = d.width * d.chance.uniform(0.05, 0.33), floor / 9
    for at in range(count):
        y = step * (at + 0.7)
        corners = [(left, y + tilt), (left + across, y), (left + across, y + step * 0.55)]
        corners.append((left, y + tilt + step * 0.55))
        d.plate.append(path(line_path(corners, closed=True), d.palette.light, opacity=0.55))


def _corner(d: Drawing, floor: float) -> None:
    x = d.width * d.chance.uniform(0.25, 0.75)
    side = mix(d.palette.main, d.palette.deep, d.chance.uniform(0, 0.35))
    corners = [(x, 0), (d.width, 0), (d.width, floor + d.unit * 16), (x, floor)]
    d.plate.append(path(line_path([*corners], closed=True), side, opacity=0.8))


def _beam(d: Drawing, floor: float) -> None:
    x, away = d.width * d.chance.uniform(0.2, 0.8), d.unit * d.chance.uniform(25, 45)
    foot = d.width * 0.5
    corners = [(x - d.unit * 4, 0), (x + d.unit * 4, 0), (foot + away, floor + d.unit * 8)]
    corners.append((foot - away, floor + d.unit * 8))
    d.plate += [
        path(line_path(corners, closed=True), d.palette.accent, opacity=0.5),
        ellipse(foot, floor + d.unit * 8, away, away * 0.2, d.palette.light, opacity=0.6),
    ]


def palette_for(brief: Brief, chance: random.Random) -> Palette:
    """Return the palette that the prompt names; else any, as many settings name no colour."""
    if named_colours(brief.subject):
        return choose_palette(brief.subject, chance)
    dark = bool(named_moods(brief.subject) & {"dark", "night", "neon"})
    return chance.choice([palette for _, palette in CURATED if palette.dark == dark])


def place(d: Drawing, product: Raster) -> tuple[Raster, int, int, int]:
    """Return the product as it is shown, its left and top, and how round its corners are."""
    bottom = round(d.height * (FLOOR + d.chance.uniform(-0.05, 0.04)))
    share = d.chance.uniform(0.46, 0.68)
    shape = pictures.contain(
        product, max(4, round(d.width * share)), max(4, round(bottom - 2 * d.margin))
    )
    room = d.width - shape.width - 2 * d.margin
    left = d.margin + max(0.0, room) * d.chance.uniform(0.2, 0.8)
    x = round(left if room > 0 else (d.width - shape.width) / 2)
    d.add(d.shadow(x + shape.width / 2, bottom, shape.width * 0.56, 0.12, 0.55))
    return shape, x, bottom - shape.height, 0 if shape.hasalpha() else round(1.6 * d.unit)
