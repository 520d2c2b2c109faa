"""Turns: who gets the next free account when more jobs wait than there are accounts.

Owns the waiting; the pool decides about accounts. Urgent classes go first, and each other class
keeps a floor. Inside a class the customers take turns (a deficit round robin whose quantum and
cost are one image), inside a customer the jobs go in the order of their coming. A job whose kind
cannot be served now does not hold up those of another kind.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from safelight.clock import Clock
from safelight.gateway import failures
from safelight.gateway.failures import Failed
from safelight.pool import Down, Lease, Need, Nothing, Pool, Wait
from safelight.types import JobClass
from safelight.waiting import Alarms, until_done

ETA_MARGIN = 1.1
"""Retries and refusals make a wait longer than the line ahead tells."""

CREDIT_MAX = 2.0
FULL_CREDIT = 1 - 1e-9
"""A whole turn is owed, up to the rounding of its tenths."""

_Kind = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who waits, and how urgently."""

    customer_id: str
    job_class: JobClass = JobClass.INTERACTIVE


@dataclass(eq=False, slots=True)
class _Waiter:
    need: Need
    ticket: Ticket
    tried: frozenset[str]
    start_by: float
    turn: asyncio.Future[Lease]
    number: int = 0
    """Its place among the jobs of its class, in the order of their coming; 0: before them."""

    def fail(self, failed: Failed) -> None:
        if not self.turn.done():
            self.turn.set_exception(failed)


@dataclass
class _Class:
    """The waiting jobs of one class: by customer, whose turn comes next first, and by kind."""

    customers: OrderedDict[str, dict[_Kind, deque[_Waiter]]] = field(default_factory=OrderedDict)
    credit: float = 0.0
    """Turns owed to the class by its floor."""
    waiting: int = 0
    came: int = 0

    def heads(self) -> Iterator[_Waiter]:
        """Yield who may be next: each customer's oldest job of each kind."""
        for queues in list(self.customers.values()):
            yield from sorted(
                (queue[0] for queue in queues.values()), key=lambda waiter: waiter.number
            )

    def of(self, customer_id: str) -> int:
        """Return how many jobs of a customer wait."""
        return sum(map(len, self.customers.get(customer_id, {}).values()))

    def add(self, waiter: _Waiter, *, first: bool) -> None:
        queues = self.customers.setdefault(waiter.ticket.customer_id, {})
        queue = queues.setdefault(waiter.need.kind, deque())
        self.came += 1
        if first:
            queue.appendleft(waiter)
        else:
            waiter.number = self.came
            queue.append(waiter)
        self.waiting += 1

    def remove(self, waiter: _Waiter) -> None:
        customer = waiter.ticket.customer_id
        queues = self.customers[customer]
        queue = queues[waiter.need.kind]
        queue.remove(waiter)
        self.waiting -= 1
        if not queue:
            del queues[waiter.need.kind]
        if not queues:
            del self.customers[customer]

    def rotate(self, customer_id: str) -> None:
        """Let all others go before this customer's next job."""
        if customer_id in self.customers:
            self.customers.move_to_end(customer_id)


class Turns:
    """Hands out the pool's leases.

    Args:
        pool: decides.
        clock: monotonic time.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._policy = pool.policy
        self._classes = {job_class: _Class() for job_class in JobClass}
        self._timer: asyncio.TimerHandle | None = None
        self._alarms = Alarms()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(line.waiting for line in self._classes.values())

    async def lease(
        self,
        need: Need,
        ticket: Ticket,
        *,
        tried: frozenset[str] = frozenset(),
        first: bool = False,
        start_by: float,
        patient: bool = True,
    ) -> Lease:
        """Return a lease when it is this job's turn.

        Args:
            need: what the job needs of an account.
            ticket: who waits.
            tried: accounts that have failed this job.
            first: whether the job has had a turn before; then it is its customer's next.
            start_by: after this an attempt could not finish; on the clock's monotonic seconds.
            patient: False to refuse at once what is not free at once.

        Raises:
            Failed: no account will serve this, or none in time; or too many wait already.
        """
        line = self._classes[ticket.job_class]
        if not first:
            self._refuse_beyond_bounds(line, ticket)
        if not self.waiting and start_by > self._clock.monotonic():
            # Nobody is before it: what is free is its own, and no wait needs to be foreseen.
            decision = self._pool.acquire(need, tried=tried)
            if isinstance(decision, Lease):
                self._count_turn(line)
                return decision
        self._refuse_what_cannot_be_in_time(need, ticket, first=first, start_by=start_by)
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(need, ticket, tried, start_by, turn)
        line.add(waiter, first=first)
        try:
            self._look()
            if patient and not waiter.turn.done():
                left = max(0.0, start_by - self._clock.monotonic())
                await until_done(self._alarms, turn, timeout_s=left)
            if waiter.turn.done():
                return waiter.turn.result()
            if not patient and isinstance(self._pool.forecast(need), Down):
                raise Failed(failures.down())
            if not patient:
                raise Failed(failures.busy(self._expected_s(need, ticket, first=True)))
            raise Failed(failures.out_of_time())
        except asyncio.CancelledError:
            if waiter.turn.done() and waiter.turn.exception() is None:
                self.drop(waiter.turn.result(), sent=False)
            raise
        finally:
            if waiter in line.customers.get(ticket.customer_id, {}).get(need.kind, ()):
                line.remove(waiter)

    def spare(
        self, need: Need, *, tried: frozenset[str], but_groups: frozenset[str]
    ) -> Lease | None:
        """Return a lease that nobody waits for, if there is one now."""
        if self.waiting:
            return None
        decision = self._pool.acquire(need, tried=tried, but_groups=but_groups)
        return decision if isinstance(decision, Lease) else None

    def drop(self, lease: Lease, *, sent: bool = True) -> None:
        """Hand back a lease whose attempt says nothing about its account."""
        self._pool.drop(lease, sent=sent)
        self.look_again()

    def look_again(self) -> None:
        """Say that something may be free now."""
        if self.waiting:
            self._look()

    # --- giving turns --------------------------------------------------------------------------

    def _look(self) -> None:
        """Give every turn that can be given now, and come back when the next may be free."""
        while self._give_one():
            pass

    def _give_one(self) -> bool:
        blocked: set[Need] = set()
        soonest = math.inf
        for line in self._in_order():
            for waiter in line.heads():
                if waiter.turn.done() or waiter.need in blocked:
                    continue
                if waiter.start_by < self._clock.monotonic():
                    waiter.fail(Failed(failures.out_of_time()))
                    line.remove(waiter)
                    return True
                decision = self._pool.acquire(waiter.need, tried=waiter.tried)
                match decision:
                    case Lease():
                        self._serve(line, waiter, decision)
                        return True
                    case Nothing():
                        waiter.fail(Failed(failures.unavailable(decision.code, decision.message)))
                        line.remove(waiter)
                        return True
                    case Down() if waiter.ticket.job_class is JobClass.INTERACTIVE:
                        waiter.fail(Failed(failures.down()))
                        line.remove(waiter)
                        return True
                    case Down() | Wait():
                        blocked.add(waiter.need)
                        soonest = min(soonest, decision.seconds)
        self._come_back_in(soonest)
        return False

    def _in_order(self) -> list[_Class]:
        """Return the classes, most urgent first, but for those that are owed a turn."""
        lines = [line for line in self._classes.values() if line.waiting]
        return sorted(lines, key=lambda line: line.credit < FULL_CREDIT)

    def _serve(self, line: _Class, waiter: _Waiter, lease: Lease) -> None:
        line.remove(waiter)
        line.rotate(waiter.ticket.customer_id)
        self._count_turn(line)
        waiter.turn.set_result(lease)

    def _count_turn(self, line: _Class) -> None:
        """Count that a class has had a turn, against what the others are owed."""
        for lower in list(self._classes.values())[1:]:
            if lower.waiting or lower is line:
                lower.credit = min(CREDIT_MAX, lower.credit + self._policy.floor_share)
        line.credit = max(0.0, line.credit - 1)

    def _come_back_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    # --- refusing ------------------------------------------------------------------------------

    def _refuse_beyond_bounds(self, line: _Class, ticket: Ticket) -> None:
        policy = self._policy
        if self.waiting >= policy.max_waiting:
            raise Failed(failures.too_many_waiting("The gateway has"))
        if line.of(ticket.customer_id) >= policy.max_waiting_per_customer:
            raise Failed(failures.too_many_waiting("You have"))

    def _refuse_what_cannot_be_in_time(
        self, need: Need, ticket: Ticket, *, first: bool, start_by: float
    ) -> None:
        left = start_by - self._clock.monotonic()
        if left <= 0:
            raise Failed(failures.out_of_time())
        expected_s = self._expected_s(need, ticket, first=first)
        # With hardly more than the median left one in two would be cut short: queue for less.
        slack_s = 0.0 if first else self._pool.long_s(need) - self._pool.typical_s(need)
        needed_s = expected_s * ETA_MARGIN + slack_s
        if expected_s and needed_s > left:
            # The line gets shorter by a second a second: then there is room for one more.
            raise Failed(failures.busy(needed_s - left))

    def _expected_s(self, need: Need, ticket: Ticket, *, first: bool) -> float:
        """Return the expected wait of a job that comes now, seconds."""
        forecast = self._pool.forecast(need)
        if not isinstance(forecast, Wait):
            return 0.0  # down or nothing: the look says so in its own words
        line = self._classes[ticket.job_class]
        urgent = 0
        for job_class, other in self._classes.items():
            if job_class is ticket.job_class:
                break
            urgent += other.waiting
        customers = len(line.customers) + (ticket.customer_id not in line.customers)
        own = 0 if first else line.of(ticket.customer_id)
        ahead = urgent + min(line.waiting, own * customers + customers - 1)
        return forecast.seconds + ahead * self._pool.pace_s(need)
