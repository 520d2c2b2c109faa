"""A vendor in virtual time, with limits that it does not tell, and a shop that buys there.

The shop is the gateway's own pool, turns and buying over this vendor, without HTTP and without a
database: what they decide together can be looked at over hours.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from safelight.config import ChannelConfig, PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.buying import Buying
from safelight.gateway.failures import Failed
from safelight.gateway.turns import Ticket, Turns
from safelight.pool import Lease, Need, Pool
from safelight.types import Account, JobClass, JobFailure
from safelight.waiting import Alarms
from simulation.virtual import LoopClock

CHANNEL = "gpt-image-2-vip"
MINUTE_S = 60.0
SPREAD = math.log(102 / 45) / 2.326
"""Of the latencies' logarithm: half of the pictures take 45 s, one in a hundred 102 s or more."""

Fate = Callable[[Lease, float], str]
"""What becomes of a call at a time: ok, 500, stall, refused, revoked, moderation."""


@dataclass
class Vendor:
    """Sells pictures to groups, each up to its true limit in any minute."""

    limits: Callable[[str, float], float]
    fate: Fate = field(default=lambda _lease, _now: "ok")
    seed: int = 1
    median_s: float = 45.0
    retry_after: bool = True
    calls: list[tuple[float, str, str, str]] = field(default_factory=list)
    """(when, group, account, what became of it)."""
    delivered: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)

    async def sell(self, lease: Lease, now: float) -> None:
        """Take one call to its end."""
        group = lease.account.group
        recent = self._recent[group]
        while recent and recent[0] <= now - MINUTE_S:
            recent.popleft()
        fate = self.fate(lease, now)
        if fate != "refused" and len(recent) >= self.limits(group, now):
            self.calls.append((now, group, lease.account.name, "429"))
            await asyncio.sleep(0.2)
            left = recent[max(0, len(recent) - math.floor(self.limits(group, now)))]
            wait = left + MINUTE_S - now
            raise UpstreamError(
                FaultClass.THROTTLED, "x", "x", retry_after_s=wait if self.retry_after else None
            )
        recent.append(now)
        self.calls.append((now, group, lease.account.name, fate))
        match fate:
            case "500":
                await asyncio.sleep(self._rng.uniform(0.2, 0.8))
                raise UpstreamError(FaultClass.FAST, "upstream_error", "x")
            case "refused":
                await asyncio.sleep(0.01)
                raise UpstreamError(FaultClass.LOCAL, "upstream_unreachable", "x")
            case "stall":
                await asyncio.sleep(240)
                raise UpstreamError(FaultClass.SLOW, "upstream_timeout", "x", sold=None)
            case "revoked":
                await asyncio.sleep(0.1)
                raise UpstreamError(FaultClass.AUTH, "upstream_auth_failed", "x")
            case "moderation":
                await asyncio.sleep(3)
                raise UpstreamError(FaultClass.CLIENT, "moderation_blocked", "x")
            case _:
                await asyncio.sleep(self.median_s * math.exp(self._rng.gauss(0, SPREAD)))
                self.delivered += 1

    def worst_minute(self, group: str, since: float = 0.0) -> int:
        """Return the most calls of a group in any minute."""
        times = [at for at, name, _, _ in self.calls if name == group and at >= since]
        worst, first = 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - MINUTE_S:
                first += 1
            worst = max(worst, last - first + 1)
        return worst

    def outcomes(self, since: float = 0.0, until: float = math.inf) -> Counter[str]:
        """Return how many calls became what."""
        return Counter(what for at, _, _, what in self.calls if since <= at < until)


@dataclass
class Shop:
    """The pool, turns and buying of one process over a vendor."""

    vendor: Vendor
    accounts: list[Account]
    policy: PoolConfig = field(default_factory=PoolConfig)
    channel: ChannelConfig = field(
        default_factory=lambda: ChannelConfig(kind="pooled", sizes="table", price_micros=30000)
    )
    seed: int = 7

    def __post_init__(self) -> None:
        self.clock = LoopClock()
        self._rng = random.Random(self.seed + 1)
        self._alarms = Alarms()
        self.pool = Pool(self.accounts, self.clock, random.Random(self.seed), self.policy)
        self.turns = Turns(self.pool, self.clock)
        self.ends: list[tuple[float, float, JobFailure | None, str]] = []
        """(ordered, ended, failure, customer)."""
        self._tasks: set[asyncio.Task[JobFailure | None]] = set()

    def order(
        self, customer: str = "c", *, deadline_s: float = 300.0, interactive: bool = True
    ) -> asyncio.Task[JobFailure | None]:
        """Begin one purchase."""
        task = asyncio.ensure_future(self.buy(customer, deadline_s, interactive))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def buy(self, customer: str, deadline_s: float, interactive: bool) -> JobFailure | None:
        """Buy one picture; return why there is none."""
        began = self.clock.monotonic()
        buying: Buying[Lease] = Buying(
            pool=self.pool,
            turns=self.turns,
            clock=self.clock,
            need=Need(CHANNEL, size="1024x1024"),
            ticket=Ticket(customer, JobClass.INTERACTIVE if interactive else JobClass.JOB),
            policy=self.channel,
            deadline=began + deadline_s,
            attempt=lambda lease: self._attempt(lease, began + deadline_s),
            rng=self._rng,
            alarms=self._alarms,
        )
        failure = None
        try:
            await buying.buy()
            await buying.close(delivered=True)
        except Failed as failed:
            failure = failed.failure
            await buying.close(delivered=False)
        self.ends.append((began, self.clock.monotonic(), failure, customer))
        return failure

    async def finish(self) -> None:
        """Wait for every purchase."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def arrivals(
        self,
        per_minute: float,
        until: float,
        begin: Callable[[], Awaitable[object] | object],
        seed: int = 3,
    ) -> None:
        """Begin something at random times, so many a minute on average, until a moment."""
        rng = random.Random(seed)
        while True:
            await asyncio.sleep(rng.expovariate(per_minute / 60))
            if self.clock.monotonic() >= until:
                return
            begin()

    async def _attempt(self, lease: Lease, deadline: float) -> Lease:
        now = self.clock.monotonic()
        pending = True
        try:
            async with asyncio.timeout(deadline - now):
                await self.vendor.sell(lease, now)
            pending = False
            self.pool.release(lease, None)
        except TimeoutError:
            pending = False
            error = UpstreamError(FaultClass.SLOW, "upstream_timeout", "x", sold=None)
            self.pool.release(lease, error, deadline=deadline)
            raise error from None
        except UpstreamError as error:
            pending = False
            self.pool.release(lease, error)
            raise
        finally:
            if pending:
                self.pool.drop(lease)
            self.turns.look_again()
        return lease


async def later(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


def account(name: str, group: str = "", **more: object) -> Account:
    """Return an account of the simulated vendor."""
    return Account(
        name=name,
        upstream="simulated",
        group=group or name,
        channels=(CHANNEL,),
        **more,  # type: ignore[arg-type]
    )
