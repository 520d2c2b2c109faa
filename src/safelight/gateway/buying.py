"""Buying one picture: attempt after attempt, until one leaves a complete answer or none will.

Owns the decision what follows a failed attempt, the price of retries, and the second attempt beside
one that looks stalled. Makes no call itself: it is given a function that does, and so knows no
database, no file and no wire.

A slow attempt is never cut short for being slow: at the time in which 99 of 100 pictures are done a
second one starts on another group, while the first is kept, and the first complete answer wins
(docs/pool.md says what this saves and costs).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from safelight.clock import Clock
from safelight.config import ChannelConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway import failures
from safelight.gateway.failures import Failed
from safelight.gateway.turns import Ticket, Turns
from safelight.pool import Down, Lease, Need, Pool
from safelight.waiting import Alarms, Wait

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 8.0
LOOK_AGAIN_S = 2.0
"""How often a suspected stall looks for a spare account, when it found none."""
SLACK_SHARE, SLACK_MAX_S = 0.5, 5.0
"""An attempt is begun only with the median time left, and this much more of it."""
LAST_CALL_S = 0.5
THROTTLED_MAX = 100
"""Refusals of one job that are waited out; they count towards no other bound."""

A = TypeVar("A")
_NOBODY: frozenset[str] = frozenset()


class Blocked(Exception):
    """The attempt did not leave: other processes have used the group's budget for `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"blocked for {seconds:.1f} s")
        self.seconds = seconds


class Unwanted(Exception):
    """The attempt did not leave: the customer has cancelled the job."""


@dataclass(slots=True, eq=False)
class _Running(Generic[A]):
    task: asyncio.Task[A]
    lease: Lease
    suspect_at: float
    suspected: bool = False


class Buying(Generic[A]):
    """The attempts of one job.

    Args:
        pool: decides about accounts, and keeps the quota of retries.
        turns: gives leases.
        clock: monotonic time.
        need: what the job needs of an account.
        ticket: who waits.
        policy: of the channel.
        deadline: of the job, on the clock's monotonic seconds.
        attempt: makes one attempt; returns a complete answer, or raises UpstreamError, Blocked or
            Unwanted. It hands the lease back itself.
        rng: draws the pauses between attempts.
        alarms: the ends of waits.
        patient: whether to wait for an account also where the channel makes no further attempts.
    """

    __slots__ = (
        "_alarms",
        "_attempt",
        "_bad_outputs",
        "_clock",
        "_deadline",
        "_hedged",
        "_made",
        "_need",
        "_needless",
        "_paid",
        "_patient",
        "_policy",
        "_pool",
        "_rng",
        "_running",
        "_throttled",
        "_ticket",
        "_tried",
        "_turns",
        "_unwanted",
        "_waited",
        "_winner",
        "superseding",
    )

    def __init__(  # noqa: PLR0913  (everything a purchase depends on, given by name)
        self,
        *,
        pool: Pool,
        turns: Turns,
        clock: Clock,
        need: Need,
        ticket: Ticket,
        policy: ChannelConfig,
        deadline: float,
        attempt: Callable[[Lease], Coroutine[Any, Any, A]],
        rng: random.Random,
        alarms: Alarms,
        patient: bool = False,
    ) -> None:
        self._pool = pool
        self._turns = turns
        self._clock = clock
        self._need = need
        self._ticket = ticket
        self._policy = policy
        self._deadline = deadline
        self._attempt = attempt
        self._rng = rng
        self._alarms = alarms
        self._patient = patient or policy.retries
        self._unwanted = False
        self._running: list[_Running[A]] = []
        self._tried = _NOBODY
        self._made = 0
        self._throttled = 0
        self._bad_outputs = 0
        self._paid: tuple[tuple[str, float], ...] = ()
        self._waited = False
        self._needless = False
        self._winner: Lease | None = None
        self._hedged = False
        self.superseding = False
        """Whether attempts that are cancelled now have lost to another one."""

    async def buy(self) -> A:
        """Make attempts until one leaves a complete answer; others may still be running then.

        Raises:
            Failed: no attempt will.
        """
        while True:
            if not self._running:
                self._start(await self._lease())
            # Here, not in a coroutine of its own: this lasts as long as a picture takes.
            wait = self._wait()
            try:
                await wait
            finally:
                self._wait_no_more(wait)
            ended = self._first_ended()
            if ended is None:
                self._suspect()
                continue
            try:
                answer = ended.task.result()
            except Blocked:
                continue
            except Unwanted:
                self.stop()
                if self._running:
                    continue  # what is out may still come
                raise Failed(failures.cancelled()) from None
            except UpstreamError as error:
                await self._after(ended.lease, error)
                continue
            # The one that looked stalled has delivered, and another is being paid for.
            self._needless |= ended.suspected and bool(self._running)
            self._winner = ended.lease
            return answer

    @property
    def alone(self) -> bool:
        """Whether no more than one attempt is under way."""
        return len(self._running) <= 1

    def stop(self) -> None:
        """Make no further attempt: the customer has cancelled the job."""
        self._unwanted = True

    async def reject(self, lease: Lease | None, error: UpstreamError) -> None:
        """Judge a complete answer that was unusable; return when another attempt may be made.

        Args:
            lease: of the attempt; None when an earlier process made it.
            error: BAD_OUTPUT.

        Raises:
            Failed: there will be none.
        """
        if lease is None:
            self._bad_outputs += 1
            return
        self._pool.blame(lease, error)
        await self._after(lease, error)

    async def close(self, *, delivered: bool) -> None:
        """End what is still running, and settle the quota."""
        self.superseding = True
        await self.abandon()
        if not delivered:
            return
        if self._winner is not None:
            self._pool.delivered(self._winner)
        for account, tokens in self._paid:
            self._pool.repay(account, tokens)
        if self._winner is not None and not self._paid:
            self._pool.repay(self._winner.account.name, 0.0)
        self._pool.hedges.note_picture(self._clock.monotonic(), twice=self._needless)

    async def abandon(self) -> None:
        """Cancel what is still running, and wait until it has ended."""
        tasks = [running.task for running in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()
        if self._hedged:
            self._pool.hedges.end()
            self._hedged = False

    # --- attempts --------------------------------------------------------------------------------

    async def _lease(self) -> Lease:
        lease = await self._turns.lease(
            self._need,
            self._ticket,
            tried=self._tried,
            first=self._waited,
            start_by=self._start_by(),
            patient=self._patient,
        )
        self._waited = True
        return lease

    def _start_by(self) -> float:
        """Return when it is too late for an attempt to finish, by the median of its like."""
        typical = self._pool.typical_s(self._need)
        return self._deadline - typical - min(SLACK_MAX_S, SLACK_SHARE * typical)

    def _start(self, lease: Lease) -> None:
        now = self._clock.monotonic()
        suspect_at = now + self._pool.soft_timeout_s(lease.account, self._need)
        last_call = self._start_by() - LAST_CALL_S
        if now + self._pool.typical_s(self._need) / 2 < last_call:
            # The last moment in which another one could still finish: do not let it pass.
            suspect_at = min(suspect_at, last_call)
        task = asyncio.create_task(self._attempt(lease), name="attempt")
        self._running.append(_Running(task, lease, suspect_at))

    def _wait(self) -> Wait:
        """Return a wait for an end, or for the time when something looks stalled."""
        timeout = None
        if self._policy.retries:
            until = min(running.suspect_at for running in self._running)
            timeout = max(0.0, until - self._clock.monotonic())
        wait = Wait(self._alarms, timeout)
        for running in self._running:
            wait.on(running.task)
        return wait

    def _wait_no_more(self, wait: Wait) -> None:
        wait.close()
        for running in self._running:
            running.task.remove_done_callback(wait)

    def _first_ended(self) -> _Running[A] | None:
        """Return the attempt that ended first, which runs no more; None: none has ended."""
        # Of two that end together a good one counts, of two good ones the earlier.
        ended = [running for running in self._running if running.task.done()]
        if not ended:
            return None
        first = min(ended, key=lambda one: one.task.cancelled() or bool(one.task.exception()))
        self._running.remove(first)
        return first

    def _suspect(self) -> None:
        """Start a second attempt beside those that look stalled, if all of them do."""
        now = self._clock.monotonic()
        for running in self._running:
            if running.suspect_at <= now:
                running.suspected = True
                if now - running.lease.at >= self._pool.soft_timeout_s(
                    running.lease.account, self._need
                ):
                    self._pool.suspect(running.lease)
                running.suspect_at = now + LOOK_AGAIN_S
        if not all(running.suspected for running in self._running):
            return
        if self._unwanted or self._made_all() or now > self._start_by():
            return
        if not self._pool.hedges.allows(now):
            return
        lease = self._turns.spare(
            self._need,
            tried=self._tried,
            but_groups=frozenset(running.lease.account.group for running in self._running),
        )
        if lease is None:
            return
        stalled = self._running[0].lease.account.name
        if not self._pay(stalled, FaultClass.SLOW):
            self._turns.drop(lease, sent=False)
            return
        if not self._hedged:
            self._hedged = True
            self._pool.hedges.begin()
        self._start(lease)

    # --- judging ---------------------------------------------------------------------------------

    async def _after(self, lease: Lease, error: UpstreamError) -> None:
        """Decide after a failed attempt: return to try again, or raise the last word."""
        self._count(error)
        self._tried |= {lease.account.name}
        if error.fault is FaultClass.CLIENT:
            raise Failed(failures.final_failure(error, retried=self._policy.retries))
        if self._running:
            return  # another attempt is under way; if it looks stalled it gets its second there
        if self._unwanted:
            raise Failed(failures.cancelled())
        if not self._worth_another(error) or not self._pay(lease.account.name, error.fault):
            if self._clock.monotonic() >= self._deadline and error.fault is FaultClass.SLOW:
                raise Failed(failures.out_of_time())
            raise Failed(failures.final_failure(error, retried=self._policy.retries))
        if error.fault in (FaultClass.FAST, FaultClass.LOCAL) and not self._down():
            await self._back_off()

    def _count(self, error: UpstreamError) -> None:
        if error.fault is FaultClass.THROTTLED:
            self._throttled += 1
            return
        self._made += 1
        self._bad_outputs += error.fault is FaultClass.BAD_OUTPUT

    def _made_all(self) -> bool:
        maximum = self._policy.max_attempts if self._policy.retries else 1
        return self._made + len(self._running) >= maximum or self._throttled >= THROTTLED_MAX

    def _worth_another(self, error: UpstreamError) -> bool:
        if not self._policy.retries or self._made_all():
            return False
        return failures.worth_retrying(error, bad_outputs=self._bad_outputs)

    def _pay(self, account: str, fault: FaultClass) -> bool:
        tokens = self._pool.pay(account, fault)
        if tokens is None:
            return False
        self._paid += ((account, tokens),)
        return True

    def _down(self) -> bool:
        """Whether there is nobody to spare by waiting: the next lease is refused at once."""
        return isinstance(self._pool.forecast(self._need), Down)

    async def _back_off(self) -> None:
        """Full jitter over 0.5 s x 2^k, at most 8 s; only a second failure waits at all."""
        exponent = self._made - 2
        if exponent < 0:
            return
        ceiling = min(BACKOFF_FIRST_S * 2**exponent, BACKOFF_MAX_S)
        left = self._deadline - self._clock.monotonic()
        await asyncio.sleep(max(0.0, min(self._rng.random() * ceiling, left)))
