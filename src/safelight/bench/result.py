"""The numbers of a bench: what was counted, and the medians and ratios made of it.

Pure. Owns the shape of the report, which is also the JSON; units stand in the names. A number that
this system cannot measure, or that a workload does not ask for, is None.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from safelight.bench.workloads import Kind, Shape, Workload

OURS = "gateway"
"""How safelight is called among the contenders."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A contender's part of one round: orders, CPU seconds of its processes, wall seconds.

    `failures` counts by word; `at_once` is how many waited at the upstream together.
    """

    asked: int
    answered: int
    cpu_s: float | None
    seconds: float
    failures: dict[str, int] = {}
    at_once: int | None = None
    over_idle_mb: float | None = None
    waiting_kb: float | None = None

    @property
    def cpu_ms(self) -> float | None:
        """CPU milliseconds a picture."""
        return None if self.cpu_s is None or not self.answered else self.cpu_s * 1e3 / self.answered

    @property
    def per_s(self) -> float:
        """Pictures a second."""
        return self.answered / self.seconds

    @property
    def busy(self) -> float | None:
        """CPU seconds a second: 1 is a whole core, less means that somebody else was the limit."""
        return None if self.cpu_s is None else self.cpu_s / self.seconds


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the order's first byte sent to the answer's last byte received."""

    p50: float
    p99: float
    samples: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one contender did in one workload: medians of its rounds.

    Attributes:
        error: why it did not take part to the end.
        added_ms: over the direct way with one client; of a crowd, over the upstream's delay.
        idle_mb: resident memory (2**20 bytes) before its first order.
        over_idle_mb: the highest above that.
        waiting_kb: resident memory (2**10 bytes) for each order in flight, over that after one.
        to_nginx: its CPU over nginx's.
        gateway_to_it: the gateway's CPU over its; below that the same in single rounds.
    """

    contender: str
    asked: int = 0
    answered: int = 0
    failures: dict[str, int] = {}
    error: str | None = None
    cpu_ms: float | None = None
    per_s: float | None = None
    busy: float | None = None
    latency_ms: Latency | None = None
    added_ms: Latency | None = None
    idle_mb: float | None = None
    over_idle_mb: float | None = None
    waiting_kb: float | None = None
    at_once: int | None = None
    to_nginx: float | None = None
    gateway_to_it: float | None = None
    gateway_to_it_lowest: float | None = None
    gateway_to_it_highest: float | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is safelight's own gateway."""
        return self.contender == OURS


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway did for the orders that it was sent, as its statement tells afterwards.

    A line settles only after the picture was verified, stored, fsynced and read back.
    """

    answered: int
    sold_by_upstream: int
    settled: int
    distinct_pictures: int
    charged_micros: int
    stored_bytes: int


class WorkloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one workload; `included`: the gateway's books, if it took part."""

    name: str
    shows: str
    kind: Kind
    shape: Shape
    base64_bytes: int
    picture_size: str
    clients: int
    delay_s: float
    contenders: tuple[Standing, ...]
    included: Books | None

    def standing(self, contender: str) -> Standing | None:
        """Return what a contender did here, if it took part."""
        return next((one for one in self.contenders if one.contender == contender), None)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A promise about one workload, and whether it was kept; None: not measured, or no promise.

    `must` is the promise, `aim` what it shall become; either may be missing.
    `ratio`: its values are CPU times over those of a peer, and have no unit.
    """

    workload: str
    measure: str
    unit: str
    ratio: bool
    must: float | None
    aim: float | None
    value: float | None
    kept: bool | None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """On what it ran; nothing that names the machine."""

    system: str
    processor: str
    cpus: int
    python: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; `skipped` says why a contender did not take part."""

    version: str
    versions: dict[str, str]
    machine: Machine
    pinned: bool
    rounds: int
    quick: bool
    took_s: float
    skipped: dict[str, str]
    workloads: tuple[WorkloadResult, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def missed(self) -> bool:
        """Whether a promise was broken, or the gateway itself could not be measured."""
        ours = (one for played in self.workloads for one in played.contenders if one.ours)
        return any(one.kept is False for one in self.verdicts) or any(one.error for one in ours)


class Counted(msgspec.Struct, kw_only=True):
    """What was counted of one contender in one workload, before medians are made of it."""

    contender: str
    turns: list[Turn] = []
    latencies_ms: list[float] = []
    idle_mb: float | None = None
    over_idle_mb: float | None = None
    error: str | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` of all reach not over.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("no value has no percentile")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def ratio(above: float | None, below: float | None) -> float | None:
    """Return above / below, or None where one is not measured or there is nothing to relate to."""
    if above is None or not below:
        return None
    return above / below


def median(values: Sequence[float | None]) -> float | None:
    """Return the median, or None where a value is not measured."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def latency(values: Sequence[float]) -> Latency | None:
    """Return the summary of latencies in milliseconds; None: there are none."""
    if not values:
        return None
    return Latency(p50=percentile(values, 50), p99=percentile(values, 99), samples=len(values))


def over(found: Latency | None, least: Latency | None) -> Latency | None:
    """Return what latencies are over those that cannot be avoided."""
    if found is None or least is None:
        return None
    return Latency(p50=found.p50 - least.p50, p99=found.p99 - least.p99, samples=found.samples)


def standings(
    counted: Sequence[Counted], direct: Latency | None, nginx: str
) -> tuple[Standing, ...]:
    """Return the medians of each contender, and their ratios.

    Args:
        counted: what was counted of each.
        direct: the latencies that no gateway can avoid.
        nginx: the name of the one that all are related to.
    """
    cpu = {one.contender: median([turn.cpu_ms for turn in one.turns]) for one in counted}
    rounds = {one.contender: [turn.cpu_ms for turn in one.turns] for one in counted}
    return tuple(_standing(one, cpu, rounds, direct, nginx) for one in counted)


def _standing(
    one: Counted,
    cpu: Mapping[str, float | None],
    rounds: Mapping[str, Sequence[float | None]],
    direct: Latency | None,
    nginx: str,
) -> Standing:
    mine = cpu[one.contender]
    pairs = zip(rounds.get(OURS, ()), rounds[one.contender], strict=False)
    single = [found for ours, its in pairs if (found := ratio(ours, its))]
    failures: Counter[str] = Counter()
    for turn in one.turns:
        failures.update(turn.failures)
    waited = latency(one.latencies_ms)
    at_once = [turn.at_once for turn in one.turns if turn.at_once is not None]
    heights = [turn.over_idle_mb for turn in one.turns]
    return Standing(
        contender=one.contender,
        asked=sum(turn.asked for turn in one.turns),
        answered=sum(turn.answered for turn in one.turns),
        failures=dict(failures),
        error=one.error,
        cpu_ms=mine,
        per_s=median([turn.per_s for turn in one.turns]),
        busy=median([turn.busy for turn in one.turns]),
        latency_ms=waited,
        added_ms=over(waited, direct),
        idle_mb=one.idle_mb,
        over_idle_mb=one.over_idle_mb if median(heights) is None else median(heights),
        waiting_kb=median([turn.waiting_kb for turn in one.turns]),
        at_once=min(at_once, default=None),
        to_nginx=ratio(mine, cpu.get(nginx)),
        gateway_to_it=ratio(cpu.get(OURS), mine),
        gateway_to_it_lowest=min(single, default=None),
        gateway_to_it_highest=max(single, default=None),
        turns=tuple(one.turns),
    )


def workload_result(
    workload: Workload, clients: int, found: tuple[Standing, ...], included: Books | None
) -> WorkloadResult:
    """Put together what was found in one workload."""
    return WorkloadResult(
        name=workload.name,
        shows=workload.shows,
        kind=workload.kind,
        shape=workload.shape,
        base64_bytes=workload.weight.base64_bytes,
        picture_size=workload.weight.size,
        clients=clients,
        delay_s=workload.delay_s,
        contenders=found,
        included=included,
    )
