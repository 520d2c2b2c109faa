"""Scenes of places: mountains, sea, city, space. Each draws, and says where words go."""

from __future__ import annotations

import math
from itertools import pairwise

from safelight.upstreams.proof.colour import mix, shade
from safelight.upstreams.proof.drawing import (
    Drawing,
    Point,
    Zone,
    circle,
    ellipse,
    group,
    line_path,
    path,
    rect,
    smooth_path,
    trace,
    turned,
)


def sky_zone(d: Drawing, *, centred: bool, share: float) -> Zone:
    """Return a zone at the top that takes `share` of the height."""
    side = d.margin
    width = d.width - 2 * side
    if d.ratio > 1.9 and not centred:
        width *= 0.62
    return Zone(side, side, width, d.height * share - side, "centre" if centred else "low", "top")


def _ridge(d: Drawing, base: float, rise: float, rough: float, steps: int) -> list[Point]:
    """Return a skyline of hills by midpoint displacement, from the left edge to the right."""
    chance = d.chance
    heights = [chance.random() for _ in range(4 if d.ratio < 1.2 else 6)]
    swing = 0.8
    while len(heights) < steps:
        finer = [heights[0]]
        for one, two in pairwise(heights):
            finer += [(one + two) / 2 + (chance.random() - 0.5) * swing, two]
        heights = finer
        swing *= rough
    low, high = min(heights), max(heights)
    span = max(high - low, 1e-6)
    return [
        (d.width * (at / (len(heights) - 1)), base - rise * (height - low) / span)
        for at, height in enumerate(heights)
    ]


def _ground_under(d: Drawing, points: list[Point]) -> list[Point]:
    return [*points, (d.width + 2, d.height + 2), (-2, d.height + 2)]


def _firs(d: Drawing, ridge: list[Point], colour: str) -> list[str]:
    """Return small conifers standing on a ridge."""
    trees = []
    spacing = max(1, len(ridge) // (70 + 50 * d.detail))
    for ridge_x, y in ridge[::spacing]:
        if d.chance.random() < 0.42:
            continue
        tall = d.unit * d.chance.uniform(2.2, 6.0)
        wide = tall * 0.2
        x = ridge_x + d.chance.uniform(-0.5, 0.5) * d.unit
        trees.append(
            line_path(
                [(x - wide, y + tall * 0.25), (x, y - tall), (x + wide, y + tall * 0.25)],
                closed=True,
            )
        )
    return [path("".join(trees), colour)] if trees else []


def _birds(d: Drawing, centre: Point) -> None:
    for _ in range(d.chance.randint(3, 6)):
        x = centre[0] + d.chance.uniform(-22, 22) * d.unit
        y = centre[1] + d.chance.uniform(-8, 8) * d.unit
        wing = d.unit * d.chance.uniform(0.9, 1.7)
        shape = trace(
            "M",
            x - wing,
            y - wing * 0.35,
            "q",
            wing * 0.6,
            -wing * 0.25,
            wing,
            wing * 0.45,
            "q",
            wing * 0.4,
            -wing * 0.7,
            wing,
            -wing * 0.45,
        )
        d.add(path(shape, "none", stroke=d.palette.deep, line=d.unit * 0.28, opacity=0.75))


def landscape(d: Drawing) -> Zone:
    """Draw layered mountains under a low sun."""
    p, chance = d.palette, d.chance
    top = mix(p.ground, p.main, 0.35 if p.dark else 0.12)
    low = mix(p.accent, p.light, 0.35) if not p.dark else mix(p.second, p.accent, 0.35)
    horizon = d.height * (0.70 if d.ratio < 1.2 else 0.66)
    d.back(d.down(0, horizon, top, mix(top, p.second, 0.45), low))
    sun = (
        d.width * chance.choice((0.30, 0.5, 0.68, 0.74)),
        horizon - d.unit * chance.uniform(15, 20),
    )
    radius = d.unit * chance.uniform(11, 15)
    disc = mix(p.accent, p.light, 0.25 if p.dark else 0.1)
    d.plate.append(d.glow(sun, radius * 3.4, mix(disc, p.light, 0.5), 0.75))
    d.add(
        circle(
            *sun, radius, d.down(sun[1] - radius, sun[1] + radius, disc, mix(disc, p.second, 0.55))
        )
    )
    layers = 5 + (1 if d.detail else 0)
    for at in range(layers):
        share = at / (layers - 1)
        base = horizon + (d.height - horizon) * (share**1.25) * 0.86 - 3 * d.unit
        rise = d.unit * (24 - 11 * share) * chance.uniform(0.8, 1.15)
        ridge = _ridge(d, base, rise, 0.50 + 0.06 * (1 - share), 96 if share < 0.9 else 192)
        near = mix(mix(p.second, low, 0.62), p.deep, share**0.8)
        near = mix(near, p.main, 0.45 * (1 - abs(2 * share - 1)))
        paint = d.down(base - rise, base + 16 * d.unit, near, mix(near, low, 0.42 * (1 - share)))
        if share > 0.9:
            d.add(*_firs(d, ridge, near))
        d.add(path(line_path(_ground_under(d, ridge), closed=True), paint))
    if d.detail:
        _birds(d, (d.width * 0.5, horizon - 26 * d.unit))
    return sky_zone(d, centred=chance.random() < 0.4, share=0.48)


def sea(d: Drawing) -> Zone:
    """Draw a sea of layered waves, the sun on the horizon."""
    p, chance = d.palette, d.chance
    top = mix(p.ground, p.second, 0.3)
    low = mix(p.light, p.accent, 0.45) if not p.dark else mix(p.main, p.accent, 0.3)
    horizon = d.height * 0.56
    d.back(d.down(0, horizon, top, low))
    sun = (d.width * chance.choice((0.5, 0.68, 0.32)), horizon - d.unit * chance.uniform(2, 9))
    radius = d.unit * chance.uniform(15, 20)
    d.plate.append(d.glow(sun, radius * 2.8, p.light, 0.6))
    d.add(
        circle(
            *sun,
            radius,
            d.down(sun[1] - radius, sun[1] + radius, p.accent, mix(p.accent, p.second, 0.5)),
        )
    )
    layers = 6 + d.detail
    for at in range(layers):
        share = at / (layers - 1)
        base = horizon + (d.height - horizon) * share**1.2 * 0.92
        swing = d.unit * (0.9 + 3.8 * share)
        length = d.unit * (24 + 42 * share)
        _wave(d, base, swing, length, share)
    return sky_zone(d, centred=chance.random() < 0.5, share=0.42)


def _wave(d: Drawing, base: float, swing: float, length: float, share: float) -> None:
    p = d.palette
    offset = d.chance.random() * length
    points: list[Point] = []
    x = -length - offset
    while x < d.width + length:
        points += [(x, base), (x + length * 0.5, base - swing * 2)]
        x += length
    crest = smooth_path(points)
    near = mix(mix(p.second, p.light, 0.15), p.main, min(1, share * 1.6))
    near = mix(near, p.deep, max(0.0, share - 0.45) * 1.3)
    reach = (d.height - base) * 0.8 + 6 * d.unit
    paint = d.down(base - swing * 2, base + reach, near, mix(near, p.deep, 0.35))
    bottom = trace("L", d.width + length * 2, d.height + 4, "L", points[0][0], d.height + 4, "Z")
    d.add(path(crest + bottom, paint))
    line = mix(near, p.light, 0.65)
    for at in range(1 + d.detail):
        drop = d.unit * (0.7 + 1.5 * share) * (at + 0.9)
        lower = smooth_path([(x, y + drop) for x, y in points])
        d.add(
            path(
                lower,
                "none",
                stroke=line,
                line=d.unit * (0.2 + 0.2 * share),
                opacity=0.75 - 0.22 * at,
            )
        )


def city(d: Drawing) -> Zone:
    """Draw a skyline of three depths with lit windows."""
    p, chance = d.palette, d.chance
    night = p.dark or "night" in d.subject
    top = p.deep if night else mix(p.ground, p.second, 0.25)
    low = mix(p.main, p.accent, 0.3) if night else mix(p.accent, p.light, 0.5)
    d.back(d.down(0, d.height * 0.95, top, mix(top, p.main, 0.55 if night else 0.12), low))
    disc = (d.width * chance.choice((0.28, 0.5, 0.72)), d.height * 0.53)
    radius = d.unit * chance.uniform(16, 22)
    light = mix(p.accent, p.light, 0.35)
    d.plate.append(d.glow(disc, radius * 2.6, light, 0.5))
    d.add(
        circle(
            *disc,
            radius,
            d.down(disc[1] - radius, disc[1] + radius, light, mix(p.accent, p.second, 0.6)),
        )
    )
    for at, (height, wide) in enumerate(((0.42, 8.5), (0.33, 11.0), (0.23, 14.0))):
        share = at / 2
        colour = mix(mix(low, p.main, 0.45), mix(p.deep, p.main, 0.08), share)
        _towers(d, height, wide, colour, share)
    if night and d.detail:
        _stars(d, 40 * d.detail, d.height * 0.45)
    return sky_zone(d, centred=chance.random() < 0.4, share=0.46)


def _towers(d: Drawing, height: float, wide: float, colour: str, share: float) -> None:
    p, chance = d.palette, d.chance
    x = -d.unit * chance.uniform(0, 5)
    walls: list[str] = []
    lit: list[str] = []
    dim: list[str] = []
    while x < d.width:
        width = d.unit * wide * chance.uniform(0.65, 1.3)
        tall = d.height * height * chance.uniform(0.55, 1.0)
        top = d.height - tall
        walls.append(rect(x, top, width + 0.6, tall + 2, colour))
        walls.extend(_roof(d, x, top, width, colour))
        if share:
            _windows(d, (x, top, width, tall), lit, dim)
        x += width + (d.unit * chance.uniform(0, 2.4) if share < 1 else 0)
    d.add(*walls)
    d.add(group(dim, opacity=0.16 + 0.10 * share), group(lit, opacity=0.55 + 0.4 * share))
    if share < 1:
        mist = d.linear(
            (0, d.height * (1 - height)),
            (0, d.height),
            ((0, p.light, 0), (1, mix(p.second, p.light, 0.4), 0.35)),
        )
        d.add(rect(0, d.height * (1 - height), d.width, d.height * height, mist))


def _roof(d: Drawing, x: float, top: float, width: float, colour: str) -> list[str]:
    kind = d.chance.randrange(5)
    if kind == 0:
        return [
            rect(x + width * 0.48, top - 6 * d.unit, max(0.6, width * 0.03), 6 * d.unit, colour)
        ]
    if kind == 1:
        return [rect(x + width * 0.18, top - 2 * d.unit, width * 0.64, 2.2 * d.unit, colour)]
    if kind == 2:
        return [
            path(
                line_path(
                    [(x, top + 0.5), (x + width, top - 4 * d.unit), (x + width, top + 0.5)],
                    closed=True,
                ),
                colour,
            )
        ]
    return []


def _windows(
    d: Drawing, box: tuple[float, float, float, float], lit: list[str], dim: list[str]
) -> None:
    x, top, width, tall = box
    columns = max(2, round(width / (d.unit * 2.3)))
    pitch = width / (columns + 0.5)
    size = pitch * 0.46
    rows = int((tall - d.unit * 3) / (pitch * 1.15))
    share = d.chance.uniform(0.08, 0.4)
    for row in range(min(rows, 40)):
        for column in range(columns):
            left = x + pitch * (column + 0.5)
            high = top + d.unit * 1.8 + row * pitch * 1.15
            shape = rect(
                left,
                high,
                size,
                size * 1.15,
                d.palette.accent if d.chance.random() < 0.75 else d.palette.light,
            )
            if d.chance.random() < share:
                lit.append(shape)
            elif d.detail > 1:
                dim.append(rect(left, high, size, size * 1.15, d.palette.light))


def _stars(d: Drawing, count: int, bottom: float) -> None:
    for _ in range(count):
        x, y = d.chance.random() * d.width, d.chance.random() ** 1.3 * bottom
        size = d.unit * d.chance.choice((0.09, 0.12, 0.16, 0.26))
        d.plate.append(circle(x, y, size, d.palette.light, opacity=d.chance.uniform(0.35, 0.95)))


def space(d: Drawing) -> Zone:
    """Draw a ringed planet among stars."""
    p, chance = d.palette, d.chance
    night = shade(p.deep, 0.13, 1.2)
    d.back(
        d.linear(
            (0, 0),
            (d.width * 0.6, d.height),
            ((0, night, 1), (0.6, mix(night, p.main, 0.22), 1), (1, mix(night, p.main, 0.5), 1)),
        )
    )
    for colour in (p.main, p.second):
        spot = (d.width * chance.random(), d.height * chance.uniform(0.3, 1))
        d.plate.append(d.glow(spot, 62 * d.unit, colour, 0.28))
    _stars(d, 90 + 90 * d.detail, d.height)
    wide = d.ratio > 1.15
    centre = (d.width * (0.70 if wide else 0.54), d.height * (0.52 if wide else 0.64))
    radius = d.unit * (27 if wide else 29)
    for at in range(3):
        d.add(
            circle(
                *centre,
                radius * (1.75 + 0.5 * at),
                "none",
                stroke=p.light,
                line=d.unit * 0.13,
                opacity=0.22 - 0.05 * at,
            )
        )
    tilt = turned(chance.uniform(-26, -12), *centre)
    d.add(group([_ring(d, centre, radius, upper=True)], transform=tilt))
    _planet(d, centre, radius, tilt)
    d.add(group([_ring(d, centre, radius, upper=False)], transform=tilt))
    angle = chance.uniform(200, 330)
    moon = (
        centre[0] + radius * 1.75 * math.cos(math.radians(angle)),
        centre[1] + radius * 1.75 * math.sin(math.radians(angle)),
    )
    d.add(circle(*moon, radius * 0.13, p.accent))
    if wide:
        return Zone(
            d.margin,
            d.margin,
            d.width * 0.44 - d.margin,
            d.height - d.margin - d.foot,
            "low",
            "top",
        )
    return Zone(
        d.margin, d.margin, d.width - 2 * d.margin, d.height * 0.34 - d.margin, "low", "top"
    )


def _planet(d: Drawing, centre: Point, radius: float, tilt: str) -> None:
    p = d.palette
    x, y = centre
    body = circle(
        x, y, radius, d.down(y - radius, y + radius, mix(p.second, p.light, 0.25), p.main)
    )
    bands = []
    at = -radius
    while at < radius:
        thick = radius * d.chance.uniform(0.06, 0.22)
        colour = d.chance.choice((p.second, p.main, p.accent, mix(p.second, p.light, 0.5)))
        bands.append(ellipse(x, y + at, radius * 1.3, thick * 0.55, colour, opacity=0.5))
        at += thick * 1.5
    night = d.radial(
        (x - radius * 0.45, y - radius * 0.5),
        radius * 1.75,
        ((0, p.light, 0.32), (0.38, p.light, 0), (0.5, p.deep, 0.05), (1, p.deep, 0.92)),
    )
    clip = d.clip(circle(x, y, radius, "#000"))
    d.add(body, group([group(bands, transform=tilt)], clip=clip), circle(x, y, radius, night))


def _ring(d: Drawing, centre: Point, radius: float, *, upper: bool) -> str:
    x, y = centre
    p = d.palette
    way = 1 if upper else 0
    arcs = []
    for reach, line, colour, opacity in (
        (1.5, 0.085, p.accent, 0.95),
        (1.72, 0.05, p.light, 0.6),
        (1.86, 0.02, p.accent, 0.7),
    ):
        across, high = radius * reach, radius * reach * 0.26
        d_path = trace("M", x - across, y, "A", across, high, 0, 0, way, x + across, y)
        shape = path(d_path, "none", stroke=colour, line=radius * line, opacity=opacity)
        arcs.append(shape.replace(' stroke-linecap="round"', ""))
    return group(arcs)
