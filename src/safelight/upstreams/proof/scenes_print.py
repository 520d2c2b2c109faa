"""Scenes of the graphic tradition: Swiss poster, tiles, arcs, soft gradients, a report page."""

from __future__ import annotations

import math

from safelight.upstreams.proof.colour import mix
from safelight.upstreams.proof.drawing import (
    Drawing,
    Zone,
    arc,
    circle,
    group,
    line_path,
    moved,
    path,
    pie,
    rect,
    smooth_path,
    trace,
    turned,
)


def swiss(d: Drawing) -> Zone:
    """Draw a Swiss poster: one large form, a few small ones, much ground."""
    p, chance = d.palette, d.chance
    d.back(p.ground)
    big = d.unit * (36 if 0.75 < d.ratio < 1.3 else 50)
    if d.ratio >= 1.3:
        centre = (d.width - d.margin - big * 0.72, d.height * 0.5)
        zone = Zone(
            d.margin, d.margin, d.width - big * 1.65 - 2.5 * d.margin, d.height - d.margin - d.foot
        )
    else:
        centre = (d.width * 0.62, d.height - d.foot - big * 0.66)
        free = centre[1] - big - 1.6 * d.margin
        zone = Zone(d.margin, d.margin, d.width - 2 * d.margin, max(d.height * 0.2, free))
    d.add(circle(*centre, big, p.main))
    form = chance.randrange(4)
    if form == 0:
        turn = chance.choice((0, 90, 180, 270))
        d.add(pie(*centre, big, turn, turn + 180, p.second))
        d.add(circle(*centre, big * 0.36, p.ground))
    elif form == 1:
        for at in range(4):
            colour = (p.second, p.main, p.accent, p.deep)[at]
            d.add(circle(centre[0], centre[1], big * (0.8 - 0.2 * at), colour))
    elif form == 2:
        clip = d.clip(circle(*centre, big, "#000"))
        wide = big * 2 / 11
        bars = [
            rect(
                centre[0] - big + at * wide * 2,
                centre[1] - big,
                wide * (0.35 + 0.13 * at),
                2 * big,
                p.second,
            )
            for at in range(6)
        ]
        d.add(group(bars, clip=clip))
    else:
        turn = chance.choice((45, 135, 225))
        d.add(
            pie(*centre, big, turn, turn + 90, p.deep),
            pie(*centre, big, turn + 180, turn + 270, p.second),
        )
    small = big * 0.27
    # Beside the words there is room only above and below the large form.
    angle = math.radians(chance.choice((125, 235) if d.ratio >= 1.3 else (200, 215, 235)))
    d.add(
        circle(
            centre[0] + big * 1.02 * math.cos(angle),
            centre[1] + big * 1.02 * math.sin(angle),
            small,
            p.accent,
        )
    )
    return zone


def tiles(d: Drawing) -> Zone:
    """Draw a grid of geometric tiles; words get a block of their own."""
    p = d.palette
    d.back(p.ground)
    pad = d.margin * 0.9
    count = 5 + d.detail
    cell = (min(d.width, d.height) - 2 * pad) / count
    columns = max(1, int((d.width - 2 * pad) / cell + 0.01))
    below = d.foot if d.worded else d.foot + 6 * d.unit
    rows = max(1, int((d.height - pad - below) / cell + 0.01))
    left = (d.width - columns * cell) / 2
    top = (d.height - below + pad * 0.5 - rows * cell) / 2
    if not d.worded:
        block = (0, 0, 0, 0)
    elif columns > rows * 1.25:
        block = (0, 0, max(2, round(columns * 0.46)), rows)
    else:
        block = (0, 0, columns, max(2, round(rows * 0.42)))
    inside = (left, top, block[2] * cell, block[3] * cell)
    for row in range(rows):
        for column in range(columns):
            if column < block[2] and row < block[3]:
                continue
            _tile(d, left + column * cell, top + row * cell, cell)
    if d.worded:
        d.add(rect(inside[0], inside[1], inside[2], inside[3], p.deep))
        gap = cell * 0.34
        return Zone(
            inside[0] + gap,
            inside[1] + gap,
            inside[2] - 2 * gap,
            inside[3] - 2 * gap,
            "low",
            "bottom",
        )
    title = 4 * d.unit
    return Zone(
        left, d.height - d.foot - title - d.unit, d.width - 2 * left, title, "low", "bottom"
    )


def _tile(d: Drawing, x: float, y: float, side: float) -> None:
    p, chance = d.palette, d.chance
    back, one, two = chance.choice(
        (
            (p.main, p.light, p.accent),
            (p.second, p.deep, p.light),
            (p.light, p.main, p.second),
            (p.deep, p.accent, p.second),
            (p.accent, p.main, p.deep),
            (p.light, p.second, p.main),
            (p.main, p.second, p.deep),
        )
    )
    shapes = [rect(0, 0, side + 0.5, side + 0.5, back)]
    kind = chance.randrange(8)
    if kind == 0:
        shapes.append(pie(0, 0, side, 0, 90, one))
        shapes.append(pie(0, 0, side * 0.5, 0, 90, two))
    elif kind == 1:
        shapes.append(pie(0, side / 2, side / 2, -90, 90, one))
        shapes.append(pie(side / 2, side / 2, side / 2, -90, 90, two))
    elif kind == 2:
        shapes.append(circle(side / 2, side / 2, side * 0.36, one))
        shapes.append(circle(side / 2, side / 2, side * 0.16, two))
    elif kind == 3:
        shapes.append(path(line_path([(0, 0), (side, 0), (0, side)], closed=True), one))
    elif kind == 4:
        shapes += [rect(0, side * at / 5, side + 0.5, side / 10, one) for at in range(5)]
    elif kind == 5:
        leaf = trace("M", 0, 0, "Q", side, 0, side, side, "Q", 0, side, 0, 0, "Z")
        shapes.append(path(leaf, one))
    elif kind == 6:
        shapes += [
            circle(
                side * (0.25 + 0.5 * (at % 2)), side * (0.25 + 0.5 * (at // 2)), side * 0.13, one
            )
            for at in range(4)
        ]
    else:
        shapes.append(pie(side, side, side, 180, 270, one))
        shapes.append(pie(0, 0, side * 0.5, 0, 90, two))
    tilt = turned(chance.choice((0, 90, 180, 270)), x + side / 2, y + side / 2)
    d.add(group([group(shapes, transform=moved(x, y))], transform=tilt))


def arcs(d: Drawing) -> Zone:
    """Draw the concentric bands of the seventies."""
    p, chance = d.palette, d.chance
    d.back(p.ground)
    bands = [p.deep, p.main, mix(p.main, p.second, 0.5), p.second, p.accent, p.light]
    thick = d.unit * (8.2 if d.ratio < 1.3 else 8.8)
    wide = d.ratio > 1.3
    kind = chance.randrange(3)
    if wide:
        centre = (d.width * (0.76 if kind != 1 else 1.0), d.height * (1.0 if kind != 2 else 0.5))
    else:
        centre = (d.width * (0.5 if kind != 1 else 1.0), d.height * (1.0 if kind != 2 else 0.99))
    for at, colour in enumerate(bands):
        d.add(circle(*centre, thick * (len(bands) + 1 - at), colour))
    d.add(circle(*centre, thick * 1.0, p.ground))
    if not wide:
        top = centre[1] - thick * (len(bands) + 1)
        return Zone(
            d.margin, d.margin, d.width - 2 * d.margin, max(d.height * 0.26, top - 1.6 * d.margin)
        )
    reach = centre[0] - thick * (len(bands) + 1)
    return Zone(
        d.margin,
        d.margin,
        max(d.width * 0.36, reach - 1.6 * d.margin),
        d.height - d.margin - d.foot,
    )


def mesh(d: Drawing) -> Zone:
    """Draw a soft mesh of colours with one quiet form on it."""
    p, chance = d.palette, d.chance
    d.back(p.ground)
    colours = [
        p.main,
        p.second,
        p.accent,
        mix(p.main, p.deep, 0.5),
        p.second,
        mix(p.second, p.light, 0.5),
        p.main,
        p.light,
    ]
    for at, colour in enumerate(colours):
        angle = math.tau * (at / len(colours)) + chance.random()
        reach = chance.uniform(0.25, 0.62)
        d.blobs.append(
            (
                d.width * (0.5 + reach * math.cos(angle)),
                d.height * (0.5 + reach * math.sin(angle)),
                max(d.width, d.height) * chance.uniform(0.20, 0.34),
                colour,
            )
        )
    centre = (d.width * chance.choice((0.5, 0.72)), d.height * chance.choice((0.56, 0.62)))
    radius = 30 * d.unit
    form = d.linear(
        (centre[0] - radius, centre[1] - radius),
        (centre[0] + radius, centre[1] + radius),
        ((0, p.light, 0.85), (0.45, p.accent, 0.45), (1, p.main, 0.7)),
    )
    if chance.random() < 0.5:
        d.add(circle(*centre, radius, form))
        rim = d.linear(
            (centre[0], centre[1] - radius),
            (centre[0], centre[1] + radius),
            ((0, p.light, 0.9), (1, p.light, 0.05)),
        )
        d.add(circle(*centre, radius - d.unit * 0.15, "none", stroke=rim, line=d.unit * 0.3))
    else:
        for at in range(3):
            shift = (at - 1) * radius * 0.62
            d.add(
                circle(centre[0] + shift, centre[1] - shift * 0.4, radius * 0.62, form, opacity=0.8)
            )
    return Zone(
        d.margin, d.margin, d.width - 2 * d.margin, d.height - d.margin - d.foot, "low", "top"
    )


def report(d: Drawing) -> Zone:
    """Draw a report page: a headline column and cards with charts."""
    p = d.palette
    d.back(p.ground)
    gap = d.margin * 0.5
    wide = d.ratio > 1.15
    if wide:
        left, top = d.margin + (d.width - 2 * d.margin) * 0.36, d.margin
        zone = Zone(d.margin, d.margin, left - d.margin - gap * 2, d.height - d.margin - d.foot)
        d.plate.append(rect(d.margin, d.margin, 9 * d.unit, 1.1 * d.unit, p.accent))
        zone = Zone(zone.x, zone.y + 4 * d.unit, zone.width, zone.height - 4 * d.unit)
    else:
        left, top = d.margin, d.margin + (d.height - d.margin - d.foot) * 0.30
        zone = Zone(d.margin, d.margin, d.width - 2 * d.margin, top - d.margin - gap)
    area_w, area_h = d.width - d.margin - left, d.height - d.foot - top
    columns, rows = (2, 2)
    card_w, card_h = (area_w - gap) / columns, (area_h - gap) / rows
    makers = [_bars, _donut, _trend, _dots]
    d.chance.shuffle(makers)
    filled = d.chance.randrange(4)
    for at, maker in enumerate(makers):
        x = left + (at % 2) * (card_w + gap)
        y = top + (at // 2) * (card_h + gap)
        back = p.main if at == filled else (mix(p.ground, p.light, 0.08) if p.dark else p.light)
        d.add(rect(x, y, card_w, card_h, back, round_by=1.6 * d.unit))
        pad = min(card_w, card_h) * 0.12
        front = (
            (p.light, mix(p.main, p.light, 0.45), p.accent)
            if at == filled
            else (p.main, p.second, p.accent)
        )
        faint = mix(back, p.light if at == filled or p.dark else p.deep, 0.16)
        d.add(
            rect(
                x + pad,
                y + pad,
                card_w * 0.3,
                1.3 * d.unit,
                mix(back, front[0], 0.75),
                round_by=0.6 * d.unit,
            )
        )
        d.add(
            rect(
                x + pad,
                y + pad + 2.6 * d.unit,
                card_w * 0.18,
                1.0 * d.unit,
                faint,
                round_by=0.5 * d.unit,
            )
        )
        box = (x + pad, y + pad + 6 * d.unit, card_w - 2 * pad, card_h - 2 * pad - 6 * d.unit)
        maker(d, box, front, faint)
    return zone


Box = tuple[float, float, float, float]
Front = tuple[str, str, str]


def _bars(d: Drawing, box: Box, front: Front, faint: str) -> None:
    x, y, width, height = box
    count = 6 + d.detail
    pitch = width / count
    peak = d.chance.randrange(count // 2, count)
    for at in range(count):
        tall = height * min(
            1.0, d.chance.uniform(0.25, 0.7) + 0.25 * at / count + (0.2 if at == peak else 0)
        )
        colour = front[2] if at == peak else front[0]
        d.add(
            rect(
                x + pitch * at, y + height - tall, pitch * 0.62, tall, colour, round_by=pitch * 0.12
            )
        )
    d.add(rect(x, y + height, width, d.unit * 0.22, faint))


def _donut(d: Drawing, box: Box, front: Front, faint: str) -> None:
    x, y, width, height = box
    radius = min(width, height) * 0.46
    centre = (x + radius, y + height / 2)
    line = radius * 0.36
    d.add(circle(*centre, radius - line / 2, "none", stroke=faint, line=line))
    start = -90.0
    for share, colour in zip((d.chance.uniform(0.34, 0.5), 0.24, 0.13), front, strict=True):
        d.add(arc(*centre, radius - line / 2, start, start + 360 * share, colour, line))
        start += 360 * share
    for at in range(3):
        row = y + height * (0.3 + 0.2 * at)
        if width > radius * 2.6:
            d.add(circle(x + radius * 2.4, row, d.unit * 0.8, front[at]))
            d.add(
                rect(
                    x + radius * 2.4 + 2 * d.unit,
                    row - 0.5 * d.unit,
                    max(1.0, width - radius * 2.4 - 3 * d.unit) * (0.9 - 0.2 * at),
                    d.unit,
                    faint,
                    round_by=0.5 * d.unit,
                )
            )


def _trend(d: Drawing, box: Box, front: Front, faint: str) -> None:
    x, y, width, height = box
    for at in range(4):
        d.add(rect(x, y + height * at / 3, width, d.unit * 0.14, faint))
    count = 7
    points = [
        (
            x + width * at / (count - 1),
            y + height * (0.85 - 0.65 * at / (count - 1) + d.chance.uniform(-0.12, 0.12)),
        )
        for at in range(count)
    ]
    area = smooth_path(points) + trace("L", x + width, y + height, "L", x, y + height, "Z")
    fade = d.linear((0, y), (0, y + height), ((0, front[0], 0.45), (1, front[0], 0.03)))
    d.add(path(area, fade), path(smooth_path(points), "none", stroke=front[0], line=d.unit * 0.7))
    d.add(circle(*points[-1], d.unit * 1.3, front[2]))


def _dots(d: Drawing, box: Box, front: Front, faint: str) -> None:
    x, y, width, height = box
    columns, rows = 10, max(3, min(7, int(10 * height / width)))
    pitch = min(width / columns, height / rows)
    share = d.chance.uniform(0.5, 0.75)
    for at in range(columns * rows):
        colour = (
            front[2]
            if at == int(columns * rows * share)
            else (front[0] if at < columns * rows * share else faint)
        )
        d.add(
            circle(
                x + pitch * (at % columns + 0.5),
                y + pitch * (at // columns + 0.5),
                pitch * 0.34,
                colour,
            )
        )
