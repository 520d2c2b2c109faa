"""The world of a scenario: the fault upstream's document, and its books once all is over.

The only file that knows the upstream's words (`safelight.bench.faults`: its scenario document and
its log). Times read here are seconds since the scenario's start.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import Any

import msgspec

from safelight.bench.pool.scenarios import Group, Scenario

START = "start"
"""The mark in the upstream's books at which the scenario began."""
_FAILURE_S = 0.3
_BURST_SHARE = 0.2


def document(scenario: Scenario, *, seed: int, speed: float) -> dict[str, Any]:
    """Return the fault upstream's scenario document."""
    p50_s, p99_s = scenario.latency_s
    script = scenario.acts
    if isinstance(script, dict) and "mix" in script:
        script = {**script, "seed": seed}
    return {
        "script": script,
        "seed": seed,
        "speed": speed,
        "latency": {"p50_s": p50_s, "p99_s": p99_s},
        "failure_s": _FAILURE_S,
        "groups": {key: group.name for group in scenario.groups for key in group.keys},
        "limits": {
            group.name: _limit(group, scenario.change_s)
            for group in scenario.groups
            if group.limit is not None
        },
        "windows": list(scenario.conditions),
        "keep_headers": False,
    }


def _limit(group: Group, change_s: float | None) -> dict[str, Any]:
    assert group.limit is not None
    said: dict[str, Any] = {
        "images_per_minute": group.limit,
        "kind": group.kind,
        "tell_headers": group.headers,
        "tell_retry_after": True,
    }
    if group.kind == "bucket":
        said["burst"] = max(1.0, group.limit * _BURST_SHARE)
    if change_s is not None and group.changed is not None:
        said["changes"] = [(change_s, group.changed)]
    return said


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request at the upstream, and what became of it."""

    at_s: float
    key: str
    group: str
    prompt: str
    kind: str
    sold: bool = False
    delivered: bool = False

    @property
    def word(self) -> str:
        """The first word of the prompt: its stream's, if that has one."""
        return self.prompt.partition(" ")[0]


class Books(msgspec.Struct, frozen=True):
    """All requests in the order of their arrival."""

    attempts: tuple[Attempt, ...]

    def within(self, span: tuple[float, float]) -> list[Attempt]:
        """Return the attempts that arrived in a stretch of time."""
        times = [attempt.at_s for attempt in self.attempts]
        return list(self.attempts[bisect_left(times, span[0]) : bisect_left(times, span[1])])


def read(log: Path) -> Books:
    """Read the upstream's log.

    Raises:
        OSError: it cannot be read.
        KeyError: it is not such a log.
    """
    entries = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]
    starts = [one["at_s"] for one in entries if one["event"] == "mark" and one["name"] == START]
    start_s = starts[-1] if starts else 0.0
    sales = {one["id"]: one["request"] for one in entries if one["event"] == "sale"}
    delivered = {sales[one["sale"]] for one in entries if one["event"] == "delivered"}
    sold = set(sales.values())
    attempts = [
        Attempt(
            at_s=one["at_s"] - start_s,
            key=one["key"],
            group=one["group"],
            prompt=str(one["fields"].get("prompt", "")),
            kind=one["kind"],
            sold=one["number"] in sold,
            delivered=one["number"] in delivered,
        )
        for one in entries
        if one["event"] == "request"
    ]
    return Books(tuple(sorted(attempts, key=lambda attempt: attempt.at_s)))
