"""Counting: what one process has done, in plain Python objects.

Owns the counts and the windows of the last minutes. Counting costs well under a microsecond and
takes no lock: all of it happens in the event loop, but for commits, which come from the database's
threads and have a lock of their own. `catalogue` has the names, `exposition` writes them down.

Each process counts for itself; docs/metrics.md says how several are scraped.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque

from safelight.clock import Clock, SystemClock
from safelight.metrics import catalogue
from safelight.metrics.catalogue import Family

WINDOW_S = 300.0
SLOTS = 60
"""Parts of a window: what leaves it leaves in steps of so much less than it."""

ERRORS = ("5xx", "429")
"""Classes of status that a caller sees as an error of the service."""
ABOUT_PICTURES = frozenset({"images", "chat", "queued"})
"""Classes of route whose answers count in the share of visible errors."""


class Tally:
    """A counter, by the values of its labels."""

    __slots__ = ("family", "values")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.values: dict[tuple[str, ...], float] = {}
        if not family.labels:
            self.values[()] = 0

    def add(self, *labels: str, by: float = 1) -> None:
        """Count one more, or `by` more."""
        self.values[labels] = self.values.get(labels, 0) + by


class Cell:
    """One histogram: how many values fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0


class Histogram:
    """Values by the labels' values; a bucket takes what is at most its upper bound."""

    __slots__ = ("cells", "family")

    def __init__(self, family: Family) -> None:
        self.family = family
        self.cells: dict[tuple[str, ...], Cell] = {}
        if not family.labels:
            self.cells[()] = Cell(len(family.buckets))

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = Cell(len(self.family.buckets))
        cell.counts[bisect_left(self.family.buckets, value)] += 1
        cell.total += value


class Window:
    """Two sums over the last minutes: a part and its whole.

    Args:
        clock: monotonic time.
        seconds: how long something counts.
    """

    __slots__ = ("_clock", "_slot_s", "_slots")

    def __init__(self, clock: Clock, seconds: float = WINDOW_S) -> None:
        self._clock = clock
        self._slot_s = seconds / SLOTS
        self._slots: deque[list[float]] = deque()

    def add(self, part: float, whole: float = 1.0) -> None:
        """Count towards both sums."""
        slot = self._clock.monotonic() // self._slot_s
        if not self._slots or self._slots[-1][0] != slot:
            self._forget(slot)
            self._slots.append([slot, 0.0, 0.0])
        newest = self._slots[-1]
        newest[1] += part
        newest[2] += whole

    def sums(self) -> tuple[float, float]:
        """Return part and whole."""
        self._forget(self._clock.monotonic() // self._slot_s)
        return sum(one[1] for one in self._slots), sum(one[2] for one in self._slots)

    def ratio(self) -> float | None:
        """Return the part in the whole, or None where nothing was counted."""
        part, whole = self.sums()
        return part / whole if whole else None

    def _forget(self, slot: float) -> None:
        while self._slots and self._slots[0][0] <= slot - SLOTS:
            self._slots.popleft()


class Commits:
    """What the database's threads tell; see `safelight.db.Meter`."""

    def __init__(self, clock: Clock) -> None:
        self.seconds = Histogram(catalogue.COMMIT)
        self.works = Histogram(catalogue.COMMIT_WORKS)
        self.refusals = Tally(catalogue.DATABASE_REFUSALS)
        self.refused_at = float("-inf")
        """When a write was refused last, monotonic seconds."""
        self._clock = clock
        self._lock = threading.Lock()

    def committed(self, seconds: float, works: int) -> None:
        """Count a commit; for any thread."""
        with self._lock:
            self.seconds.observe(seconds)
            self.works.observe(works)

    def refused(self) -> None:
        """Count a write that the database refused; for any thread."""
        with self._lock:
            self.refusals.add()
            self.refused_at = self._clock.monotonic()


class Metrics:
    """Everything one process counts.

    Args:
        clock: tells what belongs to the last minutes.
        window_s: how long those are.
    """

    def __init__(self, clock: Clock | None = None, *, window_s: float = WINDOW_S) -> None:
        clock = clock or SystemClock()
        self.jobs_ended = Tally(catalogue.JOBS_ENDED)
        self.generation = Histogram(catalogue.GENERATION)
        self.queue_wait = Histogram(catalogue.QUEUE_WAIT)
        self.attempts = Tally(catalogue.ATTEMPTS)
        self.throttled_absorbed = Tally(catalogue.THROTTLED_ABSORBED)
        self.hidden_errors = Tally(catalogue.HIDDEN_ERRORS)
        self.answers = Tally(catalogue.ANSWERS)
        self.visible_errors = Tally(catalogue.VISIBLE_ERRORS)
        self.settled = Tally(catalogue.SETTLED)
        self.vendor_cost = Tally(catalogue.VENDOR_COST)
        self.blob = Histogram(catalogue.BLOB)
        self.blob_failures = Tally(catalogue.BLOB_FAILURES)
        self.commits = Commits(clock)
        self.received = Tally(catalogue.RECEIVED)
        self.sent = Tally(catalogue.SENT)
        self.webhooks = Tally(catalogue.WEBHOOKS)
        self.webhooks_disabled = Tally(catalogue.WEBHOOKS_DISABLED)
        self.link_downloads = Tally(catalogue.LINK_DOWNLOADS)
        self.probe_downloads = Tally(catalogue.PROBE_DOWNLOADS)
        self.probe = Histogram(catalogue.PROBE)
        self.loop_lag = Histogram(catalogue.LOOP_LAG)
        self.recent_generation = Window(clock, window_s)
        """Seconds of generation, of so many pictures."""
        self.recent_visible = Window(clock, window_s)
        """5xx among answers about pictures."""
        self.recent_hidden = Window(clock, window_s)
        """Hidden errors among attempts."""
        self.recent_downloads = Window(clock, window_s)
        """Right downloads among the prober's."""

    def tallies(self) -> list[Tally]:
        """Return every counter."""
        found = [one for one in vars(self).values() if isinstance(one, Tally)]
        return [*found, self.commits.refusals]

    def histograms(self) -> list[Histogram]:
        """Return every histogram."""
        found = [one for one in vars(self).values() if isinstance(one, Histogram)]
        return [*found, self.commits.seconds, self.commits.works]

    def attempt_ended(self, account: str, group: str, outcome: str) -> None:
        """Count an upstream call that has ended; `outcome` as its row has it."""
        self.attempts.add(account, group, outcome)
        self.recent_hidden.add(0.0)

    def answered(self, route: str, status: str) -> None:
        """Count an answer to a caller, by the classes of its route and its status."""
        self.answers.add(route, status)
        if status in ERRORS:
            self.visible_errors.add(route, status)
        if route in ABOUT_PICTURES:
            self.recent_visible.add(1.0 if status == "5xx" else 0.0)

    def probed(self, cause: str, seconds: float) -> None:
        """Count a download of the prober; `cause` is `ok` where it was right."""
        self.probe_downloads.add(cause)
        self.recent_downloads.add(1.0 if cause == "ok" else 0.0)
        if cause == "ok":
            self.probe.observe(seconds)


def status_class(status: int) -> str:
    """Return the class of an HTTP status: 2xx, 3xx, 4xx, 5xx, and 429 by itself."""
    return "429" if status == 429 else f"{status // 100}xx"
