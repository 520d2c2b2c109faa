"""A picture laid out, ready to paint at any resolution: scene, placed pictures, words, label.

Owns the layout of generations and edits; painting is `painter.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from safelight.upstreams.proof import pictures, staging
from safelight.upstreams.proof.brief import Brief
from safelight.upstreams.proof.colour import mix
from safelight.upstreams.proof.drawing import Drawing, Zone, rect
from safelight.upstreams.proof.lettering import Ink, Style, fit_line, set_words
from safelight.upstreams.proof.palette import Palette, choose_palette, named_colours, palette_around
from safelight.upstreams.proof.raster import Raster
from safelight.upstreams.proof.scene import choose_scene, draw_scene, new_drawing
from safelight.upstreams.proof.scenes_print import mesh

SHORT_LINES = ("PROOF  ·  not a model’s work", "PROOF")  # noqa: RUF001 - an apostrophe
PROOF_LINE = "PROOF  ·  safelight  ·  not a model’s work  ·  {width} × {height}"  # noqa: RUF001 - signs

Box = pictures.Box


@dataclass(frozen=True, slots=True)
class Card:
    """An input picture in its place; `round_by` pixels of rounded corner."""

    image: Raster
    x: int
    y: int
    round_by: int = 0


@dataclass(slots=True)
class Sheet:
    """Everything a painter needs. Coordinates are canvas pixels.

    `base` lies under all (a fitted input), `cards` between plate and figure. `transparent` leaves
    the plate out. `words` still have no colour: it depends on what lies beneath.
    """

    drawing: Drawing
    words: list[Ink] = field(default_factory=list)
    label: Ink | None = None
    label_box: Box = (0, 0, 0, 0)
    base: Raster | None = None
    cards: list[Card] = field(default_factory=list)
    transparent: bool = False


def _label(sheet: Sheet, size: tuple[int, int], area: Zone) -> None:
    """Place the proof line at the foot of `area`: a tag with the palette's swatches."""
    unit = sheet.drawing.unit
    text_size = max(9.0, 1.62 * unit * _stretch(sheet.drawing) ** 0.3)
    height = text_size * 2.3
    pad = height * 0.42
    dots = height * 2.1 if area.width > text_size * 34 else 0.0
    room = area.width - 2 * pad - dots
    texts = (PROOF_LINE.format(width=size[0], height=size[1]), *SHORT_LINES)
    mask = fit_line(texts, Style("Medium", text_size, "low", 0.02), room)
    if mask is None:
        return
    height = min(height, max(mask.height * 2.4, 6.0))
    height = min(height, area.height)
    width = min(area.width, mask.width + 2 * pad + dots)
    left, top = area.x, area.y + area.height - height
    sheet.label_box = (round(left), round(top), round(width), round(height))
    x = min(round(left + pad + dots), round(left + width) - mask.width)
    sheet.label = Ink(mask, max(round(left), x), round(top + (height - mask.height) / 2))


def _stretch(d: Drawing) -> float:
    """Return long edge over short edge."""
    return min(4.0, max(d.ratio, 1 / d.ratio))


def _foot_zone(d: Drawing) -> Zone:
    low = d.margin * 0.62
    left = min(d.margin, d.width * 0.1)
    return Zone(left, low, d.width - 2 * left, d.height - 2 * low)


def compose_generation(
    brief: Brief, width: int, height: int, detail: int, *, transparent: bool
) -> Sheet:
    """Lay out a picture made from a prompt alone."""
    drawing, zone = draw_scene(brief, width, height, detail)
    sheet = Sheet(drawing, transparent=transparent)
    sheet.words = set_words(brief, zone, drawing.unit)
    _label(sheet, (width, height), _foot_zone(drawing))
    return sheet


def _edit_palette(brief: Brief, hero: Raster) -> Palette:
    """Return the palette the prompt names, else one that goes with the picture."""
    chance = random.Random(brief.seed)  # noqa: S311 - a picture, not a secret
    if named_colours(brief.subject):
        return choose_palette(brief.subject, chance)
    return palette_around([pictures.key_colour(hero)], brief.subject, chance)


def compose_edit(
    brief: Brief, width: int, height: int, detail: int, images: list[Raster], *, transparent: bool
) -> Sheet:
    """Lay out input pictures: one fills the canvas, cut-outs and several stand on a ground."""
    if len(images) == 1 and staging.is_style(brief):
        return _in_style(brief, (width, height), detail, images[0], transparent=transparent)
    product = staging.product_of(brief, images[0]) if len(images) == 1 else None
    if product is not None:
        return _staged(brief, (width, height), detail, product, transparent=transparent)
    palette = _edit_palette(brief, images[0])
    if len(images) == 1 and not pictures.is_cutout(images[0]):
        return _restyled(brief, palette, (width, height), detail, images[0])
    drawing = new_drawing(brief, palette, width, height, detail)
    _backdrop(drawing)
    sheet = Sheet(drawing, transparent=transparent)
    side = drawing.margin
    band = drawing.height * (0.24 if brief.words else 0.08)
    bottom = drawing.height - drawing.foot - band
    area = (round(side), round(side), round(width - 2 * side), round(bottom - side * 0.6))
    if min(area[2:]) >= 4:
        _arrange(sheet, images, area)
    zone = Zone(side, bottom + side * 0.4, width - 2 * side, band - side * 0.4, "low", "bottom")
    sheet.words = set_words(brief, zone, drawing.unit)
    _label(sheet, (width, height), _foot_zone(drawing))
    return sheet


def _in_style(
    brief: Brief, size: tuple[int, int], detail: int, image: Raster, *, transparent: bool
) -> Sheet:
    """Draw what the prompt names, in colours that go with the picture."""
    chance = random.Random(brief.seed)  # noqa: S311 - a picture, not a secret
    flat = image.flatten(background=255) if image.hasalpha() else image
    # One key, day or night, either colour leading: a series whose pictures are not all alike.
    mood = " night" if chance.random() < 0.35 else ""
    palette = palette_around([pictures.key_colour(flat)], brief.subject + mood, chance)
    if chance.random() < 0.5:
        palette = replace(palette, main=palette.second, second=palette.main)
    drawing = new_drawing(brief, palette, *size, detail)
    zone = choose_scene(brief, chance)(drawing)
    sheet = Sheet(drawing, transparent=transparent)
    sheet.words = set_words(brief, zone, drawing.unit)
    _label(sheet, size, _foot_zone(drawing))
    return sheet


def _staged(
    brief: Brief, size: tuple[int, int], detail: int, product: Raster, *, transparent: bool
) -> Sheet:
    """Stand a product in the setting that the prompt describes, the words below it."""
    chance = random.Random(brief.seed)  # noqa: S311 - a picture, not a secret
    d = new_drawing(replace(brief, words=()), staging.palette_for(brief, chance), *size, detail)
    staging.draw_setting(d)
    sheet = Sheet(d, transparent=transparent)
    shape, x, y, round_by = staging.place(d, product)
    sheet.cards.append(Card(shape, x, y, round_by))
    top = y + shape.height + d.margin * 0.5
    zone = Zone(d.margin, top, d.width - 2 * d.margin, d.height - d.foot - top, "low", "bottom")
    sheet.words = set_words(brief, zone, d.unit)
    _label(sheet, size, _foot_zone(d))
    return sheet


def _backdrop(d: Drawing) -> None:
    """Draw a quiet ground for pictures: the mesh, three quarters faded."""
    mesh(d)
    d.figure.clear()
    d.blobs = [
        (x, y, radius, mix(colour, d.palette.ground, 0.62)) for x, y, radius, colour in d.blobs
    ]


def _restyled(
    brief: Brief, palette: Palette, size: tuple[int, int], detail: int, image: Raster
) -> Sheet:
    drawing = new_drawing(brief, palette, *size, detail)
    strength = 0.62 if named_colours(brief.subject) else 0.30
    flat = image.flatten(background=255) if image.hasalpha() else image
    sheet = Sheet(drawing, base=pictures.graded(pictures.cover(flat, *size), palette, strength))
    zone_height = drawing.height * (0.36 if brief.words else 0.12)
    top = drawing.height - drawing.foot - zone_height
    zone = Zone(
        drawing.margin, top, drawing.width - 2 * drawing.margin, zone_height, "low", "bottom"
    )
    sheet.words = set_words(brief, zone, drawing.unit)
    _label(sheet, size, _foot_zone(drawing))
    return sheet


def _arrange(sheet: Sheet, images: list[Raster], area: Box) -> None:
    """Stand pictures on the sheet as prints with soft shadows; cut-outs without a frame."""
    d = sheet.drawing
    gap = max(2, round(d.margin * (0.42 if len(images) < 7 else 0.3)))
    corner = round(1.1 * d.unit)
    for image, (x, y, width, height) in zip(
        images, pictures.cells(len(images), area, gap), strict=True
    ):
        if pictures.is_cutout(image):
            shape = pictures.contain(image, width, height)
            sheet.cards.append(
                Card(shape, x + (width - shape.width) // 2, y + (height - shape.height) // 2)
            )
            continue
        for step in range(5):
            grow = d.unit * (0.25 + 0.42 * step)
            d.plate.append(
                rect(
                    x - grow,
                    y - grow + d.unit,
                    width + 2 * grow,
                    height + 2 * grow,
                    d.palette.deep,
                    round_by=corner + grow,
                    opacity=0.075,
                )
            )
        flat = image.flatten(background=255) if image.hasalpha() else image
        sheet.cards.append(Card(pictures.cover(flat, width, height), x, y, corner))


def compose_patch(
    brief: Brief, mask: Raster, detail: int, size: tuple[int, int], images: list[Raster]
) -> tuple[Sheet, Box]:
    """Lay out what fills the free area of a mask; return it with its box on the canvas.

    Words and label stand in the largest box that is free throughout, so that the kept pixels cut
    nothing off. `images` are the references after the first.
    """
    box = pictures.free_box(mask) or (0, 0, 1, 1)
    left, top, width, height = box
    inner = pictures.inner_box(mask.crop(*box))
    drawing, _ = draw_scene(replace(brief, words=()), width, height, detail)
    sheet = Sheet(drawing)
    pad = min(inner[2], inner[3]) * 0.07
    zone = Zone(inner[0] + pad, inner[1] + pad, inner[2] - 2 * pad, inner[3] - 2 * pad)
    _label(sheet, size, zone)
    room = zone.height - sheet.label_box[3] - pad
    if images and min(zone.width, room) > 24:
        share = 0.6 if brief.words else 1.0
        area = (
            round(zone.x),
            round(zone.y + room * (1 - share)),
            round(zone.width),
            round(room * share),
        )
        _arrange(sheet, images, area)
        room *= 1 - share
    words_zone = Zone(zone.x, zone.y, zone.width, max(0.0, room - pad), "low", "top")
    if brief.words:
        sheet.words = set_words(brief, words_zone, drawing.unit)
    return sheet, (left, top, width, height)
