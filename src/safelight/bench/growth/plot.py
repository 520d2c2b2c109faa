"""The curves of a growth bench as one picture: cost against size, as a multiple of the smallest.

Owns geometry and colours. Both axes are logarithmic: what costs the same at all sizes lies flat,
what grows in proportion would leave the panel at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from safelight.bench.growth.report import MUST, Curve, GrowthReport
from safelight.bench.plots import png

_PANEL_WIDTH, _PANEL_HEIGHT = 1000, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 430, 50, 50
_LEAST, _MOST = 0.25, 8.0
_STEPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_INK, _GRID, _BAR, _FONT = "#1f2937", "#e5e7eb", "#dc2626", "Noto Sans, DejaVu Sans, sans-serif"
_COLOURS = (
    "#c2410c",
    "#1d4ed8",
    "#15803d",
    "#7e22ce",
    "#0891b2",
    "#be185d",
    "#a16207",
    "#4d7c0f",
    "#475569",
    "#9f1239",
    "#0f766e",
    "#6d28d9",
)


def draw(report: GrowthReport) -> bytes:
    """Return the plot of a report as a PNG file."""
    return png(svg(report))


def svg(report: GrowthReport) -> str:
    """Return the plot as SVG: a panel for each axis that has more than two sizes."""
    panels = _panels(report.curves)
    height = _PANEL_HEIGHT * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_PANEL_WIDTH}" height="{height}">',
        f'<rect width="{_PANEL_WIDTH}" height="{height}" fill="white"/>',
    ]
    for at, (axis, curves) in enumerate(panels):
        parts.append(f'<g transform="translate(0 {at * _PANEL_HEIGHT})">')
        parts += _panel(axis, curves)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _panels(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    axes = dict.fromkeys(curve.axis for curve in curves if len(curve.points) > 2)
    return [(axis, [one for one in curves if one.axis == axis][: len(_COLOURS)]) for axis in axes]


def _panel(axis: str, curves: Sequence[Curve]) -> Iterator[str]:
    sizes = [point.size for point in curves[0].points]
    yield _text(_LEFT, 28, f"CPU time, as a multiple: {axis}", size=16, anchor="start")
    for value in _STEPS:
        y = _y(value)
        yield _line(_LEFT, y, _PANEL_WIDTH - _RIGHT, y, _GRID)
        yield _text(_LEFT - 8, y + 4, f"{value:g}", size=12, anchor="end")
    yield _line(_LEFT, _y(MUST), _PANEL_WIDTH - _RIGHT, _y(MUST), _BAR)
    for size in sizes:
        yield _text(_x(size, sizes), _PANEL_HEIGHT - _BOTTOM + 22, f"{size:,}", size=12)
    for at, curve in enumerate(curves):
        colour = _COLOURS[at]
        points = " ".join(
            f"{_x(point.size, sizes):.1f},{_y(point.ratio):.1f}" for point in curve.points
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        y = _TOP + 20 * at
        x = _PANEL_WIDTH - _RIGHT + 20
        yield f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colour}"/>'
        yield _text(x + 18, y, f"{curve.verb} ({curve.growth:.2f})", size=12, anchor="start")


def _x(size: int, sizes: Sequence[int]) -> float:
    room = _PANEL_WIDTH - _LEFT - _RIGHT
    return _LEFT + room * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])


def _y(ratio: float) -> float:
    room = _PANEL_HEIGHT - _TOP - _BOTTOM
    within = min(max(ratio, _LEAST), _MOST)
    return _TOP + room * (1 - math.log(within / _LEAST) / math.log(_MOST / _LEAST))


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, *, size: int, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-family="{_FONT}" '
        f'text-anchor="{anchor}" fill="{_INK}">{escape(words)}</text>'
    )
