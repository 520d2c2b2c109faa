"""How many silent seconds a way bears, found with many requests at one time.

Owns the search. A round asks for silences of many lengths at once; those that are too long are cut,
and all of them at the timer that cuts, which so shows itself. Where the cuts do not agree, or come
without a word (then nobody sees when), the next round looks between the longest silence that
passed and the shortest that did not. At most three rounds, at most 24 requests each.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from safelight.doctor.chain.wire import Answer, Ending, Origin, Request, ask

Form = Literal["plain", "blanks", "events"]

ROUNDS_MAX = 3
_AGREE_S, _AGREE_SHARE = 0.5, 0.04
"""So far apart may the moments of cuts be that one timer made."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        longest_s: the longest silence that is asked for, seconds.
        every_s: the pause between signs of life in the forms that have them.
        at_once: how many plain silences a round asks for.
        grace_s: how much later than asked for an answer may come.
    """

    longest_s: float = 300.0
    every_s: float = 10.0
    at_once: int = 16
    grace_s: float = 10.0


@dataclass(slots=True)
class Probe:
    """One request for one silence, and what became of it."""

    form: Form
    seconds: float
    answer: Answer = field(default_factory=Answer)

    @property
    def passed(self) -> bool:
        """Whether the gateway's own answer came whole."""
        return (
            self.answer.ending is Ending.COMPLETE
            and self.answer.status == 200
            and self.answer.from_gateway
        )

    @property
    def cut(self) -> bool:
        """Whether something ended it before its time."""
        return not self.passed and self.answer.ending is not Ending.LEFT

    @property
    def seen_at_s(self) -> float | None:
        """When it was cut, seconds; None: it was dropped without a word."""
        if self.answer.ending is Ending.SILENT:
            return None
        whole = self.answer.ending is Ending.COMPLETE
        at_head = whole and not self.answer.from_gateway and self.answer.head_s is not None
        return self.answer.head_s if at_head else self.answer.ended_s


@dataclass(frozen=True, slots=True)
class Borne:
    """How long one form may be silent on one way.

    `passed_s` is the longest that came through or lived until we left. `cut_s` is when it was cut,
    None where it was not; `cut` one of the requests that were; `sure` says whether all agree.
    """

    form: Form
    passed_s: float
    cut_s: float | None = None
    cut: Probe | None = None
    sure: bool = True
    requests: int = 0


class Unmeasurable(Exception):
    """The gateway refuses the route, or cannot be reached; the text says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All forms on the public way, and plain silences on the direct one, where it was given."""

    public: tuple[Borne, ...]
    direct: Borne | None

    def of(self, form: Form) -> Borne:
        """Return what is known of a form."""
        return next(one for one in self.public if one.form == form)


async def measure(public: Origin, direct: Origin | None, plan: Plan) -> Measured:
    """Find how long answers may be silent.

    Raises:
        Unmeasurable: the gateway did not answer such a request at all.
    """
    plain = [Probe("plain", seconds) for seconds in ladder(plan.longest_s, plan.at_once)]
    blanks = [Probe("blanks", plan.longest_s) for _ in range(2)]
    events = [Probe("events", plan.longest_s) for _ in range(2)]
    beside = [Probe("plain", plan.longest_s) for _ in range(2)] if direct else []
    await _round(
        [(public, one) for one in (*plain, *blanks, *events)]
        + [(direct, one) for one in beside if direct],
        leaders=plain,
        plan=plan,
    )
    _refuse_unmeasurable([*plain, *blanks, *events, *beside])
    rounds = 1
    while rounds < ROUNDS_MAX and (between := _unsettled(plain)) is not None:
        low, high = between
        more = [Probe("plain", low + (high - low) * step / 8) for step in range(1, 8)]
        await _round([(public, one) for one in more], leaders=more, plan=plan)
        _refuse_unmeasurable(more)
        plain += more
        rounds += 1
    return Measured(
        public=tuple(_borne(probes) for probes in (plain, blanks, events)),
        direct=_borne(beside) if beside else None,
    )


def ladder(longest_s: float, steps: int) -> list[float]:
    """Return silences from a sixtieth of the longest to the longest, each longer by one factor."""
    least = longest_s / 60
    factor = math.pow(60, 1 / max(steps - 1, 1))
    return [round(least * factor**step, 3) for step in range(steps - 1)] + [longest_s]


async def _round(
    asked: Sequence[tuple[Origin, Probe]], *, leaders: Sequence[Probe], plan: Plan
) -> None:
    """Ask all at once; leave when the leaders' cut has been seen and outlived by a fifth."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = {asyncio.create_task(_ask(origin, probe, plan)) for origin, probe in asked}
    pending = set(tasks)
    try:
        while pending:
            until = _enough(leaders)
            left = None if until is None else began + until - loop.time()
            if left is not None and left <= 0:
                return
            _, pending = await asyncio.wait(
                pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _enough(leaders: Sequence[Probe]) -> float | None:
    """Return when a round has shown what it can, seconds from its begin; None: not known yet."""
    cut = [probe for probe in leaders if probe.answer.ended_s and probe.cut]
    seen = [at for probe in cut if (at := probe.seen_at_s) is not None]
    return min(seen) * 1.2 + 1.0 if seen else None


async def _ask(origin: Origin, probe: Probe, plan: Plan) -> None:
    path = f"/v1/diagnostics/silence?seconds={probe.seconds:.3f}&form={probe.form}"
    if probe.form != "plain":
        path += f"&every={plan.every_s:.3f}"
    await ask(
        origin,
        Request(path=path),
        timeout_s=probe.seconds + plan.grace_s,
        answer=probe.answer,
    )


def _refuse_unmeasurable(probes: Sequence[Probe]) -> None:
    """Stop where the gateway itself said no.

    Raises:
        Unmeasurable: it did, or nobody could be reached.
    """
    for probe in probes:
        answer = probe.answer
        if answer.ending in (Ending.UNREACHABLE, Ending.TLS):
            raise Unmeasurable(answer.detail)
        if answer.from_gateway and answer.status not in (200, None):
            raise Unmeasurable(f"the gateway answered {answer.status}: {answer.body[:300]!r}")


def _unsettled(probes: Sequence[Probe]) -> tuple[float, float] | None:
    """Return between which silences the limit lies, None where it has shown itself."""
    cut = [probe for probe in probes if probe.cut]
    seen = [at for probe in cut if (at := probe.seen_at_s) is not None]
    if not cut or (len(seen) == len(cut) and _agree(seen)):
        return None
    low = max((p.seconds for p in probes if p.passed), default=0.0)
    high = min(p.seconds for p in cut)
    return (low, high) if high - low > max(_AGREE_S, _AGREE_SHARE * high) else None


def _agree(seen: Sequence[float]) -> bool:
    return max(seen) - min(seen) <= max(_AGREE_S, _AGREE_SHARE * max(seen))


def _borne(probes: Sequence[Probe]) -> Borne:
    cut = [probe for probe in probes if probe.cut]
    passed_s = max(
        (p.seconds if p.passed else p.answer.ended_s for p in probes if not p.cut), default=0.0
    )
    form = probes[0].form
    if not cut:
        return Borne(form, passed_s, requests=len(probes))
    seen = {id(p): at for p in cut if (at := p.seen_at_s) is not None}
    first = min(cut, key=lambda p: seen.get(id(p), p.seconds))
    cut_s = seen.get(id(first), first.seconds)
    sure = len(seen) == len(cut) and _agree(list(seen.values())) and passed_s <= cut_s + _AGREE_S
    passed_s = min(passed_s, cut_s)
    return Borne(form, passed_s, cut_s, first, sure, len(probes))
