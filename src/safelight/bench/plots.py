"""The report of a bench as pictures: grouped bars, drawn as SVG and turned into PNG by libvips.

Owns geometry and colours; the numbers are those of `result`. libvips is there anyway, so the bench
needs no library of its own for this. Letters come from the Noto package of the extra `proof`, or
from the system's fonts.
"""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from safelight.bench.result import Report, Standing, WorkloadResult
from safelight.bench.tables import number

COLOURS = {
    "gateway": "#c2410c",
    "nginx": "#15803d",
    "relay": "#64748b",
    "naive": "#a8a29e",
    "portkey": "#1d4ed8",
    "litellm": "#7e22ce",
}
"""One colour for each contender, in the order of their bars."""
_OTHER = "#000000"
_WIDTH, _HEIGHT = 1000, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 70, 50
_INK, _GRID, _FONT = "#1f2937", "#e5e7eb", "Noto Sans, DejaVu Sans, sans-serif"
_SCALE = 1.5

_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>{folders}<cachedir>{cache}</cachedir></fontconfig>
"""
_FONT_PACKAGE = "manimgx_fonts"
_SYSTEM_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: whose it is, and its value; None is drawn as a gap with a dash."""

    contender: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of groups of bars; `logarithmic` where values differ by orders of magnitude."""

    title: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]
    logarithmic: bool = True


def draw(report: Report) -> dict[str, bytes]:
    """Return the plots of a report as PNG files by name; one without any value is left out."""
    found = {}
    for name, chart in charts(report).items():
        if any(bar.value for _, bars in chart.groups for bar in bars):
            found[name] = png(svg(chart))
    return found


def charts(report: Report) -> dict[str, Chart]:
    """Return what is drawn of a report, by the name of the file."""
    loads = [one for one in report.workloads if one.kind == "load"]
    plain = [one for one in loads if one.shape == "b64_json"]
    crowds = [one for one in report.workloads if one.kind == "waiting"]
    bursts = [one for one in report.workloads if one.kind == "burst"]

    return {
        "cpu.png": _chart("CPU milliseconds a picture", loads, lambda one: one.cpu_ms),
        "throughput.png": _chart("pictures a second", plain, lambda one: one.per_s),
        "latency.png": _chart("milliseconds added with one client, p50", plain, _added_ms),
        "waiting.png": _chart(
            "KB of memory for each order in flight",
            crowds,
            lambda one: one.waiting_kb,
            logarithmic=False,
        ),
        "burst.png": _chart(
            "MB of memory over idle in a burst",
            bursts,
            lambda one: one.over_idle_mb,
            logarithmic=False,
        ),
    }


def _chart(
    title: str,
    played: Sequence[WorkloadResult],
    read: Callable[[Standing], float | None],
    *,
    logarithmic: bool = True,
) -> Chart:
    groups = [
        (one.name, tuple(Bar(each.contender, read(each)) for each in one.contenders))
        for one in played
    ]
    return Chart(title, tuple(groups), logarithmic=logarithmic)


def _added_ms(one: Standing) -> float | None:
    return None if one.added_ms is None else max(one.added_ms.p50, 0.0)


def svg(chart: Chart) -> str:
    """Return a chart as SVG."""
    values = [bar.value for _, bars in chart.groups for bar in bars if bar.value]
    least, most = _range(values, logarithmic=chart.logarithmic)
    inner = _HEIGHT - _TOP - _BOTTOM

    def height(value: float) -> float:
        if chart.logarithmic:
            return inner * (math.log10(value) - least) / (most - least)
        return inner * (value - least) / (most - least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 28, chart.title, size=18, anchor="start", weight="bold"),
        *_legend(chart),
        *_grid(least, most, height, logarithmic=chart.logarithmic),
        *_groups(chart, height),
        "</svg>",
    ]
    return "\n".join(parts)


def png(drawing: str) -> bytes:
    """Return an SVG as a PNG file."""
    with _letters():
        import pyvips  # noqa: PLC0415 - libvips is loaded where something is drawn

        picture = pyvips.Image.svgload_buffer(drawing.encode(), scale=_SCALE)
        return bytes(picture.flatten(background=255).pngsave_buffer(compression=9, palette=True))


def _range(values: Sequence[float], *, logarithmic: bool) -> tuple[float, float]:
    """Return the ends of the axis: powers of ten, or from nothing to a whole step."""
    if not logarithmic:
        highest = max(values, default=1.0)
        return 0.0, _step(highest) * math.ceil(highest / _step(highest))
    least = math.floor(math.log10(min(values, default=1.0)))
    most = math.ceil(math.log10(max(values, default=10.0)) + 0.05)
    return float(least), float(max(most, least + 1))


def _step(highest: float) -> float:
    """Return the distance of lines that gives three to seven of them: 1, 2 or 5 times a power."""
    power = 10.0 ** math.floor(math.log10(highest / 3))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= highest / 3)


def _grid(
    least: float, most: float, height: Callable[[float], float], *, logarithmic: bool
) -> Iterator[str]:
    if logarithmic:
        steps = [10.0**power for power in range(int(least), int(most) + 1)]
    else:
        step = _step(most)
        steps = [step * times for times in range(round(most / step) + 1)]
    for value in steps:
        y = _HEIGHT - _BOTTOM - height(value)
        yield (
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" '
            f'stroke="{_GRID}"/>'
        )
        yield _text(_LEFT - 8, y + 4, f"{value:g}", size=12, anchor="end")


def _groups(chart: Chart, height: Callable[[float], float]) -> Iterator[str]:
    room = (_WIDTH - _LEFT - _RIGHT) / max(1, len(chart.groups))
    floor = _HEIGHT - _BOTTOM
    for at, (name, bars) in enumerate(chart.groups):
        wide = min(60.0, room * 0.86 / max(1, len(bars)))
        x = _LEFT + room * at + (room - wide * len(bars)) / 2
        yield _text(_LEFT + room * (at + 0.5), floor + 26, name, size=14)
        for bar in bars:
            tall = max(1.0, height(bar.value)) if bar.value else 0.0
            colour = COLOURS.get(bar.contender, _OTHER)
            yield (
                f'<rect x="{x + 1:.1f}" y="{floor - tall:.1f}" width="{wide - 2:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"/>'
            )
            shown = number(bar.value)
            yield _text(x + wide / 2, floor - tall - 4, shown, size=10 if wide < 30 else 11)
            x += wide


def _legend(chart: Chart) -> Iterator[str]:
    present = {bar.contender for _, bars in chart.groups for bar in bars}
    for at, name in enumerate(one for one in COLOURS if one in present):
        x = _LEFT + at * 110
        yield f'<rect x="{x}" y="42" width="12" height="12" fill="{COLOURS[name]}"/>'
        yield _text(x + 18, 53, name, size=13, anchor="start")


def _text(
    x: float, y: float, words: str, *, size: int, anchor: str = "middle", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-family="{_FONT}" '
        f'font-weight="{weight}" text-anchor="{anchor}" fill="{_INK}">{escape(words)}</text>'
    )


@contextmanager
def _letters() -> Iterator[None]:
    """Tell fontconfig where fonts are, unless the operator has; it looks once a process."""
    if os.environ.get("FONTCONFIG_FILE"):
        yield
        return
    spec = importlib.util.find_spec(_FONT_PACKAGE)
    places = [*(spec.submodule_search_locations or ())] if spec else []
    folders = "".join(f"<dir>{escape(one)}</dir>" for one in (*places, *_SYSTEM_FONTS))
    with tempfile.TemporaryDirectory(prefix="safelight-bench-fonts-") as folder:
        config = Path(folder) / "fonts.conf"
        config.write_text(_FONTS.format(folders=folders, cache=folder), encoding="utf-8")
        os.environ["FONTCONFIG_FILE"] = str(config)
        try:
            yield
        finally:
            del os.environ["FONTCONFIG_FILE"]
