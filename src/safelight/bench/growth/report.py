"""The numbers of a growth bench: costs by verb and size, and how they grow.

Pure. Owns the shape of the report, which is also the JSON; units stand in the names. A cost that is
the same at all sizes grows by 1; one that follows the logarithm of the size by at most the ratio of
the logarithms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from safelight.bench.result import Machine

MUST, AIM = 3.0, 1.5


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A verb at one size: CPU milliseconds a call and steps of SQLite's machine, medians.

    `ratio`: of the CPU time to that of the smallest size, median over the rounds, in each of which
    all sizes took turns.
    """

    size: int
    cpu_ms: float
    ratio: float
    steps: float | None = None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A verb over the sizes of one axis, the smallest first."""

    axis: str
    verb: str
    points: tuple[Point, ...]

    @property
    def growth(self) -> float:
        """How many times as much the largest size costs as the smallest, CPU time."""
        return self.points[-1].ratio

    @property
    def exponent(self) -> float:
        """Of the power of the size that would grow so: 0 not at all, 1 in proportion."""
        sizes = self.points[-1].size / self.points[0].size
        return math.log(max(self.growth, 1e-9)) / math.log(sizes)

    @property
    def steps_growth(self) -> float | None:
        """The same for steps; None where there are none."""
        first, last = self.points[0].steps, self.points[-1].steps
        return last / first if first and last is not None else None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A start on books of a size: seconds until orders are accepted."""

    jobs: int
    file_mb: float
    ready_s: float
    cpu_s: float


class GrowthReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    version: str
    machine: Machine
    rounds: int
    took_s: float
    curves: tuple[Curve, ...]
    starts: tuple[Start, ...]

    @property
    def failed(self) -> tuple[Curve, ...]:
        """The curves that break the bar."""
        return tuple(curve for curve in self.curves if curve.growth > MUST)


def curve(
    axis: str,
    verb: str,
    sizes: Sequence[int],
    rounds: Sequence[Sequence[float]],
    steps: Sequence[float | None],
) -> Curve:
    """Return a curve from what was measured.

    Args:
        axis: what grows.
        verb: what was measured.
        sizes: of the axis, ascending.
        rounds: in each the CPU milliseconds at every size.
        steps: at every size.
    """
    points = [
        Point(
            size=size,
            cpu_ms=statistics.median(one[at] for one in rounds),
            ratio=statistics.median(one[at] / one[0] for one in rounds),
            steps=steps[at],
        )
        for at, size in enumerate(sizes)
    ]
    return Curve(axis=axis, verb=verb, points=tuple(points))
