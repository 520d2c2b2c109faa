"""Decisions among many accounts, in memory: with everything free, with nothing, and in line.

Owns the pools that are measured and what is asked of them. Time stands still unless it is moved, so
a decision costs what it costs and nothing else happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from safelight.bench.growth.books import CHANNEL
from safelight.bench.growth.house import account
from safelight.clock import ManualClock
from safelight.config import PoolConfig
from safelight.pool import Lease, Need, Pool, Wait

PICTURE_S = 30.0
NEED = Need(CHANNEL, size="1024x1024")


def free(accounts: int) -> Callable[[], object]:
    """Return a decision and its booking, where every account is free."""
    clock = ManualClock()
    pool = _pool(accounts, clock, per_minute=None)

    def decide() -> None:
        pool.forecast(NEED)
        lease = pool.acquire(NEED)
        assert isinstance(lease, Lease)
        clock.advance(PICTURE_S)
        pool.release(lease, None)
        pool.delivered(lease)
        pool.repay(lease.account.name, 0.0)

    return decide


def busy(accounts: int) -> Callable[[], object]:
    """Return a decision where nothing is free: the budget of every group is spent."""
    clock = ManualClock()
    pool = _pool(accounts, clock, per_minute=60.0)
    while isinstance(pool.acquire(NEED), Lease):
        pass

    def decide() -> None:
        pool.forecast(NEED)
        assert isinstance(pool.acquire(NEED), Wait)

    return decide


def flowing(accounts: int) -> Callable[[], object]:
    """Return what one picture costs at the limit: one ends, the next is given what it leaves."""
    clock = ManualClock()
    pool = _pool(accounts, clock, per_minute=None, in_flight=1)
    held: list[Lease] = []
    while isinstance(lease := pool.acquire(NEED), Lease):
        held.append(lease)

    def decide() -> None:
        clock.advance(0.01)
        ended = held.pop(0)
        pool.release(ended, None)
        pool.delivered(ended)
        pool.forecast(NEED)
        lease = pool.acquire(NEED)
        assert isinstance(lease, Lease)
        held.append(lease)
        assert isinstance(pool.acquire(NEED), Wait)

    return decide


def _pool(
    accounts: int, clock: ManualClock, *, per_minute: float | None, in_flight: int | None = None
) -> Pool:
    made = [account(at, per_minute=per_minute, max_in_flight=in_flight) for at in range(accounts)]
    return Pool(made, clock, random.Random(1), PoolConfig())  # noqa: S311 - guards nothing


DECISIONS = {
    "pool: a decision, all accounts free": free,
    "pool: a decision, nothing free": busy,
    "pool: one ends, the next goes": flowing,
}
