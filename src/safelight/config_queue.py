"""[queue]: the jobs that are ordered to be collected later.

Owns the shape and the defaults of that table; config.py loads it with the others.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from safelight.config_file import Count, Seconds, Share


class QueueConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[queue]: who runs queued jobs, how many at a time, and for how long they may wait."""

    run: bool = True
    """Whether `safelight serve` runs queued work; False leaves it to `safelight worker`."""
    concurrency: Count = 64
    """Most queued jobs that run at one time in one process."""
    share: Share = 0.5
    """Most of [server] max_in_flight that queued jobs use; the rest is kept for waiting callers."""
    customer_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Most of the queued jobs running in one process that are of one customer."""
    deadline_s: Seconds = 86_400.0
    """How long a queued job has, from its acceptance or `not_before`, waiting included."""
    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 200_000
    """Most jobs that wait in the queue, of all customers together."""
    max_waiting_per_key: Count = 20_000
    """Most jobs of one key that wait in the queue; lines of batches are not counted."""
    poll_s: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 0.5
    """How often a process looks for queued work."""

    def width(self, max_in_flight: int) -> int:
        """Return how many queued jobs may run at one time in a process, one at least."""
        return max(1, min(self.concurrency, int(self.share * max_in_flight)))
