"""The report of a bench as rows of text: one table for each workload, one for the promises.

Pure. Owns how a number is written; `result` made it.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.bench.result import Latency, Standing, Verdict, WorkloadResult

FULL_CORE = 0.85
"""A contender that was busier than that was itself the limit of its pictures a second."""
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, unit: str = "") -> str:
    """Return three digits that count, or a dash."""
    if value is None:
        return NOTHING
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} {unit}".rstrip()


def part(value: float | None) -> str:
    """Return a ratio; one below 1 as a fraction of one, as people say it."""
    if value is None or value <= 0:
        return NOTHING
    return number(value) if value >= 1 else f"1/{number(1 / value)}"


def workload_table(played: WorkloadResult) -> Table:
    """Return the table of one workload."""
    columns = _COLUMNS[played.kind]
    return Table(
        tuple(name for name, _ in columns),
        tuple(tuple(read(one) for _, read in columns) for one in played.contenders),
    )


def remarks(played: WorkloadResult) -> list[str]:
    """Return what cannot stand in a table: errors, failures."""
    said = []
    for one in played.contenders:
        if one.error:
            said.append(f"{one.contender}: {one.error}")
        if one.failures:
            words = ", ".join(f"{count} x {word}" for word, count in sorted(one.failures.items()))
            said.append(f"{one.contender}: {one.answered} of {one.asked} answered; {words}")
    return said


def verdict_table(verdicts: tuple[Verdict, ...]) -> Table:
    """Return the table of the promises."""
    headings = ("workload", "the gateway's", "must", "aim", "measured", "")
    return Table(headings, tuple(_verdict(one) for one in verdicts))


def _verdict(one: Verdict) -> tuple[str, ...]:
    found = (one.must, one.aim, one.value)
    if one.ratio:
        written = [part(value) for value in found]
    else:
        written = [number(value, one.unit) for value in found]
    sign = {None: "", True: "✓", False: "✗"}[one.kept]
    return (one.workload, one.measure, *written, sign)


def _p50(found: Latency | None) -> str:
    return NOTHING if found is None else number(found.p50)


def _p99(found: Latency | None) -> str:
    return NOTHING if found is None else number(found.p99)


def _per_s(one: Standing) -> str:
    shown = number(one.per_s)
    return shown if one.busy is None or one.busy >= FULL_CORE else f"≥ {shown}"


def _answered(one: Standing) -> str:
    return f"{one.answered} of {one.asked}" if one.asked else NOTHING


_NAME = ("", lambda one: one.contender)
_CPU = (
    ("CPU ms", lambda one: number(one.cpu_ms)),
    ("of nginx's", lambda one: part(one.to_nginx)),
    ("gateway's of it", lambda one: part(one.gateway_to_it)),
)
_OVER = ("+ MB", lambda one: number(one.over_idle_mb))
_IDLE = ("idle MB", lambda one: number(one.idle_mb))
_COLUMNS = {
    "load": (
        _NAME,
        *_CPU,
        ("a second", _per_s),
        ("p50 + ms", lambda one: _p50(one.added_ms)),
        ("p99 + ms", lambda one: _p99(one.added_ms)),
        _IDLE,
        _OVER,
    ),
    "waiting": (
        _NAME,
        ("answered", _answered),
        ("KB each", lambda one: number(one.waiting_kb)),
        ("at upstream", lambda one: number(one.at_once)),
        ("p50 late ms", lambda one: _p50(one.added_ms)),
        ("p99 late ms", lambda one: _p99(one.added_ms)),
        *_CPU,
        _IDLE,
        _OVER,
    ),
    "burst": (
        _NAME,
        ("answered", _answered),
        ("at once", lambda one: number(one.at_once)),
        _OVER,
        _IDLE,
        ("a second", lambda one: number(one.per_s)),
        *_CPU,
    ),
}
