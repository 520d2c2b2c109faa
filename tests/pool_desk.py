"""A pool under test: accounts, a clock that moves when told, and attempts made in one line."""

from __future__ import annotations

import random

from safelight.clock import ManualClock
from safelight.config import PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.pool import Lease, Need, Pool
from safelight.types import Account

VIP = "gpt-image-2-vip"
NEED = Need(VIP, size="1024x1024")
EDIT = Need(VIP, edits=True, size="1024x1024", inputs=1)


def account(name: str, group: str | None = None, **more: object) -> Account:
    values: dict[str, object] = {"channels": (VIP,), "upstream": "openai", **more}
    return Account(name=name, group=group or name, **values)  # type: ignore[arg-type]


def pool(*accounts: Account, policy: PoolConfig | None = None) -> tuple[Pool, ManualClock]:
    clock = ManualClock()
    return Pool(accounts, clock, random.Random(7), policy), clock


def lease(pool: Pool, need: Need = NEED, **more: frozenset[str]) -> Lease:
    decision = pool.acquire(need, **more)
    assert isinstance(decision, Lease), decision
    return decision


def only(pool: Pool, name: str, *others: str, need: Need = NEED) -> Lease:
    """Lease one account by saying that the others have failed the job."""
    found = lease(pool, need, tried=frozenset(others))
    assert found.account.name == name
    return found


def fault(kind: FaultClass, **more: object) -> UpstreamError:
    return UpstreamError(kind, "x", "x", **more)  # type: ignore[arg-type]


def fail(pool: Pool, clock: ManualClock, kind: FaultClass, times: int, seconds: float = 1) -> None:
    """Let whatever account comes fail, so many times one after another."""
    for _ in range(times):
        one = lease(pool)
        clock.advance(seconds)
        pool.release(one, fault(kind))


def good(pool: Pool, one: Lease, cost_micros: int | None = None) -> None:
    """Hand a lease back with a picture that turns out to be good."""
    pool.release(one, None, cost_micros=cost_micros)
    pool.delivered(one)


def states(pool: Pool) -> dict[str, str]:
    return {view.account.name: view.state for view in pool.views()}
