"""The scene of plants: stems, leaves and flowers like paper cut-outs."""

from __future__ import annotations

import math

from safelight.upstreams.proof.colour import mix
from safelight.upstreams.proof.drawing import (
    Drawing,
    Point,
    Zone,
    circle,
    group,
    moved,
    path,
    smooth_path,
    trace,
)


def _leaf(length: float, width: float) -> str:
    """Return a leaf that grows from the origin to the right."""
    return trace(
        "M",
        0,
        0,
        "C",
        length * 0.3,
        -width,
        length * 0.7,
        -width,
        length,
        0,
        "C",
        length * 0.7,
        width,
        length * 0.3,
        width,
        0,
        0,
        "Z",
    )


def botanical(d: Drawing) -> Zone:
    """Draw stems and flowers as paper cut-outs."""
    p, chance = d.palette, d.chance
    d.back(p.ground)
    wide = d.ratio > 1.2
    left = d.width * 0.46 if wide else 0.0
    warm = mix(p.main, p.ground, 0.5) if p.dark else mix(p.accent, p.ground, 0.55)
    for colour in (mix(p.second, p.ground, 0.6 if p.dark else 0.45), warm):
        centre = (
            chance.uniform(left + 10 * d.unit, d.width - 10 * d.unit),
            d.height * chance.uniform(0.45, 0.8),
        )
        d.plate.append(path(_pebble(d, centre, d.unit * chance.uniform(24, 34)), colour))
    count = max(4, round((d.width - left) / (d.unit * 21)))
    span = (d.width - left) / count
    bottom = d.height + 2 * d.unit
    order = list(range(count))
    chance.shuffle(order)
    for at in order:
        x = left + span * (at + 0.5) + chance.uniform(-3, 3) * d.unit
        tall = (d.height * (0.62 if not wide else 0.86)) * chance.uniform(0.62, 1.0)
        _plant(d, (x, bottom), tall, at)
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
        d.margin, d.margin, d.width - 2 * d.margin, d.height * 0.32 - d.margin, "centre", "top"
    )


def _pebble(d: Drawing, centre: Point, radius: float) -> str:
    points = []
    for at in range(7):
        angle = math.tau * at / 7
        reach = radius * d.chance.uniform(0.78, 1.15)
        points.append((centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)))
    return smooth_path(points, closed=True)


def _plant(d: Drawing, foot: Point, tall: float, index: int) -> None:
    p, chance, u = d.palette, d.chance, d.unit
    lean = chance.uniform(-9, 9) * u
    far = p.light if p.dark else p.deep
    start = mix(p.main, p.second, 0.5) if p.dark else p.main
    colour = (start, mix(start, far, 0.55), mix(start, far, 0.25), mix(p.main, p.second, 0.7))[
        index % 4
    ]

    def at(share: float) -> Point:
        return (foot[0] + lean * share * share, foot[1] - tall * share)

    stem = smooth_path([at(step / 6) for step in range(7)])
    d.add(path(stem, "none", stroke=colour, line=0.75 * u))
    pairs = max(4, round(tall / ((13.5 - 1.5 * d.detail) * u)))
    for pair in range(pairs):
        share = 0.25 + 0.66 * pair / pairs
        x, y = at(share)
        length = u * (15.5 - 8.0 * share) * chance.uniform(0.85, 1.1)
        leaf = path(_leaf(length, length * 0.24), colour)
        for side in (-38, 180 + 38):
            d.add(
                group(
                    [leaf],
                    transform=moved(x, y, side + chance.uniform(-6, 6)),
                )
            )
    x, y = at(1.0)
    kind = index % 3
    if kind == 2:
        d.add(
            group(
                [path(_leaf(9 * u, 2.2 * u), colour)],
                transform=moved(x, y + u, -90),
            )
        )
        return
    _flower(d, (x, y), kind)


def _flower(d: Drawing, centre: Point, kind: int) -> None:
    p, u = d.palette, d.unit
    size = u * d.chance.uniform(8.5, 11.5)
    colour, heart = (p.accent, p.deep) if kind == 0 else (p.second, p.accent)
    if d.palette.dark and kind == 1:
        heart = p.light
    count = 6 if kind == 0 else 9
    wide = size * (0.42 if kind == 0 else 0.23)
    petal = path(_leaf(size, wide), colour)
    turn = d.chance.uniform(0, 60)
    place = moved(*centre)
    d.add(
        group(
            [group([petal], transform=moved(0, 0, turn + 360 * at / count)) for at in range(count)],
            transform=place,
        )
    )
    d.add(circle(*centre, size * 0.24, heart))
