"""What is played: the scenarios of `safelight bench pool`, as data.

Owns the accounts, demand, faults and stretches of time of each scenario. The bars stand with the
arithmetic in `measures`. All times are the scenario's own seconds, from its start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts that share one limit of the vendor.

    `configured` is what the operator believes, `limit` what holds, `changed` what holds from the
    scenario's `change_s` on (images a minute); None: no limit.
    """

    name: str
    keys: tuple[str, ...]
    configured: float | None = None
    limit: float | None = None
    changed: float | None = None
    kind: Literal["sliding", "bucket", "fixed"] = "sliding"
    headers: bool = False
    """Whether answers tell the limit and what is left of it."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one customer.

    With `per_minute` calls come as a Poisson process, but never more than `crowd` at one time: who
    finds them all busy does not call. Without it there are always `crowd` calls; a client that
    failed waits a minute before its next.
    """

    customer: str = "a"
    per_minute: float | None = None
    even: bool = False
    """Evenly spaced instead of Poisson."""
    crowd: int = 1000
    from_s: float = 0.0
    until_s: float = 0.0
    count: int | None = None
    """At most so many calls."""
    sizes: tuple[str, ...] = ("1024x1024",)
    prompt: str = ""
    """A word in front of each prompt, by which the upstream and the arithmetic know the stream."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario.

    `acts` is the fault upstream's script, `conditions` its scheduled faults; `spans` names the
    stretches that the arithmetic looks at. Two cores keep up with safelight at `speed`, and with
    a contender that takes three times the CPU at `heavy_speed`.
    """

    name: str
    shows: str
    groups: tuple[Group, ...]
    streams: tuple[Stream, ...]
    duration_s: float
    speed: float
    heavy_speed: float = 1.0
    drain_s: float = 330.0
    """How long calls may go on after the end; what is still open then is cut off."""
    latency_s: tuple[float, float] = (45.0, 102.0)
    """Median and 99th percentile of the time a picture takes (log-normal)."""
    acts: Any = "ok"
    conditions: tuple[dict[str, Any], ...] = ()
    change_s: float | None = None
    spans: Mapping[str, tuple[float, float]] = {}
    processes: int = 1
    learn: bool = False
    """Whether limits above the configured ones may be learnt."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All API keys of the vendor."""
        return tuple(key for group in self.groups for key in group.keys)

    @property
    def customers(self) -> tuple[str, ...]:
        """The customers, in order of appearance."""
        return tuple(dict.fromkeys(stream.customer for stream in self.streams))

    def limit_at(self, group: Group, at_s: float) -> float | None:
        """Return the limit of a group that holds at a time, images a minute."""
        if self.change_s is not None and group.changed is not None and at_s >= self.change_s:
            return group.changed
        return group.limit


Builder = Callable[[bool, bool], Scenario]
"""Makes a scenario: in its quick form or not, for a contender that learns limits or does not."""


def _lonely(count: int, *, limit: float | None = None) -> tuple[Group, ...]:
    """Return accounts with a limit each."""
    return tuple(
        Group(name=f"org-{at}", keys=(f"sk-{at}",), configured=limit, limit=limit)
        for at in range(count)
    )


_TRUE = (5, 8, 12, 20, 25, 35, 45, 60)
_CONFIGURED = (6, 6, 18, 15, 30, 30, 60, 54)
_CHANGED = (8, 5, 18, 14, 35, 25, 60, 42)
_KINDS: tuple[Literal["sliding", "bucket", "fixed"], ...] = (
    "sliding",
    "bucket",
    "sliding",
    "fixed",
)


def _eight_groups(*, hidden: bool) -> tuple[Group, ...]:
    """Return 24 keys in 8 groups; `hidden`: the limits are not the configured ones and change."""
    return tuple(
        Group(
            name=f"org-{at}",
            keys=tuple(f"sk-{at}-{key}" for key in range(3)),
            configured=float(_CONFIGURED[at] if hidden else _TRUE[at]),
            limit=float(_TRUE[at]),
            changed=float(_CHANGED[at]) if hidden else None,
            kind=_KINDS[at % 4] if hidden else "sliding",
            headers=hidden and at % 2 == 1,
        )
        for at in range(8)
    )


def _capacity(quick: bool, learns: bool) -> Scenario:
    learn_s, measure_s = (900.0, 600.0) if learns else (90.0, 180.0)
    if quick:
        learn_s, measure_s = 90.0, 90.0
    before = (learn_s, learn_s + measure_s)
    after = (before[1] + learn_s, before[1] + learn_s + measure_s)
    return Scenario(
        name="capacity",
        shows="24 keys, 8 groups, limits unlike the configured ones that change once; 130 % asked",
        groups=_eight_groups(hidden=True),
        # As many callers as are served within 150 s: the wait always fits their deadline.
        streams=(Stream(per_minute=1.3 * sum(_TRUE), crowd=520, until_s=after[1]),),
        duration_s=after[1],
        drain_s=0.0,
        latency_s=(30.0, 60.0),
        change_s=before[1],
        spans={"before": before, "after": after},
        learn=True,
        speed=25.0 if quick else 12.0,
        heavy_speed=3.0,
    )


def _faults(name: str, fast: float, stalls: float) -> Builder:
    def build(quick: bool, _learns: bool) -> Scenario:
        until_s = 300.0 if quick else 1500.0
        return Scenario(
            name=name,
            shows=f"{100 * fast:.0f} % of attempts fail, {100 * stalls:.0f} % stall; within 300 s",
            groups=_lonely(10, limit=60.0),
            streams=(Stream(per_minute=60, until_s=until_s),),
            duration_s=until_s,
            acts={"mix": {"500": fast, "stall": stalls}},
            speed=40.0 if quick else 20.0,
            heavy_speed=15.0,
        )

    return build


def _outage(quick: bool, _learns: bool) -> Scenario:
    lead_s, out_s, tail_s = (120.0, 180.0, 180.0) if quick else (300.0, 600.0, 300.0)
    healed_s = lead_s + out_s
    return Scenario(
        name="outage",
        shows=f"every answer is a 503 for {out_s / 60:.0f} minutes; stock SDK clients",
        groups=_lonely(10, limit=60.0),
        streams=(Stream(per_minute=60, until_s=healed_s + tail_s),),
        duration_s=healed_s + tail_s,
        latency_s=(20.0, 40.0),
        conditions=({"from_s": lead_s, "to_s": healed_s, "act": "503"},),
        spans={
            "before": (30.0, lead_s - 45.0),
            "outage": (lead_s, healed_s),
            "open": (lead_s + 60.0, healed_s),
            "healed": (healed_s + 30.0, healed_s + tail_s),
        },
        speed=40.0 if quick else 20.0,
        heavy_speed=10.0,
    )


SLOW_FAILURE_S = 60.0
"""How long a slow account takes to fail."""
SICK = "sk-3"
"""The key of the account that is dead, slow or revoked."""


def _dead(name: str, shows: str, act: Any) -> Builder:
    def build(quick: bool, _learns: bool) -> Scenario:
        lead_s, sick_s, tail_s = (60.0, 120.0, 90.0) if quick else (60.0, 300.0, 120.0)
        healed_s = lead_s + sick_s
        return Scenario(
            name=name,
            shows=shows,
            groups=_lonely(10, limit=60.0),
            streams=(Stream(per_minute=240, until_s=healed_s + tail_s),),
            duration_s=healed_s + tail_s,
            latency_s=(20.0, 40.0),
            conditions=({"from_s": lead_s, "to_s": healed_s, "keys": [SICK], "act": act},),
            spans={"sick": (lead_s, healed_s), "healed": (healed_s, healed_s + tail_s)},
            speed=15.0 if quick else 12.0,
            heavy_speed=5.0,
        )

    return build


def _moderation(quick: bool, learns: bool) -> Scenario:
    refusals, good = (100, 30) if quick else (1000, 200)
    refused_s = 100.0 if quick else 300.0
    if not learns:  # its retries take it longer
        refused_s *= 2
    return Scenario(
        name="moderation",
        shows=f"{refusals} refusals in five shapes, then {good} good calls",
        groups=_lonely(10),
        streams=(
            Stream(crowd=10, count=refusals, until_s=refused_s, prompt="refused"),
            Stream(crowd=20, count=good, from_s=refused_s, until_s=refused_s + 200.0),
        ),
        duration_s=refused_s + 200.0,
        latency_s=(2.0, 4.0),
        # By prompt: whoever asks again, anywhere, is refused again, and in the same shape.
        acts={"prompts": {"refused": "moderation:any"}},
        spans={"refusals": (0.0, refused_s), "good": (refused_s, refused_s + 400.0)},
        speed=10.0,
        heavy_speed=5.0,
    )


_VIP_SIZES = ("1024x1024", "1820x1024", "1280x544", "1820x780", "848x1280", "1280x720")
"""Sizes of the vip channel, of which the vendor cannot make 1820x1024, 1820x780 and 1280x720."""


def _wrong_sizes(quick: bool, _learns: bool) -> Scenario:
    until_s = 200.0 if quick else 600.0
    return Scenario(
        name="wrong-sizes",
        shows="5 % of answers in another size than asked, and sizes that the vendor cannot make",
        groups=_lonely(10, limit=60.0),
        streams=(Stream(per_minute=60, until_s=until_s, sizes=_VIP_SIZES),),
        duration_s=until_s,
        latency_s=(20.0, 40.0),
        acts={"mix": {"wrong_size": 0.05}},
        speed=15.0 if quick else 10.0,
        heavy_speed=8.0,
    )


def _fairness(quick: bool, learns: bool) -> Scenario:
    alone_s, loaded_s, pile = (120.0, 240.0, 150) if quick else (300.0, 900.0, 1000)
    if not learns:
        alone_s, loaded_s = 120.0, 240.0
    end_s = alone_s + loaded_s
    limit = 10.0 if quick else 30.0
    return Scenario(
        name="fairness",
        shows=f"one customer keeps {pile} calls waiting, another sends one a minute",
        groups=_lonely(10, limit=limit),
        streams=(
            Stream(customer="b", per_minute=6, even=True, until_s=alone_s, prompt="alone"),
            Stream(customer="a", crowd=pile, from_s=alone_s, until_s=end_s, prompt="pile"),
            Stream(
                customer="b",
                per_minute=3 if quick else 1,
                even=True,
                from_s=alone_s + 30.0,
                until_s=end_s,
                prompt="beside",
            ),
        ),
        duration_s=end_s,
        drain_s=60.0,
        latency_s=(20.0, 24.0),
        spans={"alone": (0.0, alone_s), "beside": (alone_s + 30.0, end_s)},
        speed=20.0 if quick else 12.0,
        heavy_speed=4.0,
    )


def _equal_shares(quick: bool, learns: bool) -> Scenario:
    until_s = 600.0 if learns and not quick else 240.0
    limit = 10.0 if quick else 20.0
    pile = 60 if quick else 120
    return Scenario(
        name="equal-shares",
        shows=f"four customers with {pile} calls waiting each",
        groups=_lonely(10, limit=limit),
        streams=tuple(
            # They come one after another, so that the order of coming favours the first.
            Stream(customer=customer, crowd=pile, from_s=10.0 * at, until_s=until_s)
            for at, customer in enumerate("abcd")
        ),
        duration_s=until_s,
        drain_s=0.0,
        latency_s=(20.0, 24.0),
        spans={"all": (90.0, until_s)},
        speed=20.0 if quick else 15.0,
        heavy_speed=4.0,
    )


def _two_processes(quick: bool, learns: bool) -> Scenario:
    until_s = 900.0 if learns and not quick else 240.0
    return Scenario(
        name="two-processes",
        shows="two processes on one data folder share 8 groups' limits; 130 % asked of them",
        groups=_eight_groups(hidden=False),
        streams=(Stream(per_minute=1.3 * sum(_TRUE), crowd=520, until_s=until_s),),
        duration_s=until_s,
        drain_s=0.0,
        latency_s=(30.0, 60.0),
        spans={"all": (0.0, until_s)},
        processes=2,
        speed=20.0 if quick else 8.0,
        heavy_speed=3.0,
    )


_BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {
        "capacity": _capacity,
        "faults-5": _faults("faults-5", 0.05, 0.01),
        "faults-30": _faults("faults-30", 0.30, 0.10),
        "outage": _outage,
        "dead-account": _dead(
            "dead-account", "one account in ten fails at once, and heals later", "503"
        ),
        "slow-account": _dead(
            "slow-account",
            f"one account in ten gives up (524) after {SLOW_FAILURE_S:.0f} s, and heals later",
            {"kind": "status", "status": 524, "latency_s": SLOW_FAILURE_S},
        ),
        "revoked-key": _dead("revoked-key", "the key of one account in ten is revoked", "401"),
        "moderation": _moderation,
        "wrong-sizes": _wrong_sizes,
        "fairness": _fairness,
        "equal-shares": _equal_shares,
        "two-processes": _two_processes,
    }
)

NAMES = tuple(_BUILDERS)


def scenario(name: str, *, quick: bool = False, learns: bool = True) -> Scenario:
    """Return a scenario.

    Args:
        name: one of NAMES.
        quick: in a form that takes seconds and proves less.
        learns: for a contender that learns limits and so needs time for that; where it would only
            be longer for one that does not, that one gets a shorter form.

    Raises:
        KeyError: there is no scenario of that name.
    """
    return _BUILDERS[name](quick, learns)
