"""The form of a pool bench's report: what `--out` writes and the table shows."""

from __future__ import annotations

import msgspec


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One number of one scenario. `bar` is what is promised, in words; empty: nothing is.

    `value` is None where nothing can be said. `passed` is None without a bar.
    """

    name: str
    value: float | None
    shown: str
    bar: str = ""
    passed: bool | None = None


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a process was while it was measured, and how late that made it.

    `cpu_share` is of one CPU; None: not measured. `longest_s` is the longest turn of its event loop
    and `late_s` the 95th percentile of the longest turns of each real second, both in the
    scenario's seconds.
    """

    process: str
    cpu_share: float | None
    longest_s: float | None = None
    late_s: float | None = None


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What one contender made of one scenario.

    `valid` is False when a process was too busy for its time scale: the numbers then say more of
    this machine than of the contender. `error` says why there are no numbers at all.
    """

    contender: str
    speed: float
    took_s: float
    calls: int = 0
    served: int = 0
    outcomes: dict[str, int] = {}
    """How calls ended: `ok`, else status and code."""
    attempts: dict[str, int] = {}
    """Upstream requests by how they were answered."""
    held_back: int = 0
    measures: tuple[Measure, ...] = ()
    load: tuple[Load, ...] = ()
    valid: bool = True
    error: str = ""


class ScenarioResult(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario with the plays of all contenders."""

    name: str
    shows: str
    plays: tuple[Play, ...]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran."""

    system: str
    processor: str
    cpus: int
    python: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    version: str
    litellm_version: str
    machine: Machine
    seed: int
    quick: bool
    took_s: float
    scenarios: tuple[ScenarioResult, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The bars that safelight missed, as `scenario: measure`."""
        return tuple(
            f"{scenario.name}: {measure.name}"
            for scenario in self.scenarios
            for play in scenario.plays
            if play.contender == "safelight"
            for measure in play.measures
            if measure.passed is False
        )
