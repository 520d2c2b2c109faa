"""The numbers of a bench: what was counted, and the medians and ratios made of it.

Pure. Owns the shape of the report, which is also the JSON; units stand in the names. A number that
this system cannot measure is None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from safelight.bench.picture import Weight


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One target's part of one round: answers, CPU seconds of its processes, wall seconds."""

    answered: int
    cpu_s: float | None
    seconds: float

    @property
    def cpu_ms(self) -> float | None:
        """CPU milliseconds a picture."""
        return None if self.cpu_s is None else self.cpu_s * 1000 / self.answered

    @property
    def per_s(self) -> float:
        """Pictures a second."""
        return self.answered / self.seconds


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the order's first byte sent to the answer's last byte received."""

    p50: float
    p99: float
    samples: int


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds over those of the direct way to the upstream."""

    p50: float
    p99: float


class CpuMs(msgspec.Struct, frozen=True, kw_only=True):
    """CPU milliseconds a picture, user and system: medians of the rounds."""

    relay: float | None
    gateway: float | None
    naive: float


class Ratios(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's CPU a picture over that of the others: ratios of the medians."""

    gateway_to_relay: float | None
    gateway_to_naive: float | None
    relay_lowest: float | None
    relay_highest: float | None


class PerSecond(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures a second under load: medians of the rounds."""

    relay: float
    gateway: float


class MemoryMb(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of the gateway in megabytes (2**20)."""

    idle: float
    peak: float
    peak_over_idle: float


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway did for the orders that it was sent, as its statement tells afterwards.

    A line settles only after the picture was verified, stored, fsynced and read back.
    """

    ordered: int
    sold_by_upstream: int
    settled: int
    distinct_pictures: int
    charged_micros: int
    stored_bytes: int


class LatencyMs(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies with one client, all rounds together."""

    direct: Latency
    relay: Latency
    gateway: Latency
    relay_added: Added
    gateway_added: Added


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted, round by round."""

    relay: tuple[Turn, ...]
    gateway: tuple[Turn, ...]
    naive: tuple[Turn, ...]


class SizeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one weight of picture."""

    name: str
    base64_bytes: int
    picture_bytes: int
    picture_size: str
    cpu_ms: CpuMs
    ratios: Ratios
    per_s: PerSecond
    latency_ms: LatencyMs
    memory_mb: MemoryMb | None
    included: Books
    rounds: Rounds


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """On what it ran; nothing that names the machine."""

    system: str
    processor: str
    cpus: int
    python: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    version: str
    machine: Machine
    concurrency: int
    took_s: float
    sizes: tuple[SizeResult, ...]


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


def latency(values: Sequence[float]) -> Latency:
    """Return the summary of latencies in milliseconds."""
    return Latency(p50=percentile(values, 50), p99=percentile(values, 99), samples=len(values))


def latencies(direct: Latency, relay: Latency, gateway: Latency) -> LatencyMs:
    """Return the latencies and what relay and gateway add to the direct way."""
    return LatencyMs(
        direct=direct,
        relay=relay,
        gateway=gateway,
        relay_added=Added(p50=relay.p50 - direct.p50, p99=relay.p99 - direct.p99),
        gateway_added=Added(p50=gateway.p50 - direct.p50, p99=gateway.p99 - direct.p99),
    )


def size_result(
    wanted: Weight,
    rounds: Rounds,
    latency_ms: LatencyMs,
    memory_mb: MemoryMb | None,
    included: Books,
) -> SizeResult:
    """Put together what was counted for one weight."""
    relay = median([turn.cpu_ms for turn in rounds.relay])
    gateway = median([turn.cpu_ms for turn in rounds.gateway])
    naive = statistics.median(turn.cpu_ms or 0.0 for turn in rounds.naive)
    pairs = zip(rounds.gateway, rounds.relay, strict=True)
    single = [found for one, other in pairs if (found := ratio(one.cpu_ms, other.cpu_ms))]
    return SizeResult(
        name=wanted.name,
        base64_bytes=wanted.base64_bytes,
        picture_bytes=wanted.picture_bytes,
        picture_size=wanted.size,
        cpu_ms=CpuMs(relay=relay, gateway=gateway, naive=naive),
        ratios=Ratios(
            gateway_to_relay=ratio(gateway, relay),
            gateway_to_naive=ratio(gateway, naive),
            relay_lowest=min(single, default=None),
            relay_highest=max(single, default=None),
        ),
        per_s=PerSecond(
            relay=statistics.median(turn.per_s for turn in rounds.relay),
            gateway=statistics.median(turn.per_s for turn in rounds.gateway),
        ),
        latency_ms=latency_ms,
        memory_mb=memory_mb,
        included=included,
        rounds=rounds,
    )
