"""A pool and its turns in virtual time, and somebody who asks."""

from __future__ import annotations

import asyncio
import random

import pytest

from safelight.config import PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.failures import Failed
from safelight.gateway.turns import Ticket, Turns
from safelight.pool import Lease, Need, Pool
from safelight.types import Account, JobClass, JobFailure
from simulation.vendor import CHANNEL
from simulation.virtual import LoopClock

NEED = Need(CHANNEL, size="1024x1024")
EDIT = Need(CHANNEL, edits=True, size="1024x1024", inputs=1)
INTERACTIVE, JOB, BATCH = JobClass.INTERACTIVE, JobClass.JOB, JobClass.BATCH


async def later(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


class Desk:
    """A pool and its turns; whoever gets a turn holds it for a second."""

    def __init__(self, *accounts: Account, policy: PoolConfig | None = None) -> None:
        self.clock = LoopClock()
        self.pool = Pool(accounts, self.clock, random.Random(5), policy)
        self.turns = Turns(self.pool, self.clock)
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[float]] = []

    def ask(
        self,
        name: str,
        customer: str = "one",
        job_class: JobClass = INTERACTIVE,
        *,
        need: Need = NEED,
        within_s: float = 1e6,
        first: bool = False,
        patient: bool = True,
        hold_s: float = 1.0,
    ) -> asyncio.Task[float]:
        """Ask for a turn; the task tells how long it was waited for."""

        async def wait() -> float:
            began = self.clock.monotonic()
            lease = await self.turns.lease(
                need,
                Ticket(customer, job_class),
                first=first,
                start_by=began + within_s,
                patient=patient,
            )
            waited = self.clock.monotonic() - began
            self.served.append(name)
            try:
                await asyncio.sleep(hold_s)
            finally:
                self.turns.drop(lease)
            return waited

        self.tasks.append(asyncio.ensure_future(wait()))
        return self.tasks[-1]

    async def running(self, hold_s: float = 1.0) -> None:
        """Let somebody else have a turn first."""
        self.ask("running", "else", hold_s=hold_s)
        await asyncio.sleep(0)

    async def finish(self) -> None:
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def break_down(self) -> None:
        """Let every connection be refused until the endpoint counts as down."""
        while isinstance(lease := self.pool.acquire(NEED), Lease):
            self.pool.release(lease, UpstreamError(FaultClass.LOCAL, "x", "x"))

    @property
    def in_flight(self) -> int:
        return sum(view.in_flight for view in self.pool.views())


async def refusal(task: asyncio.Task[float]) -> tuple[JobFailure, float]:
    """Return the failure a task ends with, and how long that took."""
    clock = LoopClock()
    began = clock.monotonic()
    with pytest.raises(Failed) as caught:
        await task
    return caught.value.failure, clock.monotonic() - began
