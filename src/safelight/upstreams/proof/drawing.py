"""The sheet that scenes draw on: SVG shapes in canvas pixels, a plate and a figure.

Owns SVG syntax and the few shapes that several scenes share. No text of a caller ever enters the
SVG: only numbers and palette colours do.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Literal

from safelight.upstreams.proof.palette import Palette

Point = tuple[float, float]
Stops = tuple[tuple[float, str, float], ...]
"""Gradient stops: offset 0..1, hex colour, opacity 0..1."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Where words go, in canvas pixels, and how they stand in there."""

    x: float
    y: float
    width: float
    height: float
    align: Literal["low", "centre"] = "low"
    stand: Literal["top", "middle", "bottom"] = "top"


def number(value: float) -> str:
    """Return a short decimal for SVG."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def trace(*parts: str | float) -> str:
    """Return path data: command letters and the numbers after them."""
    return " ".join(part if isinstance(part, str) else number(part) for part in parts)


def turned(degrees: float, x: float, y: float) -> str:
    """Return a transform that turns about a point."""
    return f"rotate({number(degrees)} {number(x)} {number(y)})"


def moved(x: float, y: float, degrees: float = 0) -> str:
    """Return a transform that moves, after turning by degrees."""
    return f"translate({number(x)} {number(y)})" + (
        f" rotate({number(degrees)})" if degrees else ""
    )


def smooth_path(points: list[Point], *, closed: bool = False) -> str:
    """Return a path through `points` with rounded corners (Catmull-Rom as Bezier curves)."""
    count = len(points)
    parts = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for at in range(count if closed else count - 1):
        before = points[(at - 1) % count] if closed or at else points[0]
        start, end = points[at], points[(at + 1) % count]
        after = points[(at + 2) % count] if closed or at + 2 < count else end
        first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
        second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
        parts.append("C" + " ".join(f"{number(x)} {number(y)}" for x, y in (first, second, end)))
    return "".join(parts) + ("Z" if closed else "")


def line_path(points: list[Point], *, closed: bool = False) -> str:
    """Return a path of straight lines through `points`."""
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return path + ("Z" if closed else "")


@dataclass(slots=True)
class Drawing:
    """One picture's shapes while a scene makes them.

    `plate` is the background (left out of transparent pictures), `figure` what stands on it;
    `blobs` are soft spots of colour (x, y, radius, colour) that are blurred into the plate.
    `detail` is 0, 1 or 2.
    """

    width: int
    height: int
    palette: Palette
    chance: random.Random
    detail: int = 1
    worded: bool = True
    subject: str = ""
    plate: list[str] = field(default_factory=list)
    figure: list[str] = field(default_factory=list)
    blobs: list[tuple[float, float, float, str]] = field(default_factory=list)
    _defs: list[str] = field(default_factory=list)

    @property
    def unit(self) -> float:
        """A hundredth of the short edge; more on very long strips, where shapes would be dust."""
        return max(min(self.width, self.height) / 100, max(self.width, self.height) / 450)

    @property
    def margin(self) -> float:
        """The free border on every side."""
        return 0.065 * min(self.width, self.height)

    @property
    def ratio(self) -> float:
        """Width over height."""
        return self.width / self.height

    @property
    def foot(self) -> float:
        """Height at the bottom that is kept for the proof line."""
        return self.margin * 1.75

    # -- paint ------------------------------------------------------------

    def _define(self, body: str) -> str:
        name = f"p{len(self._defs)}"
        self._defs.append(body.replace("@", name, 1))
        return f"url(#{name})"

    def linear(self, start: Point, end: Point, stops: Stops) -> str:
        """Return a paint that runs from one point to the other."""
        (x1, y1), (x2, y2) = start, end
        box = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
        return self._define(
            f'<linearGradient id="@" gradientUnits="userSpaceOnUse" {box}>'
            f"{_stops(stops)}</linearGradient>"
        )

    def down(self, top: float, bottom: float, *colours: str) -> str:
        """Return a paint of evenly spaced colours from height `top` to height `bottom`."""
        last = max(1, len(colours) - 1)
        stops = tuple((at / last, colour, 1.0) for at, colour in enumerate(colours))
        return self.linear((0, top), (0, bottom), stops)

    def across(self, left: float, right: float, *colours: str) -> str:
        """Return a paint of evenly spaced colours from x `left` to x `right`."""
        last = max(1, len(colours) - 1)
        stops = tuple((at / last, colour, 1.0) for at, colour in enumerate(colours))
        return self.linear((left, 0), (right, 0), stops)

    def radial(self, centre: Point, radius: float, stops: Stops) -> str:
        """Return a paint that runs outwards from a point."""
        box = f'cx="{number(centre[0])}" cy="{number(centre[1])}" r="{number(radius)}"'
        return self._define(
            f'<radialGradient id="@" gradientUnits="userSpaceOnUse" {box}>'
            f"{_stops(stops)}</radialGradient>"
        )

    def clip(self, shape: str) -> str:
        """Return a clip reference made of one SVG shape."""
        return self._define(f'<clipPath id="@">{shape}</clipPath>')

    # -- shapes -----------------------------------------------------------

    def back(self, fill: str) -> None:
        """Fill the whole plate."""
        self.plate.append(rect(0, 0, self.width, self.height, fill))

    def add(self, *shapes: str) -> None:
        """Put shapes on the figure."""
        self.figure.extend(shapes)

    def glow(self, centre: Point, radius: float, colour: str, strength: float) -> str:
        """Return a soft spot of light or shadow."""
        paint = self.radial(
            centre,
            radius,
            (
                (0, colour, strength),
                (0.35, colour, strength * 0.5),
                (0.7, colour, strength * 0.12),
                (1, colour, 0),
            ),
        )
        return circle(*centre, radius, paint)

    def shadow(self, x: float, y: float, radius: float, flat: float, strength: float = 0.4) -> str:
        """Return a soft elliptic shadow on a floor; `flat` is its height over its width."""
        paint = self.radial(
            (0, 0),
            radius,
            (
                (0, self.palette.deep, strength),
                (0.5, self.palette.deep, strength * 0.55),
                (1, self.palette.deep, 0),
            ),
        )
        return group(
            [circle(0, 0, radius, paint)], transform=f"{moved(x, y)} scale(1 {number(flat)})"
        )

    def svg(self, *, plate: bool, figure: bool = True) -> bytes:
        """Return the SVG document of the plate, the figure or both."""
        shapes = (self.plate if plate else []) + (self.figure if figure else [])
        return document(self.width, self.height, shapes, "".join(self._defs))


def document(width: int, height: int, shapes: list[str], defs: str = "") -> bytes:
    """Return an SVG document of this size, in pixels."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return f"{head}<defs>{defs}</defs>{''.join(shapes)}</svg>".encode()


def _stops(stops: Stops) -> str:
    return "".join(
        f'<stop offset="{number(offset)}" stop-color="{colour}" stop-opacity="{number(opacity)}"/>'
        for offset, colour, opacity in stops
    )


def _paint(fill: str, stroke: str, width: float, opacity: float) -> str:
    text = f' fill="{fill}"'
    if stroke:
        text += f' stroke="{stroke}" stroke-width="{number(width)}" stroke-linecap="round"'
    return text + (f' opacity="{number(opacity)}"' if opacity < 1 else "")


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    fill: str,
    *,
    round_by: float = 0,
    opacity: float = 1,
) -> str:
    """Return a rectangle."""
    box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    corner = f' rx="{number(round_by)}"' if round_by else ""
    return f"<rect {box}{corner}{_paint(fill, '', 0, opacity)}/>"


def circle(
    x: float,
    y: float,
    radius: float,
    fill: str,
    *,
    stroke: str = "",
    line: float = 0,
    opacity: float = 1,
) -> str:
    """Return a circle."""
    box = f'cx="{number(x)}" cy="{number(y)}" r="{number(max(0.0, radius))}"'
    return f"<circle {box}{_paint(fill, stroke, line, opacity)}/>"


def ellipse(
    x: float, y: float, across: float, high: float, fill: str, *, opacity: float = 1
) -> str:
    """Return an ellipse of half axes `across` and `high`."""
    box = f'cx="{number(x)}" cy="{number(y)}" rx="{number(across)}" ry="{number(high)}"'
    return f"<ellipse {box}{_paint(fill, '', 0, opacity)}/>"


def path(d: str, fill: str, *, stroke: str = "", line: float = 0, opacity: float = 1) -> str:
    """Return a path."""
    return f'<path d="{d}"{_paint(fill, stroke, line, opacity)}/>'


def pie(x: float, y: float, radius: float, start: float, end: float, fill: str) -> str:
    """Return a sector from angle `start` to `end`, in degrees clockwise from the right."""
    one, two = math.radians(start), math.radians(end)
    wide = 1 if end - start > 180 else 0
    first = (x + radius * math.cos(one), y + radius * math.sin(one))
    last = (x + radius * math.cos(two), y + radius * math.sin(two))
    d = trace("M", x, y, "L", *first, "A", radius, radius, 0, wide, 1, *last, "Z")
    return path(d, fill)


def arc(
    x: float, y: float, radius: float, start: float, end: float, stroke: str, line: float
) -> str:
    """Return a piece of a ring from angle `start` to `end`, in degrees clockwise from the right."""
    one, two = math.radians(start), math.radians(end)
    wide = 1 if end - start > 180 else 0
    first = (x + radius * math.cos(one), y + radius * math.sin(one))
    last = (x + radius * math.cos(two), y + radius * math.sin(two))
    data = trace("M", *first, "A", radius, radius, 0, wide, 1, *last)
    return path(data, "none", stroke=stroke, line=line).replace("round", "butt")


def group(shapes: list[str], *, transform: str = "", clip: str = "", opacity: float = 1) -> str:
    """Return shapes moved, clipped or faded together."""
    text = (f' transform="{transform}"' if transform else "") + (
        f' clip-path="{clip}"' if clip else ""
    )
    text += f' opacity="{number(opacity)}"' if opacity < 1 else ""
    return f"<g{text}>{''.join(shapes)}</g>"
