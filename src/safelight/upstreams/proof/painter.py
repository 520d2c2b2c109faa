"""Painting a sheet: SVG to pixels, pictures, readable words, grain; at any resolution.

Owns pixels. The colour of words is chosen here, from what lies beneath them, so that contrast is
certain (WCAG 2.2, 4.5 to 1).
"""

from __future__ import annotations

from collections.abc import Callable

import pyvips

from safelight.upstreams.proof.colour import contrast, luminance, mix, parse_hex
from safelight.upstreams.proof.drawing import Drawing, circle, document, rect
from safelight.upstreams.proof.lettering import Ink
from safelight.upstreams.proof.palette import Palette
from safelight.upstreams.proof.raster import Raster, render_svg
from safelight.upstreams.proof.sheet import Box, Card, Sheet

Checkpoint = Callable[[], None]
"""Called between steps; raises when the picture is no longer wanted."""

MIN_CONTRAST = 4.5
_GRAIN = (1.1, 2.0, 2.6)
_TILE = 512


def _blobs(sheet: Sheet, width: int, height: int) -> Raster:
    """Return soft spots of colour: drawn small, blurred, enlarged as floats so nothing bands."""
    d = sheet.drawing
    shrink = max(1.0, max(d.width, d.height) / 160)
    ground = rect(0, 0, d.width, d.height, d.palette.ground)
    spots = [circle(x, y, radius, colour, opacity=0.92) for x, y, radius, colour in d.blobs]
    svg = document(d.width, d.height, [ground, *spots])
    small = render_svg(svg, shrink).flatten(background=255).cast("float").copy_memory()
    edge = 40
    wide = small.embed(edge, edge, small.width + 2 * edge, small.height + 2 * edge, extend="copy")
    soft = wide.gaussblur(15, precision="approximate").crop(edge, edge, small.width, small.height)
    return _exactly(soft, width, height)


def _exactly(image: Raster, width: int, height: int) -> Raster:
    """Return the image scaled to exactly these pixels."""
    if (image.width, image.height) == (width, height):
        return image
    scaled = image.resize(width / image.width, vscale=height / image.height, kernel="cubic")
    return scaled.embed(0, 0, width, height, extend="copy")


def _with_alpha(image: Raster) -> Raster:
    return image if image.hasalpha() else image.bandjoin(255)


def _over(base: Raster, top: Raster, x: int = 0, y: int = 0) -> Raster:
    return base.composite2(top, "over", x=x, y=y).cast("uchar")


def _card(card: Card, shrink: float) -> Raster:
    width, height = (
        max(1, round(card.image.width / shrink)),
        max(1, round(card.image.height / shrink)),
    )
    image = (
        card.image
        if shrink == 1
        else card.image.resize(width / card.image.width, vscale=height / card.image.height)
    )
    width, height = image.width, image.height
    if not card.round_by:
        return _with_alpha(image)
    shape = rect(0, 0, width, height, "#fff", round_by=card.round_by / shrink)
    return image[0:3].bandjoin(render_svg(document(width, height, [shape]))[3])


def _scene(sheet: Sheet, shrink: float, checkpoint: Checkpoint) -> Raster:
    """Return plate, pictures and figure as 8-bit pixels, RGBA if the plate is left out."""
    d = sheet.drawing
    width, height = max(1, round(d.width / shrink)), max(1, round(d.height / shrink))
    layered = bool(d.blobs or sheet.cards or sheet.base is not None)
    if not layered:
        whole = render_svg(d.svg(plate=not sheet.transparent), shrink)
        image = (
            whole if sheet.transparent else whole.flatten(background=parse_hex(d.palette.ground))
        )
        return _exactly(image, width, height).cast("uchar").copy_memory()
    if sheet.base is not None:
        image = _exactly(sheet.base, width, height).cast("uchar")
    elif sheet.transparent:
        image = render_svg(d.svg(plate=False), shrink)
    else:
        image = _blobs(sheet, width, height).cast("uchar")
        over = _exactly(render_svg(_without_back(sheet), shrink), width, height).cast("uchar")
        image = _over(_with_alpha(image.copy(interpretation="srgb")), over)
    checkpoint()
    for card in sheet.cards:
        image = _over(
            _with_alpha(image), _card(card, shrink), round(card.x / shrink), round(card.y / shrink)
        )
        checkpoint()
    if not sheet.transparent and image.hasalpha():
        image = image.flatten(background=255)
    return image.cast("uchar").copy_memory()


def _without_back(sheet: Sheet) -> bytes:
    d = sheet.drawing
    back, d.plate = d.plate[:1], d.plate[1:]
    try:
        return d.svg(plate=True)
    finally:
        d.plate = back + d.plate


def _grain(image: Raster, detail: int, seed: int) -> Raster:
    """Return the image with a fine grain, equal in all channels: it hides bands, looks printed."""
    noise = pyvips.Image.gaussnoise(
        _TILE, _TILE, mean=0, sigma=_GRAIN[detail], seed=seed & 0x7FFFFFFF
    )
    noise = noise.cast("short").copy_memory()
    field = noise.replicate(-(-image.width // _TILE), -(-image.height // _TILE)).crop(
        0, 0, image.width, image.height
    )
    if not image.hasalpha():
        return (image + field).cast("uchar").copy(interpretation="srgb")
    colour = (image[0:3] + field).cast("uchar")
    return colour.bandjoin(image[3]).copy(interpretation="srgb")


def _light_under(image: Raster, boxes: list[Box]) -> tuple[float, float]:
    """Return the darkest and the lightest luminance under boxes (2 % at either end left out)."""
    values: list[float] = []
    for x, y, across, high in boxes:
        left, top = max(0, x), max(0, y)
        width, height = min(across, image.width - left), min(high, image.height - top)
        if width < 1 or height < 1:
            continue
        part = image.crop(left, top, width, height)
        part = part.flatten(background=255) if part.hasalpha() else part
        small = part.thumbnail_image(40, height=24, size="force")[0:3].cast("uchar")
        data = bytes(small.write_to_memory())
        values += [
            luminance((data[at], data[at + 1], data[at + 2])) for at in range(0, len(data), 3)
        ]
    if not values:
        return (0.5, 0.5)
    values.sort()
    cut = len(values) // 50
    return (values[cut], values[-1 - cut])


def _ink_colour(palette: Palette, light: tuple[float, float]) -> tuple[str, float]:
    """Return the palette's ink that reads best between two luminances, and its worst contrast."""
    ranked = []
    for colour in (palette.deep, palette.light):
        own = luminance(parse_hex(colour))
        between = light[0] < own < light[1]
        worst = 1.0 if between else min(contrast(own, light[0]), contrast(own, light[1]))
        ranked.append((worst, colour))
    worst, colour = max(ranked)
    return colour, worst


def _scrim(sheet: Sheet, colour: str, boxes: list[Box], strength: float) -> bytes:
    """Return a soft veil behind words, which runs out towards the middle of the picture."""
    d = sheet.drawing
    top = min(box[1] for box in boxes)
    bottom = max(box[1] + box[3] for box in boxes)
    reach = 20 * d.unit
    rising = (top + bottom) / 2 > d.height / 2
    if rising:
        start, end = d.height, max(0.0, top - reach)
        hold = (d.height - top) / max(1.0, start - end)
    else:
        start, end = 0, min(float(d.height), bottom + reach)
        hold = bottom / max(1.0, end)
    # An eased end: a straight one shows as an edge.
    ease = ((0.0, 0.94), (0.25, 0.82), (0.5, 0.47), (0.75, 0.15), (1.0, 0.0))
    hold = min(0.95, hold)
    stops = (
        (0.0, colour, strength),
        *((hold + (1 - hold) * at, colour, strength * power) for at, power in ease),
    )
    veil = Drawing(d.width, d.height, d.palette, d.chance)
    veil.back(veil.linear((0, start), (0, end), stops))
    return veil.svg(plate=True)


def _stamp(image: Raster, ink: Ink, colour: str) -> Raster:
    """Return the image with words in `colour`; only the words' own box is touched."""
    x, y = max(0, ink.x), max(0, ink.y)
    width, height = min(ink.mask.width, image.width - x), min(ink.mask.height, image.height - y)
    if width < 1 or height < 1:
        return image
    mask = ink.mask.crop(0, 0, width, height)
    part = image.crop(x, y, width, height)
    if image.hasalpha():
        tone = (
            mask.new_from_image(parse_hex(colour))
            .cast("uchar")
            .bandjoin(mask)
            .copy(interpretation="srgb")
        )
        return image.insert(_over(part, tone), x, y)
    return image.insert(mask.ifthenelse(list(parse_hex(colour)), part, blend=True), x, y)


def _small(ink: Ink, shrink: float) -> Ink:
    if shrink == 1:
        return ink
    mask = ink.mask.resize(1 / shrink)
    return Ink(mask, round(ink.x / shrink), round(ink.y / shrink), ink.strong)


def _veiled(sheet: Sheet, image: Raster, ink: str, boxes: list[Box], shrink: float) -> Raster:
    """Return the image under the lightest veil that gives `ink` its contrast in `boxes`."""
    palette = sheet.drawing.palette
    veil = palette.deep if ink == palette.light else palette.light
    own = luminance(parse_hex(ink))
    full = [words.box for words in sheet.words]
    for strength in (0.45, 0.62, 0.78, 0.92):
        layer = render_svg(_scrim(sheet, veil, full, strength), shrink)
        found = _over(_with_alpha(image), layer).flatten()
        darkest, lightest = _light_under(found, boxes)
        if min(contrast(own, darkest), contrast(own, lightest)) >= MIN_CONTRAST:
            break
    return found.copy_memory()


def _words(sheet: Sheet, image: Raster, shrink: float) -> Raster:
    """Return the image with its words, on a veil where they could not be read without."""
    palette = sheet.drawing.palette
    inks = [_small(ink, shrink) for ink in sheet.words]
    if not inks:
        return image
    if sheet.transparent:
        return _sticker(image, inks, palette, sheet.drawing.unit / shrink)
    boxes = [ink.box for ink in inks]
    light = _light_under(image, boxes)
    colour, worst = _ink_colour(palette, light)
    if worst < MIN_CONTRAST:
        # Keep the ink that is nearer to reading well, and pull the ground away from it.
        colour = palette.light if sum(light) / 2 < 0.4 else palette.deep
        image = _veiled(sheet, image, colour, boxes, shrink)
    for ink in inks:
        image = _stamp(image, ink, colour)
    return image


def _sticker(image: Raster, inks: list[Ink], palette: Palette, unit: float) -> Raster:
    """Return a transparent picture with words in an outline, which can stand on any background."""
    rim = max(1.0, 0.9 * unit)
    pad = int(rim * 3) + 1
    for ink in inks:
        wide = ink.mask.embed(pad, pad, ink.mask.width + 2 * pad, ink.mask.height + 2 * pad)
        outline = (wide.gaussblur(rim, precision="approximate") * 7).cast("uchar")
        halo = Ink(
            outline.crop(max(0, pad - ink.x), max(0, pad - ink.y), *_room(outline, pad, ink)),
            max(0, ink.x - pad),
            max(0, ink.y - pad),
        )
        image = _stamp(image, halo, palette.light)
        image = _stamp(image, ink, palette.deep)
    return image


def _room(outline: Raster, pad: int, ink: Ink) -> tuple[int, int]:
    return outline.width - max(0, pad - ink.x), outline.height - max(0, pad - ink.y)


def _label(sheet: Sheet, image: Raster, shrink: float) -> Raster:
    """Return the image with the tag that says it is a proof."""
    if sheet.label is None:
        return image
    d = sheet.drawing
    x, y, width, height = sheet.label_box
    tone = mix(d.palette.deep, "#000000", 0.35)
    shapes = [rect(0, 0, width, height, tone, round_by=height * 0.5, opacity=0.86)]
    if sheet.label.x - x > height:
        for at, colour in enumerate(d.palette.swatches[1:]):
            shapes.append(circle(height * (0.62 + 0.46 * at), height / 2, height * 0.155, colour))
    tag = render_svg(document(width, height, shapes), shrink)
    left, top = round(x / shrink), round(y / shrink)
    across, high = min(tag.width, image.width - left), min(tag.height, image.height - top)
    if across < 1 or high < 1:
        return image
    part = _over(_with_alpha(image.crop(left, top, across, high)), tag.crop(0, 0, across, high))
    image = image.insert(part if image.hasalpha() else part.flatten(), left, top)
    return _stamp(image, _small(sheet.label, shrink), "#f4f2ee")


def paint(sheet: Sheet, seed: int, checkpoint: Checkpoint, shrink: float = 1.0) -> Raster:
    """Return the sheet's pixels, at 1/`shrink` of its size: RGB, or RGBA if it is transparent.

    Raises:
        pyvips.Error: libvips failed.
        Exception: whatever `checkpoint` raises.
    """
    checkpoint()
    image = _scene(sheet, shrink, checkpoint)
    checkpoint()
    if shrink == 1:
        # A coarse picture is enlarged, and enlarged grain would be blotches.
        image = _grain(image, sheet.drawing.detail, seed)
    image = _words(sheet, image, shrink)
    checkpoint()
    return _label(sheet, image, shrink)
