"""How a run is carried out: its bounds, and what it tells while it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

REROLLS = 2


@dataclass(frozen=True)
class Settings:
    """The bounds of a run.

    Args:
        rerolls: how many more pictures of an item are ordered after a first one is rejected.
        max_cost_micros: the run never orders beyond it, all starts together; None: no bound.
        concurrency: how many orders may be under way; None: what the pool's limits need.
        price_micros: of one picture, at an address that tells no prices.
        untouched: whether inputs go up as they are.
        to: a folder or `s3://bucket/prefix` that gets accepted pictures, too.
        tries: how often an order is asked for that fails for a passing reason, in one start.
        patience_s: how long the gateway may give no picture at all, by failures of its own, until
            the run stops, seconds.
        pause_s: before the second of those tries, seconds; doubled for each further one.
        threads: how many pictures are decoded or judged at one time.
        least_free_bytes: below so much free space nothing is ordered.
    """

    rerolls: int = REROLLS
    max_cost_micros: int | None = None
    concurrency: int | None = None
    price_micros: int | None = None
    untouched: bool = False
    to: str | None = None
    tries: int = 4
    patience_s: float = 600.0
    pause_s: float = 2.0
    threads: int = 2
    least_free_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """How far a run is. Counts are items unless said otherwise; money in micro-dollars.

    Args:
        total: items of the plan.
        accepted: with a picture in the folder.
        review: all of whose pictures were rejected.
        failed: without a picture.
        running: orders under way.
        judging: pictures that gates look at.
        cost_micros: all charges so far, earlier starts included.
        rerolls: pictures ordered again after a rejection, in this start.
        retries: tries of orders beyond the first of each, in this start.
        per_minute: pictures that came in the last minute, reckoned from this start.
        left_s: seconds to the end, as far as one can tell; None: unknown.
        stopping: whether nothing more is ordered.
    """

    total: int
    accepted: int = 0
    review: int = 0
    failed: int = 0
    running: int = 0
    judging: int = 0
    cost_micros: int = 0
    rerolls: int = 0
    retries: int = 0
    per_minute: float = 0.0
    left_s: float | None = None
    stopping: bool = False

    @property
    def done(self) -> int:
        """Items that nothing more is done for."""
        return self.accepted + self.review + self.failed


class Watcher(Protocol):
    """Is told how a run goes; called in the event loop, so it must not block."""

    def changed(self, now: Snapshot) -> None:
        """Something has changed."""

    def said(self, remark: str) -> None:
        """Something happened that a person may want to read: one sentence."""


class NobodyWatches:
    """Tells nobody."""

    def changed(self, now: Snapshot) -> None:
        """Do nothing."""

    def said(self, remark: str) -> None:
        """Do nothing."""
