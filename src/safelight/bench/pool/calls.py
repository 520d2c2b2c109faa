"""What the clients are asked to do and what they saw: the form of the caller's two files."""

from __future__ import annotations

import msgspec

from safelight.bench.pool.scenarios import Stream

UNFINISHED = "unfinished"
"""The code of a call that was cut off when the scenario was over."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller is asked to do."""

    bases: tuple[str, ...]
    """Base URLs; calls go to them in turns."""
    keys: dict[str, str]
    """Customer to API key."""
    model: str
    streams: tuple[Stream, ...]
    seed: int
    until_s: float
    """When calls that are still open are cut off."""


class Try(msgspec.Struct, array_like=True):
    """One HTTP request of the SDK; times in seconds since the scenario's start.

    `ended_s` is when the answer's head was there; -1: it never came. `status` is 0 then.
    """

    started_s: float
    ended_s: float = -1.0
    status: int = 0


class Call(msgspec.Struct, kw_only=True):
    """One call of `images.generate`, with all the SDK's own retries in it."""

    prompt: str
    customer: str
    size: str
    started_s: float
    ended_s: float = -1.0
    status: int = 0
    """The HTTP status that the caller was left with; 0: none."""
    code: str = ""
    """The error's code, or what the SDK raised."""
    got: str = ""
    """WIDTHxHEIGHT of the PNG that came."""
    tries: list[Try] = []

    @property
    def ok(self) -> bool:
        """Whether a picture came, of whatever size."""
        return bool(self.got)

    @property
    def took_s(self) -> float:
        """Seconds until the end."""
        return self.ended_s - self.started_s

    @property
    def word(self) -> str:
        """The first word of the prompt: its stream's, if that has one."""
        return self.prompt.partition(" ")[0]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that the clients saw."""

    calls: tuple[Call, ...]
    held_back: int
    """Arrivals of a Poisson stream that found its whole crowd busy."""
    cpu_share: float
    """CPU time of the clients' process, of one CPU."""
    lag_p95_s: float
    """How late the caller's own timers were, in the scenario's seconds."""
    lag_max_s: float
