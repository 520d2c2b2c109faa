"""The whole look at a chain, from the first greeting to the last verdict.

Owns the order: nothing must disturb the silences, so the short probes come first. Quick looks need
no key; what measures does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from safelight.clock import Clock
from safelight.doctor import Check, failed, unchecked
from safelight.doctor.chain import manners, silence, verdicts
from safelight.doctor.chain.wire import Origin


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked at.

    Args:
        public: the address that clients use, with a key where silences are measured.
        direct: the gateway itself, past all proxies, to tell them apart.
        longest_s: longest silence; None: the longest deadline of a channel, as the gateway says.
        every_s: the pause between signs of life; None: the gateway's own 10 s.
    """

    public: Origin
    direct: Origin | None = None
    longest_s: float | None = None
    every_s: float = 10.0


async def look(wanted: Wanted, clock: Clock) -> AsyncIterator[Check]:
    """Yield what is found on the way to the gateway."""
    public = wanted.public
    now_s = clock.now_ms() / 1000
    greeting = await manners.greet(public, now_s)
    yield verdicts.greeting(greeting, str(public))
    yield verdicts.certificate(await manners.certificate(public), now_s)
    date = verdicts.clock(greeting)
    if date is not None:
        yield date
    if public.key is None:
        return
    facts = greeting.facts
    if facts is None:
        yield unchecked(
            verdicts.GROUP, "silence", "the gateway did not answer, so nothing is measured"
        )
        return
    limit = facts.max_request_bytes
    announced, sent, heads, stream = await asyncio.gather(
        manners.bodies(public, limit),
        manners.sent(public, limit),
        manners.heads(public),
        manners.streams(public),
    )
    yield verdicts.body(announced, sent, facts)
    yield verdicts.head(heads)
    yield verdicts.stream(stream)
    longest_s = wanted.longest_s or facts.deadline_s
    plan = silence.Plan(longest_s=longest_s, every_s=max(min(wanted.every_s, longest_s / 6), 0.1))
    try:
        found = await silence.measure(public, wanted.direct, plan)
    except silence.Unmeasurable as error:
        advice = "Does everything in between lead to this gateway, in this release?"
        yield failed(verdicts.GROUP, "silence", str(error), advice)
        return
    for check in verdicts.silences(found, facts):
        yield check
