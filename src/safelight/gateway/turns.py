"""Turns: who gets the next free account when more jobs wait than there are accounts.

Owns the waiting; the pool decides. Jobs of one channel wait in the order of their coming, and only
the first of each channel asks the pool: so a hand-back wakes one job a channel, however many wait,
and no newcomer overtakes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from safelight.clock import Clock
from safelight.errors import UpstreamError
from safelight.gateway import failures
from safelight.gateway.failures import Failed
from safelight.pool import Lease, Nothing, Pool, Wait


class Turns:
    """Hands out the pool's leases."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._waiting: defaultdict[tuple[str, bool], list[asyncio.Event]] = defaultdict(list)
        self._freed = asyncio.Event()

    async def lease(
        self,
        channel: str,
        *,
        edits: bool,
        tried: frozenset[str],
        deadline: float,
        patient: bool,
    ) -> Lease:
        """Return a lease when it is this job's turn.

        Args:
            channel: model id the customer asked for.
            edits: whether the account must take input images.
            tried: accounts that have failed this job.
            deadline: on the clock's monotonic seconds.
            patient: False to refuse at once what is not free at once.

        Raises:
            Failed: no account will serve this, or none before the deadline.
        """
        # Apart, so that an edit does not wait behind what only other accounts can do.
        queue = self._waiting[channel, edits]
        turn = asyncio.Event()
        # A job that has been served before goes next: it has waited already.
        queue.insert(min(len(queue), 1) if tried else len(queue), turn)
        try:
            while True:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    raise Failed(failures.out_of_time())
                ahead = queue.index(turn)
                decision: Lease | Wait | Nothing
                if ahead:
                    decision = self._pool.forecast(channel, edits=edits)
                else:
                    decision = self._pool.acquire(channel, edits=edits, tried=tried)
                if isinstance(decision, Lease):
                    return decision
                if isinstance(decision, Nothing):
                    raise Failed(failures.unavailable(decision.code, decision.message))
                expected_s = decision.seconds + ahead * self._pool.pace_s(channel)
                if expected_s > left or not patient:
                    raise Failed(failures.busy(expected_s))
                if ahead:
                    await _until(turn, left)
                else:
                    await _until(self._freed, decision.seconds)
        finally:
            queue.remove(turn)
            if queue:
                queue[0].set()

    def hand_back(self, lease: Lease, error: UpstreamError | None) -> None:
        """Book an attempt's outcome and let the waiting look again."""
        self._pool.release(lease, error)
        self._freed.set()

    def drop(self, lease: Lease) -> None:
        """Hand back a lease whose attempt says nothing about its account."""
        self._pool.drop(lease)
        self._freed.set()

    def blame(self, account: str, error: UpstreamError) -> None:
        """Book a fault that showed after the lease was handed back."""
        self._pool.blame(account, error)


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for the next time the event is set, or for `seconds`."""
    event.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
