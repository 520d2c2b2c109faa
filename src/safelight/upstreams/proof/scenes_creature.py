"""The scene of an animal: a bust in front of a disc, with the ears its kind has."""

from __future__ import annotations

from safelight.upstreams.proof.colour import mix, to_oklch
from safelight.upstreams.proof.drawing import (
    Drawing,
    Point,
    Zone,
    circle,
    ellipse,
    group,
    line_path,
    path,
    trace,
    turned,
)
from safelight.upstreams.proof.palette import named_colours
from safelight.upstreams.proof.words import word_table

_EARS = word_table("""
pointed: cat cats kitten fox wolf lynx | 猫 貓 ネコ 狐 고양이 여우 बिल्ली বিড়াল
floppy: dog dogs puppy hound corgi | 狗 犬 강아지 कुत्ता কুকুর
long: rabbit bunny hare | 兔 兎 うさぎ 토끼 खरगोश খরগোশ
round: bear panda otter mouse koala lion tiger monkey | 熊 パンダ 獭 곰 수달 भालू বাঘ
""")

_COATS = word_table("""
#d9662b: fox tiger lion | 狐 여우 বাঘ
#8a6248: otter bear koala monkey | 熊 獭 곰 수달 भालू
""")


def creature(d: Drawing) -> Zone:
    """Draw an animal's bust in front of a disc."""
    p, u = d.palette, d.unit
    d.back(p.ground)
    wide = d.ratio > 1.2
    x = d.width * (0.70 if wide else 0.5)
    head_y = d.height - 50 * u
    d.plate.append(circle(x, d.height - 41 * u, 42 * u, p.second))
    coat = _coat(d)
    dark = mix(coat, p.deep, 0.55)
    pale = mix(coat, p.light, 0.72)
    bust = trace(
        "M",
        x - 31 * u,
        d.height + u,
        "C",
        x - 31 * u,
        d.height - 34 * u,
        x - 16 * u,
        head_y + 10 * u,
        x,
        head_y + 10 * u,
        "S",
        x + 31 * u,
        d.height - 34 * u,
        x + 31 * u,
        d.height + u,
        "Z",
    )
    d.add(path(bust, mix(coat, p.deep, 0.14)))
    d.add(ellipse(x, d.height + 2 * u, 15 * u, 24 * u, pale))
    kind = max(_EARS, key=lambda entry: entry.count(d.subject) or (entry.name == "round") / 2).name
    _ears(d, (x, head_y), kind, (coat, dark, pale))
    _face(d, (x, head_y), kind, (coat, dark, pale))
    if wide:
        return Zone(
            d.margin,
            d.margin,
            d.width * 0.44 - d.margin,
            d.height - d.margin - d.foot,
            "low",
            "top",
        )
    free = head_y - (44 if kind == "long" else 32) * u
    return Zone(
        d.margin,
        d.margin,
        d.width - 2 * d.margin,
        max(d.height * 0.16, free - d.margin),
        "centre",
        "top",
    )


def _coat(d: Drawing) -> str:
    """Return a colour for the fur: the animal's own, unless the prompt names colours."""
    own = max(_COATS, key=lambda entry: entry.count(d.subject))
    if own.count(d.subject) and not named_colours(d.subject):
        return own.name
    return d.palette.main if 0.4 < to_oklch(d.palette.main)[0] < 0.85 else d.palette.accent


def _ears(d: Drawing, centre: Point, kind: str, coats: tuple[str, str, str]) -> None:
    (x, y), u = centre, d.unit
    coat, dark, pale = coats
    for side in (-1, 1):
        if kind == "pointed":
            outer = [
                (x + side * 21.5 * u, y - 2 * u),
                (x + side * 19.5 * u, y - 29 * u),
                (x + side * 3 * u, y - 15 * u),
            ]
            inner = [
                (x + side * 18.5 * u, y - 8 * u),
                (x + side * 17.6 * u, y - 23 * u),
                (x + side * 8.5 * u, y - 15 * u),
            ]
            d.add(
                path(line_path(outer, closed=True), coat, stroke=coat, line=2 * u),
                path(line_path(inner, closed=True), dark),
            )
        elif kind == "long":
            turn = turned(side * 11, x + side * 8 * u, y - 12 * u)
            shapes = [
                ellipse(x + side * 8 * u, y - 28 * u, 5.4 * u, 17 * u, coat),
                ellipse(
                    x + side * 8 * u,
                    y - 27 * u,
                    2.8 * u,
                    12.5 * u,
                    mix(d.palette.accent, pale, 0.5),
                ),
            ]
            d.add(group(shapes, transform=turn))
        elif kind == "floppy":
            turn = turned(side * -24, x + side * 19 * u, y - 12 * u)
            d.add(
                group(
                    [ellipse(x + side * 21 * u, y - 1 * u, 6.6 * u, 15 * u, dark)], transform=turn
                )
            )
        else:
            d.add(
                circle(x + side * 16.5 * u, y - 15 * u, 7 * u, coat),
                circle(x + side * 16.5 * u, y - 15 * u, 3.8 * u, dark),
            )


def _face(d: Drawing, centre: Point, kind: str, coats: tuple[str, str, str]) -> None:
    (x, y), u = centre, d.unit
    coat, dark, pale = coats
    ink = d.palette.deep
    d.add(ellipse(x, y, 23 * u, 20.5 * u, coat))
    if kind == "floppy":
        turn = turned(24, x - 19 * u, y - 12 * u)
        d.add(group([ellipse(x - 21 * u, y - 1 * u, 6.6 * u, 15 * u, dark)], transform=turn))
        turn = turned(-24, x + 19 * u, y - 12 * u)
        d.add(group([ellipse(x + 21 * u, y - 1 * u, 6.6 * u, 15 * u, dark)], transform=turn))
    d.add(ellipse(x, y + 8.5 * u, 12.5 * u, 9.5 * u, pale))
    for side in (-1, 1):
        d.add(
            circle(x + side * 9.6 * u, y - 2.2 * u, 2.5 * u, ink),
            circle(x + side * 9.6 * u + 0.8 * u, y - 3.1 * u, 0.8 * u, d.palette.light),
        )
        d.add(
            ellipse(
                x + side * 14.6 * u, y + 5.2 * u, 3.2 * u, 1.9 * u, d.palette.accent, opacity=0.55
            )
        )
        smile = trace("M", x, y + 8.2 * u, "q", side * 0.6 * u, 3.6 * u, side * 4.6 * u, 2.9 * u)
        d.add(path(smile, "none", stroke=ink, line=0.75 * u))
        if kind == "pointed" or "otter" in d.subject:
            for at in range(2):
                hair = trace(
                    "M",
                    x + side * 10 * u,
                    y + (7.4 + 2.2 * at) * u,
                    "l",
                    side * 11 * u,
                    (-0.6 + 1.6 * at) * u,
                )
                d.add(path(hair, "none", stroke=ink, line=0.28 * u, opacity=0.55))
    d.add(
        path(
            trace(
                "M",
                x - 2.7 * u,
                y + 5 * u,
                "h",
                5.4 * u,
                "q",
                -0.5 * u,
                3.3 * u,
                -2.7 * u,
                3.4 * u,
                "q",
                -2.2 * u,
                -0.1 * u,
                -2.7 * u,
                -3.4 * u,
                "Z",
            ),
            ink,
        )
    )
