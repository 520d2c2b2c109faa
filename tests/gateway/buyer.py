"""Jobs that are bought in virtual time, each with its own script of calls."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from safelight.config import ChannelConfig, PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.buying import Blocked, Buying
from safelight.gateway.failures import Failed
from safelight.gateway.turns import Ticket, Turns
from safelight.pool import Lease, Need, Pool
from safelight.types import Account, JobFailure
from safelight.waiting import Alarms
from simulation.vendor import CHANNEL, account
from simulation.virtual import LoopClock

NEED = Need(CHANNEL, size="1024x1024")
VIP = ChannelConfig(kind="pooled", sizes="table", price_micros=30_000)
THREE = (account("a"), account("b"), account("c"))
Step = tuple[float, Exception | None]
"""How long a call takes, and how it fails; None: it answers."""
ANSWER: Step = (10, None)


def fault(kind: FaultClass, code: str = "upstream_error", **more: object) -> UpstreamError:
    return UpstreamError(kind, code, "It failed.", **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Call:
    at: float
    account: str


@dataclass
class Bench:
    """Jobs that are bought at once, each with its own script of calls; time begins at 0."""

    accounts: tuple[Account, ...] = THREE
    policy: PoolConfig = field(default_factory=PoolConfig)
    channel: ChannelConfig = VIP

    def __post_init__(self) -> None:
        self.clock = LoopClock()
        self.began = self.clock.monotonic()
        self.pool = Pool(self.accounts, self.clock, random.Random(4), self.policy)
        self.turns = Turns(self.pool, self.clock)
        self.calls: list[Call] = []
        self.cancelled: list[tuple[str, bool]] = []
        """(account, superseded) of the calls that were cut short."""

    @property
    def now(self) -> float:
        return self.clock.monotonic() - self.began

    @property
    def in_flight(self) -> int:
        return sum(view.in_flight for view in self.pool.views())

    def buying(self, *steps: Step, deadline_s: float = 900.0) -> Buying[Lease]:
        script = list(steps)

        async def attempt(lease: Lease) -> Lease:
            self.calls.append(Call(self.now, lease.account.name))
            seconds, error = script.pop(0) if script else ANSWER
            pending = True
            try:
                await asyncio.sleep(seconds)
                if error is not None:
                    raise error
                pending = False
                self.pool.release(lease, None)
            except Blocked as blocked:
                pending = False
                self.calls.pop()
                self.pool.blocked(lease, blocked.seconds)
                raise
            except UpstreamError as failed:
                pending = False
                self.pool.release(lease, failed)
                raise
            except asyncio.CancelledError:
                self.cancelled.append((lease.account.name, buying.superseding))
                raise
            finally:
                if pending:
                    self.pool.drop(lease)
                self.turns.look_again()
            return lease

        buying = Buying(
            pool=self.pool,
            turns=self.turns,
            clock=self.clock,
            need=NEED,
            ticket=Ticket("customer"),
            policy=self.channel,
            deadline=self.clock.monotonic() + deadline_s,
            attempt=attempt,
            rng=random.Random(5),
            alarms=Alarms(),
        )
        return buying

    async def buy(self, *steps: Step, deadline_s: float = 900.0) -> JobFailure | str:
        """Run one job as the gateway does; return whose picture it got, or why none."""
        buying = self.buying(*steps, deadline_s=deadline_s)
        try:
            answer = await buying.buy()
            await buying.close(delivered=True)
        except Failed as failed:
            await buying.close(delivered=False)
            return failed.failure
        return answer.account.name

    async def fail(self, *steps: Step, deadline_s: float = 900.0) -> JobFailure:
        end = await self.buy(*steps, deadline_s=deadline_s)
        assert isinstance(end, JobFailure)
        return end

    async def learn(self, seconds: float, times: int = 60) -> None:
        """Deliver so many pictures that each took so long."""
        for _ in range(times):
            assert isinstance(await self.buy((seconds, None)), str)
        self.calls.clear()
        self.began = self.clock.monotonic()

    def tokens(self) -> float:
        """Return the retry quota."""
        paid: list[float] = []
        while (tokens := self.pool.pay("a", FaultClass.THROTTLED)) is not None:
            paid.append(tokens)
        for tokens in paid:
            self.pool.repay("a", tokens)
        return sum(paid)
