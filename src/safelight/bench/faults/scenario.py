"""The plan of a fault upstream: one checked JSON document says all that it will do.

Owns the form of the document and its checks. `server.py` carries it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from safelight.bench.faults.batch_api import BatchPlan
from safelight.bench.faults.limits import Limit
from safelight.bench.faults.script import Kind, script
from safelight.bench.faults.timing import Latency, Window


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fault upstream does. All durations are vendor seconds.

    Args:
        script: what happens to each request; see `script.script`.
        seed: for latencies, and for mixes that name no seed.
        speed: vendor seconds that pass in one real second.
        latency_s: how long each picture takes, where there is no `latency`.
        latency: the distribution that picture times are drawn from.
        slow: API key to a factor on its picture times.
        failure_s: how long a server failure (5xx, reset, a page of HTML) takes at least; up to half
            as much again is drawn.
        keys: API key to its images per minute (None: no limit of its own). None: the keys of
            `groups`, or, without those, any key is good.
        groups: API key to its limiter group; a key without one is a group of its own name.
        limits: group to its limits.
        windows: scheduled conditions; of several that hold, the first rules.
        models: the models that exist.
        strict: refuse unknown parameters and illegal sizes as the vendor does.
        keep_headers: keep the headers of every request in memory and log.
        batches: how fast its Batch API is.
    """

    script: Any = Kind.OK
    seed: int = 0
    speed: float = 1.0
    latency_s: float = 0.0
    latency: Latency | None = None
    slow: dict[str, float] = {}
    failure_s: float = 0.3
    keys: dict[str, float | None] | None = None
    groups: dict[str, str] = {}
    limits: dict[str, Limit] = {}
    windows: tuple[Window, ...] = ()
    models: tuple[str, ...] = ("gpt-image-2",)
    strict: bool = True
    keep_headers: bool = True
    batches: BatchPlan = BatchPlan()

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise ValueError("speed is above 0")
        if min(self.latency_s, self.failure_s, *self.slow.values(), 0.0) < 0:
            raise ValueError("durations and factors are not negative")
        for source in (self.script, *(window.act for window in self.windows)):
            script(source)
        known = self.known_keys
        if known is None:
            return
        groups = {self.groups.get(key, key) for key in known}
        named = {key for window in self.windows for key in window.keys} | set(self.slow)
        if lost := sorted((self.limits.keys() - groups) | (named - known.keys())):
            raise ValueError(f"no key belongs to {', '.join(lost)}")

    @property
    def known_keys(self) -> dict[str, float | None] | None:
        """The keys that are good, with their own limits; None: all are."""
        if self.keys is not None:
            return self.keys
        return dict.fromkeys(self.groups) if self.groups else None


def read(source: str) -> Scenario:
    """Return the scenario in a JSON text, or in the JSON file of that path.

    Raises:
        msgspec.ValidationError: the document is no scenario; the message says where.
        msgspec.DecodeError: it is no JSON.
        OSError: the file cannot be read.
    """
    text = source if source.lstrip().startswith("{") else Path(source).read_text(encoding="utf-8")
    return msgspec.json.decode(text, type=Scenario)
