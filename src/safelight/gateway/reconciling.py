"""Our attempts beside the vendor's own export: what is in one of them and not in the other.

Owns the comparison, call by call where the export has calls, else by sums over time. Pure: it is
given both sides and changes nothing.

A call is known by the vendor's request id. What has none (a call that was not answered, or an
export without ids) is matched by time: the export's rows are points, each attempt is a span in
which its call can have been billed, and every row, in order of time, goes to the fitting span that
ends first. That is Glover's rule for matchings of points and intervals ("Maximum matching in a
convex bipartite graph", 1967): no other choice matches more, where all rows have ids or none has.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from safelight.attempts import Attempt
from safelight.types import Micros
from safelight.vendor_usage import Bucket, Call, VendorUsage

SKEW_MS = 60_000
"""How far the vendor's clock and ours may be apart, and how coarse its times may be."""
LATE_MS = 600_000
"""How long after it left a call that was not answered may still be finished and billed."""
CENT = 10_000
"""Costs alone add up when they differ by less: vendors round their sums."""

_FOREVER = 2**62


class NothingToCompare(LookupError):
    """The export has nothing in the period."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `what` is a key of `KINDS`; at least one of both sides is there."""

    what: str
    call: Call | None = None
    attempt: Attempt | None = None


KINDS: dict[str, str] = {
    "foreign": "sold by the vendor, unknown to us",
    "counted_unsold": "sold by the vendor, counted by us as not sold",
    "missing": "counted by us as sold, not sold in the export",
    "more_images": "more pictures in the export than the one that was asked for",
    "unknown_sold": "unknown to us, sold in the export",
    "unknown_unsold": "unknown to us, not sold in the export",
    "cost": "another cost in the export than in our books",
}
"""What a difference may be; the first four contradict our books."""
CONTRADICTIONS = ("foreign", "counted_unsold", "missing", "more_images")


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket of the export beside our attempts; what may lie in its neighbours is a bound.

    Milliseconds since 1970; counts of pictures, or micro-dollars where `money`.
    """

    start: int
    end: int
    money: bool
    vendor: int
    at_least: int
    at_most: int

    @property
    def fits(self) -> bool:
        """Whether the vendor's sum lies within the bounds."""
        return self.at_least <= self.vendor <= self.at_most


@dataclass(kw_only=True)
class Reconciliation:
    """What came out. Counts of pictures; money in micro-dollars.

    `border`: calls at the ends of the period that one side may count in the neighbouring one; they
    are in no other count. `vendor` is None where the export has costs alone.
    """

    settled: int = 0
    waste: int = 0
    unknown: int = 0
    border: int = 0
    vendor: int | None = None
    matched_by_id: int = 0
    matched_by_time: int = 0
    our_cost_micros: Micros = 0
    uncosted: int = 0
    """Attempts that were sold at a cost that we do not know."""
    vendor_cost_micros: Micros | None = None
    """None: the export has no costs."""
    outside: int = 0
    """Attempts of the period that were sold in a time that no sum covers: with whom to compare?"""
    differences: list[Difference] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def ours(self) -> int:
        """What we count as sold: the least that the vendor must count."""
        return self.settled + self.waste

    @property
    def difference(self) -> int | None:
        """What the vendor counts beyond that."""
        return None if self.vendor is None else self.vendor - self.ours

    @property
    def difference_micros(self) -> Micros | None:
        """What the vendor bills beyond the costs that we know."""
        bill = self.vendor_cost_micros
        return None if bill is None else bill - self.our_cost_micros

    @property
    def adds_up(self) -> bool:
        """Whether settled + waste <= sold <= settled + waste + unknown, and no call contradicts it.

        With sums over time: whether each lies within its bounds, and they cover all that we sold.
        With costs alone: whether they agree to the cent.
        """
        if self.outside or any(one.what in CONTRADICTIONS for one in self.differences):
            return False
        if self.vendor is None:
            return abs(self.difference_micros or 0) < CENT
        if self.spans:
            return all(span.fits for span in self.spans if not span.money)
        return self.ours <= self.vendor <= self.ours + self.unknown

    def count(self, attempt: Attempt) -> None:
        """Take an attempt of the period into the counts of our side."""
        if attempt.sold is None:
            self.unknown += 1
        elif attempt.sold:
            self.settled += attempt.settled
            self.waste += not attempt.settled
            self.our_cost_micros += attempt.cost_micros or 0
            self.uncosted += attempt.cost_micros is None

    def of(self, what: str) -> list[Difference]:
        """Return the differences of one kind."""
        return [one for one in self.differences if one.what == what]


def reach(usage: VendorUsage, from_ms: int | None, to_ms: int | None) -> tuple[int, int]:
    """Return from when to when attempts must be read for a comparison over a period."""
    if usage.by_time:
        spans = [*usage.images, *usage.costs]
        from_ms = min(span.start for span in spans) if from_ms is None else from_ms
        to_ms = max(span.end for span in spans) if to_ms is None else to_ms
    begin = 0 if from_ms is None else max(0, from_ms - LATE_MS - SKEW_MS)
    return begin, _FOREVER if to_ms is None else to_ms + SKEW_MS


def reconcile(
    usage: VendorUsage,
    attempts: Sequence[Attempt],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Reconciliation:
    """Compare an export with the attempts that `reach` asks for.

    The period goes from `from_ms` to before `to_ms`; without bounds it is all attempts, or, with
    sums over time, the time that they cover. Sums that reach out of the period are left out.

    Raises:
        NothingToCompare: no sum lies within the period.
    """
    begin = 0 if from_ms is None else from_ms
    end = _FOREVER if to_ms is None else to_ms
    if usage.by_time:
        return _by_time(usage, attempts, begin, end)
    return _Calls(usage.calls, attempts, begin, end).compare()


def possible_span(attempt: Attempt) -> tuple[int, int]:
    """Return from when to when the vendor may have dated an attempt's sale, inclusive."""
    ended = attempt.ended_at or attempt.sent_at
    if attempt.sold is None:
        ended = max(ended, attempt.sent_at + LATE_MS)
    return attempt.sent_at - SKEW_MS, ended + SKEW_MS


# --- call by call --------------------------------------------------------------------------------


class _Calls:
    """One comparison of single calls."""

    def __init__(
        self, calls: Sequence[Call], attempts: Sequence[Attempt], begin: int, end: int
    ) -> None:
        self._calls, self._attempts = calls, attempts
        self._begin, self._end = begin, end
        self._call_of: dict[int, Call] = {}
        """By the attempt's place."""
        self._free: list[Call] = []
        """Calls that no attempt belongs to, so far."""
        self._found = Reconciliation(vendor=0)
        if any(call.cost_micros is not None for call in calls):
            self._found.vendor_cost_micros = 0

    def compare(self) -> Reconciliation:
        """Return the differences, by kind, each in order of time."""
        self._match_by_id()
        timed = match_by_time(
            [call for call in self._free if call.images],
            [
                (place, attempt)
                for place, attempt in enumerate(self._attempts)
                if place not in self._call_of and attempt.sold is not False
            ],
        )
        self._call_of |= timed
        taken = {call.row for call in timed.values()}
        for place, attempt in enumerate(self._attempts):
            self._judge(attempt, self._call_of.get(place), by_time=place in timed)
        for call in self._free:
            if call.row not in taken and self._in_period(call.at):
                self._bill(call)
                if call.images:
                    self._note("foreign", call, None)
        order = list(KINDS)
        self._found.differences.sort(key=lambda one: order.index(one.what))
        return self._found

    def _match_by_id(self) -> None:
        places: dict[str, list[int]] = {}
        for place, attempt in enumerate(self._attempts):
            if attempt.upstream_request_id:
                places.setdefault(attempt.upstream_request_id, []).append(place)
        for call in self._calls:
            known = places.get(call.id or "")
            if known:
                self._call_of[known.pop(0)] = call
            else:
                self._free.append(call)

    def _judge(self, attempt: Attempt, call: Call | None, *, by_time: bool) -> None:
        """Count an attempt and its call, and note what differs."""
        first, last = possible_span(attempt)
        if not self._in_period(attempt.sent_at):
            # Its call, if it is in this export, is the neighbouring period's.
            self._found.border += call is not None
            return
        sold_there = call is not None and call.images > 0
        inside = self._begin <= first and last < self._end
        if call is None and attempt.sold is not False and not inside:
            self._found.border += 1
            return
        if call is not None:
            self._bill(call)
            self._found.matched_by_time += by_time
            self._found.matched_by_id += not by_time and sold_there
        self._found.count(attempt)
        match attempt.sold:
            case None:
                self._note("unknown_sold" if sold_there else "unknown_unsold", call, attempt)
            case True if not sold_there:
                self._note("missing", call, attempt)
            case False if sold_there:
                self._note("counted_unsold", call, attempt)
        if call is not None and call.images > 1:
            self._note("more_images", call, attempt)
        costs = (None if call is None else call.cost_micros, attempt.cost_micros)
        if sold_there and attempt.sold and None not in costs and costs[0] != costs[1]:
            self._note("cost", call, attempt)

    def _bill(self, call: Call) -> None:
        assert self._found.vendor is not None
        self._found.vendor += call.images
        if call.cost_micros is not None:
            bill = self._found.vendor_cost_micros or 0
            self._found.vendor_cost_micros = bill + call.cost_micros

    def _note(self, what: str, call: Call | None, attempt: Attempt | None) -> None:
        self._found.differences.append(Difference(what=what, call=call, attempt=attempt))

    def _in_period(self, at: int | None) -> bool:
        return at is None or self._begin <= at < self._end


def match_by_time(
    calls: Iterable[Call], attempts: Iterable[tuple[int, Attempt]]
) -> dict[int, Call]:
    """Return which call each attempt probably is, by the attempt's place.

    A call with an id is no attempt whose own id is another; a call without a time takes what the
    others have left, what was certainly sold first.
    """
    waiting = sorted(
        ((*possible_span(attempt), place, attempt) for place, attempt in attempts),
        key=lambda one: (one[0], one[1], one[2]),
        reverse=True,
    )
    # Spans that have begun, by their end: of attempts without an id of their own, and with one.
    begun: dict[bool, list[tuple[int, int, Attempt]]] = {False: [], True: []}
    found: dict[int, Call] = {}
    timed = sorted((call for call in calls if call.at is not None), key=lambda call: call.at or 0)
    for call in timed:
        at = call.at or 0
        while waiting and waiting[-1][0] <= at:
            _, last, place, attempt = waiting.pop()
            heapq.heappush(begun[attempt.upstream_request_id is not None], (last, place, attempt))
        for heap in begun.values():
            while heap and heap[0][0] < at:
                heapq.heappop(heap)
        fitting = [heap for named, heap in begun.items() if heap and not (named and call.id)]
        if fitting:
            _, place, _ = heapq.heappop(min(fitting, key=lambda heap: heap[0][:2]))
            found[place] = call
    return found


# --- sums over time ------------------------------------------------------------------------------


def _by_time(
    usage: VendorUsage, attempts: Sequence[Attempt], begin: int, end: int
) -> Reconciliation:
    found = Reconciliation()
    images = [one for one in usage.images if begin <= one.start and one.end <= end]
    costs = [one for one in usage.costs if begin <= one.start and one.end <= end]
    if not (images or costs):
        raise NothingToCompare("no sum of the export lies within --from and --to")
    if images:
        found.vendor = sum(one.amount for one in images)
        found.spans += _spans(images, attempts, money=False)
    if costs:
        found.vendor_cost_micros = sum(one.amount for one in costs)
        found.spans += _spans(costs, attempts, money=True)
    covered = _joined(images or costs)
    starts = [one.start for one in covered]
    first = begin or starts[0]
    last = covered[-1].end if end == _FOREVER else end
    for attempt in attempts:
        place = bisect.bisect_right(starts, attempt.sent_at) - 1
        if place >= 0 and attempt.sent_at < covered[place].end:
            found.count(attempt)
        elif attempt.sold and first <= attempt.sent_at < last:
            found.outside += 1
    return found


def _spans(buckets: Sequence[Bucket], attempts: Sequence[Attempt], *, money: bool) -> list[Span]:
    """Return each bucket with its bounds, and buckets that follow each other once more as one.

    In a single minute most calls may belong to a neighbour; over the whole time few can.
    """
    joined = _joined(buckets)
    more = joined if len(joined) < len(buckets) else []
    return _bounded(buckets, attempts, money=money) + _bounded(more, attempts, money=money)


def _joined(buckets: Sequence[Bucket]) -> list[Bucket]:
    joined: list[Bucket] = []
    for one in buckets:
        if joined and joined[-1].end == one.start:
            before = joined.pop()
            joined.append(
                Bucket(start=before.start, end=one.end, amount=before.amount + one.amount)
            )
        else:
            joined.append(one)
    return joined


def _bounded(buckets: Sequence[Bucket], attempts: Sequence[Attempt], *, money: bool) -> list[Span]:
    """Return the buckets with the least and the most that our attempts allow in each."""
    starts = [one.start for one in buckets]
    least, most = [0] * len(buckets), [0] * len(buckets)
    for attempt in attempts:
        weight = (attempt.cost_micros or 0) if money else 1
        if attempt.sold is False or not weight:
            continue
        first, last = possible_span(attempt)
        place = max(0, bisect.bisect_right(starts, first) - 1)
        while place < len(buckets) and buckets[place].start <= last:
            one = buckets[place]
            if first < one.end:
                most[place] += weight
                inside = one.start <= first and last < one.end
                least[place] += weight if attempt.sold and inside else 0
            place += 1
    return [
        Span(
            start=one.start,
            end=one.end,
            money=money,
            vendor=one.amount,
            at_least=least[place],
            at_most=most[place],
        )
        for place, one in enumerate(buckets)
    ]
