"""What the gateway promises to cost beside its peers, and whether a run kept it.

Pure. The bars are ratios of one run, or memory; never times, but for the lateness of a crowd, which
a gateway that cannot keep up shows in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safelight.bench.contenders import LITELLM, NGINX, PORTKEY
from safelight.bench.result import OURS, Standing, Verdict, WorkloadResult

Read = Callable[[WorkloadResult, Standing], float | None]


@dataclass(frozen=True, slots=True)
class _Bar:
    """One promise: the value that `read` finds for the gateway shall be at most `must`.

    None: there is no such bar, only the other one.
    """

    workload: str
    measure: str
    unit: str
    must: float | None
    aim: float | None
    read: Read


def _to(peer: str) -> Read:
    def read(found: WorkloadResult, gateway: Standing) -> float | None:
        del gateway
        other = found.standing(peer)
        return None if other is None else other.gateway_to_it

    return read


def _unanswered(found: WorkloadResult, gateway: Standing) -> float:
    del found
    return float(gateway.asked - gateway.answered)


def _late_s(found: WorkloadResult, gateway: Standing) -> float | None:
    del found
    return None if gateway.added_ms is None else gateway.added_ms.p99 / 1000


def _over_idle(found: WorkloadResult, gateway: Standing) -> float | None:
    del found
    return gateway.over_idle_mb


_BARS = (
    _Bar("1kb", "CPU, of LiteLLM's", "", 1 / 20, 1 / 45, _to(LITELLM)),
    _Bar("1kb", "CPU, of Portkey's", "", 1 / 3, None, _to(PORTKEY)),
    _Bar("1kb", "memory, idle", "MB", 130, 80, lambda _, gateway: gateway.idle_mb),
    _Bar("2mb", "CPU, of LiteLLM's", "", 1 / 4, 1 / 7, _to(LITELLM)),
    _Bar("2mb", "CPU, of Portkey's", "", 1 / 6, None, _to(PORTKEY)),
    _Bar("2mb", "CPU, of nginx's", "", None, 2.6, _to(NGINX)),
    _Bar("12mb", "CPU, of LiteLLM's", "", 1 / 4, 1 / 6, _to(LITELLM)),
    _Bar("waiting", "not answered", "", 0, None, _unanswered),
    _Bar("waiting", "memory a waiting request", "KB", 32, 16, lambda _, one: one.waiting_kb),
    _Bar("waiting", "late, p99", "s", 1, None, _late_s),
    _Bar("burst-2mb", "not answered", "", 0, None, _unanswered),
    _Bar("burst-2mb", "memory over idle", "MB", 100, 40, _over_idle),
    _Bar("burst-12mb", "not answered", "", 0, None, _unanswered),
    _Bar("burst-12mb", "memory over idle", "MB", 150, 60, _over_idle),
)


def verdicts(workloads: Sequence[WorkloadResult]) -> tuple[Verdict, ...]:
    """Return what became of every promise about these workloads."""
    found = []
    for played in workloads:
        gateway = played.standing(OURS)
        if gateway is not None:
            found += [
                _verdict(bar, played, gateway) for bar in _BARS if bar.workload == played.name
            ]
    return tuple(found)


def _verdict(bar: _Bar, played: WorkloadResult, gateway: Standing) -> Verdict:
    value = bar.read(played, gateway)
    return Verdict(
        workload=bar.workload,
        measure=bar.measure,
        unit=bar.unit,
        ratio=bar.measure.startswith("CPU"),
        must=bar.must,
        aim=bar.aim,
        value=value,
        kept=None if value is None or bar.must is None else value <= bar.must,
    )
