"""The scene of a product: an object on a round pedestal in a studio."""

from __future__ import annotations

import math
from collections.abc import Callable

from safelight.upstreams.proof.colour import mix, shade
from safelight.upstreams.proof.drawing import (
    Drawing,
    Point,
    Zone,
    circle,
    ellipse,
    line_path,
    path,
    rect,
    smooth_path,
    trace,
)
from safelight.upstreams.proof.words import word_table


def product(d: Drawing) -> Zone:
    """Draw an object on a round pedestal in a studio."""
    p = d.palette
    wall = mix(p.ground, p.second, 0.28)
    floor_y = d.height * 0.74
    wide = d.ratio > 1.2
    x = d.width * (0.70 if wide else 0.5)
    d.back(d.down(0, floor_y, mix(wall, p.light, 0.15 if p.dark else 0.35), wall))
    d.plate.append(
        rect(
            0,
            floor_y,
            d.width,
            d.height - floor_y,
            d.down(floor_y, d.height, mix(wall, p.deep, 0.10), mix(wall, p.light, 0.12)),
        )
    )
    tall = d.unit * (50 if not wide else 36)
    arch_w = d.unit * 29
    arch = trace(
        "M",
        x - arch_w,
        floor_y,
        "V",
        floor_y - tall * 0.95,
        "A",
        arch_w,
        arch_w,
        0,
        0,
        1,
        x + arch_w,
        floor_y - tall * 0.95,
        "V",
        floor_y,
        "Z",
    )
    top = floor_y - tall * 0.95 - arch_w
    d.plate.append(
        path(arch, d.down(top, floor_y, mix(p.main, wall, 0.25), mix(p.main, wall, 0.62)))
    )
    d.plate.append(d.glow((x, floor_y - tall * 0.75), 48 * d.unit, p.light, 0.30))
    base = floor_y + 5 * d.unit
    d.add(d.shadow(x + 5 * d.unit, base + 9.5 * d.unit, 42 * d.unit, 0.16, 0.45))
    _drum(d, x, base + 8 * d.unit, 27 * d.unit, 6.5 * d.unit, mix(p.second, p.light, 0.45))
    _drum(d, x, base + 1.5 * d.unit, 20 * d.unit, 6 * d.unit, mix(p.second, p.light, 0.7))
    d.add(d.shadow(x + 2 * d.unit, base - 4.5 * d.unit, 15 * d.unit, 0.2, 0.5))
    _object(d)(d, x, base - 4.5 * d.unit)
    if wide:
        return Zone(
            d.margin,
            d.margin,
            d.width * 0.44 - d.margin,
            d.height - d.margin - d.foot,
            "low",
            "middle",
        )
    return Zone(
        d.margin,
        d.margin,
        d.width - 2 * d.margin,
        max(d.height * 0.22, top - 1.6 * d.margin),
        "centre",
        "top",
    )


def _drum(d: Drawing, x: float, bottom: float, radius: float, tall: float, colour: str) -> None:
    p = d.palette
    flat = 0.17
    side = d.across(
        x - radius,
        x + radius,
        mix(colour, p.light, 0.35),
        colour,
        mix(colour, p.deep, 0.28),
        mix(colour, p.deep, 0.42),
    )
    body = trace(
        "M",
        x - radius,
        bottom - tall,
        "V",
        bottom,
        "A",
        radius,
        radius * flat,
        0,
        0,
        0,
        x + radius,
        bottom,
        "V",
        bottom - tall,
        "Z",
    )
    lid = d.across(x - radius, x + radius, mix(colour, p.light, 0.65), mix(colour, p.light, 0.25))
    d.add(path(body, side), ellipse(x, bottom - tall, radius, radius * flat, lid))


def _round_body(d: Drawing, x: float, radius: float, colour: str) -> str:
    """Return the paint of a cylinder lit from the left."""
    p = d.palette
    return d.linear(
        (x - radius, 0),
        (x + radius, 0),
        (
            (0, mix(colour, p.deep, 0.30), 1),
            (0.16, mix(colour, p.light, 0.22), 1),
            (0.28, mix(colour, p.light, 0.55), 1),
            (0.40, colour, 1),
            (0.78, mix(colour, p.deep, 0.38), 1),
            (1, mix(colour, p.deep, 0.18), 1),
        ),
    )


def _bottle(d: Drawing, x: float, bottom: float) -> None:
    p, u = d.palette, d.unit
    radius, tall = 9.5 * u, 30 * u
    shoulder = 5 * u
    top = bottom - tall
    body = trace(
        "M",
        x - radius,
        bottom,
        "V",
        top + shoulder,
        "Q",
        x - radius,
        top,
        x - radius * 0.4,
        top,
        "H",
        x + radius * 0.4,
        "Q",
        x + radius,
        top,
        x + radius,
        top + shoulder,
        "V",
        bottom,
        "A",
        radius,
        radius * 0.16,
        0,
        0,
        1,
        x - radius,
        bottom,
        "Z",
    )
    d.add(path(body, _round_body(d, x, radius, p.main)))
    neck = radius * 0.36
    d.add(
        rect(
            x - neck,
            top - 2.4 * u,
            neck * 2,
            3 * u,
            _round_body(d, x, neck, mix(p.main, p.deep, 0.2)),
        )
    )
    _cap_and_label(d, (x, top), radius)


def _cap_and_label(d: Drawing, shoulder: Point, radius: float) -> None:
    (x, top), p, u = shoulder, d.palette, d.unit
    cap = radius * 0.52
    d.add(
        rect(
            x - cap,
            top - 11 * u,
            cap * 2,
            9 * u,
            _round_body(d, x, cap, p.accent),
            round_by=0.8 * u,
        )
    )
    d.add(
        rect(
            x - radius * 0.62,
            top + 10 * u,
            radius * 1.24,
            12 * u,
            p.light,
            round_by=0.5 * u,
            opacity=0.94,
        )
    )
    d.add(circle(x, top + 14 * u, 1.7 * u, p.accent))
    for at in range(2):
        d.add(
            rect(
                x - radius * (0.36 - 0.1 * at),
                top + (17.6 + 1.7 * at) * u,
                radius * (0.72 - 0.2 * at),
                0.6 * u,
                p.deep,
            )
        )


def _cup(d: Drawing, x: float, bottom: float) -> None:
    p, u = d.palette, d.unit
    radius, tall = 12 * u, 17 * u
    top = bottom - tall
    d.add(
        circle(
            x + radius * 1.02,
            top + tall * 0.48,
            radius * 0.42,
            "none",
            stroke=mix(p.main, p.deep, 0.2),
            line=2.3 * u,
        )
    )
    body = trace(
        "M",
        x - radius,
        top,
        "C",
        x - radius,
        top + tall * 0.72,
        x - radius * 0.8,
        bottom - tall * 0.02,
        x - radius * 0.48,
        bottom,
        "Q",
        x,
        bottom + radius * 0.14,
        x + radius * 0.48,
        bottom,
        "C",
        x + radius * 0.8,
        bottom - tall * 0.02,
        x + radius,
        top + tall * 0.72,
        x + radius,
        top,
        "Z",
    )
    d.add(path(body, _round_body(d, x, radius, p.main)))
    d.add(ellipse(x, top, radius, radius * 0.2, mix(p.main, p.light, 0.55)))
    d.add(ellipse(x, top + 0.5 * u, radius * 0.9, radius * 0.16, shade(p.deep, 0.33, 1.2)))
    for at in range(3):
        left = x + (at - 1) * 5 * u
        steam = [
            (left + math.sin(step * 1.25 + at) * 1.5 * u, top - (3 + step * 3.4) * u)
            for step in range(6)
        ]
        fade = d.linear(
            (0, top - 20 * u),
            (0, top - 3 * u),
            ((0, p.light, 0), (0.6, p.light, 0.7), (1, p.light, 0)),
        )
        d.add(path(smooth_path(steam), "none", stroke=fade, line=1.2 * u))


def _sphere(d: Drawing, x: float, bottom: float) -> None:
    p, u = d.palette, d.unit
    radius = 14.5 * u
    for (sx, sy), size, colour in (
        ((x - 2 * u, bottom - radius + u), radius, p.main),
        ((x + 14 * u, bottom - 4.2 * u), 5.2 * u, p.accent),
    ):
        paint = d.radial(
            (sx - size * 0.35, sy - size * 0.42),
            size * 1.6,
            (
                (0, mix(colour, p.light, 0.75), 1),
                (0.25, mix(colour, p.light, 0.25), 1),
                (0.6, colour, 1),
                (1, mix(colour, p.deep, 0.65), 1),
            ),
        )
        d.add(circle(sx, sy, size, paint))


def _box(d: Drawing, x: float, bottom: float) -> None:
    p, u = d.palette, d.unit
    wide, deep, tall = 13 * u, 10 * u, 24 * u
    rise = 2.4 * u
    mid = x - wide / 2 + wide * 0.62
    left, right = x - wide * 0.95, mid + deep
    front = [
        (left, bottom - rise),
        (mid, bottom + rise * 0.3),
        (mid, bottom + rise * 0.3 - tall),
        (left, bottom - rise - tall),
    ]
    side = [
        (mid, bottom + rise * 0.3),
        (right, bottom - rise),
        (right, bottom - rise - tall),
        (mid, bottom + rise * 0.3 - tall),
    ]
    back = (left + right - mid, bottom - rise * 2.3 - tall)
    lid = [
        (left, bottom - rise - tall),
        (mid, bottom + rise * 0.3 - tall),
        (right, bottom - rise - tall),
        back,
    ]
    d.add(
        path(line_path(front, closed=True), d.across(left, mid, mix(p.main, p.light, 0.25), p.main))
    )
    d.add(
        path(
            line_path(side, closed=True),
            d.across(mid, right, mix(p.main, p.deep, 0.45), mix(p.main, p.deep, 0.3)),
        )
    )
    d.add(path(line_path(lid, closed=True), mix(p.main, p.light, 0.5)))
    skew = (bottom + rise * 0.3 - (bottom - rise)) / (mid - left)
    band = [
        (left, bottom - rise - tall * 0.62),
        (mid, bottom + rise * 0.3 - tall * 0.62),
        (mid, bottom + rise * 0.3 - tall * 0.34),
        (left, bottom - rise - tall * 0.34),
    ]
    d.add(path(line_path(band, closed=True), p.light, opacity=0.95))
    centre_x = left + (mid - left) * 0.5
    d.add(
        circle(centre_x, bottom - rise - tall * 0.48 + skew * (centre_x - left), 2.4 * u, p.accent)
    )


def _phone(d: Drawing, x: float, bottom: float) -> None:
    p, u = d.palette, d.unit
    wide, tall = 17 * u, 35 * u
    left, top = x - wide / 2, bottom - tall
    d.add(
        rect(
            left,
            top,
            wide,
            tall,
            d.across(left, left + wide, mix(p.deep, p.light, 0.35), p.deep, p.deep),
            round_by=2.8 * u,
        )
    )
    screen = d.linear(
        (left, top),
        (left + wide, bottom),
        ((0, p.accent, 1), (0.5, p.main, 1), (1, mix(p.main, p.deep, 0.5), 1)),
    )
    d.add(
        rect(
            left + 0.8 * u, top + 0.8 * u, wide - 1.6 * u, tall - 1.6 * u, screen, round_by=2.1 * u
        )
    )
    d.add(rect(x - 2.2 * u, top + 1.8 * u, 4.4 * u, 1.2 * u, p.deep, round_by=0.6 * u))
    d.add(circle(x, top + 14 * u, 4.6 * u, p.light, opacity=0.9))
    for at in range(3):
        d.add(
            rect(
                x - (5.4 - at) * u,
                top + (21.5 + 2.4 * at) * u,
                (10.8 - 2 * at) * u,
                1.1 * u,
                p.light,
                round_by=0.5 * u,
                opacity=0.8 - 0.2 * at,
            )
        )


_OBJECTS = word_table("""
cup: coffee tea cup mug latte espresso cappuccino | 咖啡 茶 コーヒー 커피 कॉफ़ी चाय চা কফি
phone: phone smartphone app device | 手机 スマホ 휴대폰 फ़ोन
box: box package packaging parcel book | 盒 箱 상자 डिब्बा
bottle: bottle perfume cosmetic cosmetics skincare lotion serum wine candle jar |
  香水 瓶 化妆 향수 화장품 बोतल
sphere: sphere ball orb 3d | 球
""")
_MAKERS: dict[str, Callable[[Drawing, float, float], None]] = {
    "cup": _cup,
    "phone": _phone,
    "box": _box,
    "bottle": _bottle,
    "sphere": _sphere,
}


def _object(d: Drawing) -> Callable[[Drawing, float, float], None]:
    best = max(_OBJECTS, key=lambda entry: entry.count(d.subject))
    if best.count(d.subject):
        return _MAKERS[best.name]
    return d.chance.choice((_bottle, _sphere, _box))
