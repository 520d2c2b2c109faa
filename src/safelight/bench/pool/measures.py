"""The arithmetic: what a scenario's calls and the upstream's books come to, and the bars.

Pure. The bars are those of the project's reliability promise; each stands beside the measure it
bounds. Numbers that nobody promised are measured without one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from safelight.bench.pool.calls import UNFINISHED, Call, Seen
from safelight.bench.pool.report import Measure
from safelight.bench.pool.scenarios import SICK, SLOW_FAILURE_S, Scenario
from safelight.bench.pool.world import Attempt, Books

Span = tuple[float, float]

MINUTE_S = 60.0
THROTTLED = "throttled"
_OUT_S = 11.0
"""An account without a request for so long is out: the shortest ejection is longer than this, and
one that serves gets a request every 2.5 seconds."""
_FAST_FAILURE_S = 0.45
"""The longest that a quick failure takes upstream."""
_KNOWN_S = 1.0
"""What a failure may take to be known and acted on: wire and turn of a loop, in scaled time."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a play. `charged`: pictures paid for; None: no such books."""

    scenario: Scenario
    seen: Seen
    books: Books
    charged: int | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls, in order of their start."""
        return self.seen.calls

    def begun(self, span: Span) -> list[Call]:
        """Return the calls begun in a stretch of time."""
        return [call for call in self.calls if span[0] <= call.started_s < span[1]]

    def served(self, span: Span) -> int:
        """Return how many calls got their picture in a stretch of time."""
        return sum(call.ok and span[0] <= call.ended_s < span[1] for call in self.calls)


def measure(evidence: Evidence) -> tuple[Measure, ...]:
    """Return the measures of a scenario."""
    return tuple(_MEASURES[evidence.scenario.name](evidence))


def bound(
    name: str,
    value: float | None,
    *,
    most: float | None = None,
    least: float | None = None,
    form: Literal["share", "number", "seconds", "count"] = "number",
) -> Measure:
    """Return a measure with a bar: at most `most`, or at least `least`, if either is given."""
    bar, passed = "", None
    if most is not None:
        bar = "0" if most == 0 else f"≤ {_show(most, form)}"
        passed = value is not None and value <= most + 1e-9
    elif least is not None:
        bar = f"≥ {_show(least, form)}"
        passed = value is not None and value >= least - 1e-9
    shown = "none" if value is None else _show(value, form)
    return Measure(name=name, value=value, shown=shown, bar=bar, passed=passed)


def _show(value: float, form: str) -> str:
    match form:
        case "share":
            return f"{100 * value:.2f}".rstrip("0").rstrip(".") + " %"
        case "seconds":
            return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"
        case "count":
            return f"{value:.0f}"
        case _:
            return f"{value:.3f}".rstrip("0").rstrip(".")


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole, or None where there is no whole."""
    return part / whole if whole else None


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value that `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def jain(shares: Sequence[float]) -> float | None:
    """Return Jain's index of fairness: 1 when all have the same, 1/n when one has all."""
    return ratio(sum(shares) ** 2, len(shares) * sum(share**2 for share in shares))


def worst_minute(scenario: Scenario, attempts: Sequence[Attempt], span: Span) -> float | None:
    """Return the most requests of a group in any 60 seconds of `span`, over its limit.

    The limit is the highest that held within those 60 seconds.
    """
    worst = None
    for group in scenario.groups:
        times = [
            one.at_s
            for one in attempts
            if one.group == group.name and span[0] <= one.at_s < span[1]
        ]
        for at, last in enumerate(times):
            first = last - MINUTE_S
            count = at + 1 - bisect_left(times, first + 1e-9, 0, at + 1)
            held = [scenario.limit_at(group, first), scenario.limit_at(group, last)]
            if limits := [limit for limit in held if limit is not None]:
                worst = max(worst or 0.0, count / max(limits))
    return worst


def _capacity(evidence: Evidence) -> Iterable[Measure]:
    scenario = evidence.scenario
    attempts: list[Attempt] = []
    begun: list[Call] = []
    served = 0
    for name, span in scenario.spans.items():
        limits = [scenario.limit_at(group, span[0]) or 0.0 for group in scenario.groups]
        able = sum(limits) * (span[1] - span[0]) / MINUTE_S
        share = ratio(evidence.served(span), able)
        yield bound(
            f"delivered of true capacity, {name} the change", share, least=0.95, form="share"
        )
        attempts += evidence.books.within(span)
        begun += evidence.begun(span)
        served += evidence.served(span)
    yield bound("calls that ended in 429", _status(begun, 429), most=0, form="count")
    yield bound("calls served", _ok_share(begun), form="share")
    throttled = sum(one.kind == THROTTLED for one in attempts)
    yield bound("attempts answered 429", ratio(throttled, len(attempts)), most=0.02, form="share")
    yield bound("attempts per picture", ratio(len(attempts), served), most=1.05)
    worst = [worst_minute(scenario, attempts, span) or 0.0 for span in scenario.spans.values()]
    yield bound("worst minute of a group, of its true limit", max(worst))


def _faults(success: float, attempts: float) -> Callable[[Evidence], Iterable[Measure]]:
    def measures(evidence: Evidence) -> Iterable[Measure]:
        calls = evidence.calls
        served = sum(call.ok for call in calls)
        yield bound("calls served", _ok_share(calls), least=success, form="share")
        per_picture = ratio(len(evidence.books.attempts), served)
        yield bound("attempts per picture", per_picture, most=attempts)
        whole = sum(one.delivered for one in evidence.books.attempts)
        wasted = ratio(max(0, whole - served), whole)
        yield bound("delivered pictures that reached nobody", wasted, most=0.012, form="share")
        yield bound("p50 of served calls", _p_served(calls, 0.5), form="seconds")
        yield bound("p99 of served calls", _p_served(calls, 0.99), form="seconds")

    return measures


def _outage(evidence: Evidence) -> Iterable[Measure]:
    spans = evidence.scenario.spans
    attempts = len(evidence.books.within(spans["outage"]))
    begun = len(evidence.begun(spans["outage"]))
    yield bound("upstream attempts per client call", ratio(attempts, begun), most=1.2)
    refusals = [
        one.ended_s - one.started_s
        for call in evidence.calls
        for one in call.tries
        if one.ended_s >= 0 and spans["open"][0] <= one.started_s < spans["open"][1] - 30
    ]
    yield bound(
        "time to a refusal once open, p99", percentile(refusals, 0.99), most=2.0, form="seconds"
    )
    before, healed = (_ok_share(evidence.begun(spans[name])) for name in ("before", "healed"))
    good = None if healed is None or not before else healed / before
    yield bound("goodput from 30 s after healing", good, least=0.95, form="share")
    cut = [call for call in evidence.begun(spans["outage"]) if not call.ok]
    yield bound("calls lost to the outage", float(len(cut)), form="count")


def _dead(
    failure_s: float, failures: float | None, *, heals: bool
) -> Callable[[Evidence], Iterable[Measure]]:
    def measures(evidence: Evidence) -> Iterable[Measure]:
        spans = evidence.scenario.spans
        sick = [one.at_s for one in evidence.books.within(spans["sick"]) if one.key == SICK]
        first = burst(sick, spans["sick"][1])
        known = known_failures(first, failure_s + _KNOWN_S)
        yield bound("failures until it is out", known, most=failures, form="count")
        until = first[-1] - spans["sick"][0] if first else None
        yield bound("time until it is out", until, form="seconds")
        yield bound("attempts that it got while sick", float(len(sick)), form="count")
        lost = sum(not call.ok for call in evidence.calls)
        yield bound("calls that failed", float(lost), most=0, form="count")
        if heals:
            sold = (
                one.at_s - spans["healed"][0]
                for one in evidence.books.within(spans["healed"])
                if one.key == SICK and one.sold
            )
            yield bound("back after healing", next(sold, None), most=60.0, form="seconds")

    return measures


def burst(times: Sequence[float], end_s: float) -> list[float]:
    """Return the times before the first pause of _OUT_S: until the account was taken out."""
    for at, one in enumerate(times):
        following = times[at + 1] if at + 1 < len(times) else end_s
        if following - one >= _OUT_S:
            return list(times[: at + 1])
    return list(times)


def known_failures(times: Sequence[float], failure_s: float) -> float:
    """Return how many failures it took: those known when the last attempt began, and one more.

    Attempts that were under way while the deciding failure came cannot be held against anybody.
    """
    return float(sum(one + failure_s <= times[-1] for one in times) + 1) if times else 0.0


def _moderation(evidence: Evidence) -> Iterable[Measure]:
    calls = [call for call in evidence.calls if call.word == "refused"]
    attempts = [one for one in evidence.books.attempts if one.word == "refused"]
    good = [call for call in evidence.calls if call.word != "refused"]
    after = [one for one in evidence.books.attempts if one.word != "refused"]
    yield _exactly("attempts per refusal", ratio(len(attempts), len(calls)), 1.0)
    refused = sum(call.status == 400 for call in calls)
    yield _exactly("refusals that end as 400", ratio(refused, len(calls)), 1.0, share=True)
    misled = sum(call.status == 429 or call.status >= 500 for call in calls)
    yield bound("refusals that end as 429 or 5xx", ratio(misled, len(calls)), form="share")
    yield _exactly("good calls served afterwards", _ok_share(good), 1.0, share=True)
    used = len({one.key for one in after})
    yield _exactly("accounts in use afterwards", float(used), float(len(evidence.scenario.keys)))
    if evidence.charged is None:
        yield Measure(name="refusals charged", value=None, shown="keeps no books", bar="0")
    else:
        charged = evidence.charged - sum(call.ok for call in evidence.calls)
        yield bound("refusals charged", float(charged), most=0, form="count")


def _exactly(name: str, value: float | None, wanted: float, *, share: bool = False) -> Measure:
    form: Literal["share", "number"] = "share" if share else "number"
    shown = "none" if value is None else _show(value, form)
    passed = value is not None and math.isclose(value, wanted)
    return Measure(name=name, value=value, shown=shown, bar=_show(wanted, form), passed=passed)


def _wrong_sizes(evidence: Evidence) -> Iterable[Measure]:
    calls = evidence.calls
    wrong = sum(call.ok and call.got != call.size for call in calls)
    yield bound("pictures of another size than asked", float(wrong), most=0, form="count")
    yield _exactly("calls served", _ok_share(calls), 1.0, share=True)
    yield bound("calls that ended in 400", _status(calls, 400), form="count")
    served = sum(call.ok for call in calls)
    yield bound("attempts per picture", ratio(len(evidence.books.attempts), served))


def _fairness(evidence: Evidence) -> Iterable[Measure]:
    alone = [call for call in evidence.calls if call.word == "alone"]
    beside = [call for call in evidence.calls if call.word == "beside"]
    usual, busy = (percentile([call.took_s for call in some], 0.95) for some in (alone, beside))
    yield bound("p95 of the small customer, alone", usual, form="seconds")
    yield bound("p95 beside the big one", busy, form="seconds")
    slower = None if busy is None or not usual else busy / usual
    yield bound("how much slower", slower, most=2.0)
    yield _exactly("calls of the small customer served", _ok_share(beside), 1.0, share=True)
    pile = [call for call in evidence.calls if call.word == "pile"]
    yield bound("calls of the big one served", _ok_share(pile), form="share")


def _equal_shares(evidence: Evidence) -> Iterable[Measure]:
    span = evidence.scenario.spans["all"]
    served: dict[str, int] = defaultdict(int)
    for call in evidence.calls:
        served[call.customer] += call.ok and span[0] <= call.ended_s < span[1]
    shares = [float(served[name]) for name in evidence.scenario.customers]
    yield bound("Jain's index of pictures delivered", jain(shares), least=0.95)
    yield bound("fewest of a customer", min(shares), form="count")
    yield bound("most of a customer", max(shares), form="count")


def _two_processes(evidence: Evidence) -> Iterable[Measure]:
    span = evidence.scenario.spans["all"]
    attempts = evidence.books.within(span)
    worst = worst_minute(evidence.scenario, attempts, span)
    yield bound("worst minute of a group, of its limit", worst, most=1.0)
    throttled = sum(one.kind == THROTTLED for one in attempts)
    yield bound("attempts answered 429", ratio(throttled, len(attempts)), form="share")
    yield bound("calls served", _ok_share(evidence.begun(span)), form="share")


def _finished(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.code != UNFINISHED]


def _ok_share(calls: Iterable[Call]) -> float | None:
    finished = _finished(calls)
    return ratio(sum(call.ok for call in finished), len(finished))


def _status(calls: Iterable[Call], status: int) -> float:
    return float(sum(call.status == status for call in calls))


def _p_served(calls: Iterable[Call], share: float) -> float | None:
    return percentile((call.took_s for call in calls if call.ok), share)


def outcomes(calls: Iterable[Call]) -> dict[str, int]:
    """Return how calls ended: `ok`, else status and code, with their numbers."""
    ends = ("ok" if call.ok else f"{call.status or ''} {call.code}".strip() for call in calls)
    return dict(Counter(ends).most_common())


_MEASURES: Mapping[str, Callable[[Evidence], Iterable[Measure]]] = MappingProxyType(
    {
        "capacity": _capacity,
        "faults-5": _faults(0.999, 1.10),
        "faults-30": _faults(0.995, 1.75),
        "outage": _outage,
        "dead-account": _dead(_FAST_FAILURE_S, 5.0, heals=True),
        "slow-account": _dead(SLOW_FAILURE_S, 3.0, heals=True),
        "revoked-key": _dead(_FAST_FAILURE_S, 1.0, heals=False),
        "moderation": _moderation,
        "wrong-sizes": _wrong_sizes,
        "fairness": _fairness,
        "equal-shares": _equal_shares,
        "two-processes": _two_processes,
    }
)
