"""A wall clock that is set back by hours stops no limiter group."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.house import House, account
from safelight.clock import ManualClock
from safelight.config import PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.upkeep import Upkeep

HOUR_MS = 3_600_000


class SetBack(ManualClock):
    """A clock whose wall face can be set back alone."""

    behind_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() - self.behind_ms


async def test_attempts_from_before_the_clock_was_set_back_hold_up_nobody(tmp_path: Path) -> None:
    clock = SetBack()
    one = await House(tmp_path, clock=clock, accounts=(account("a", images_per_minute=1),)).open()
    await one.buy("first")
    await one.close()
    clock.behind_ms = HOUR_MS
    clock.advance(70)  # the minute is over, whatever the wall clock says
    other = await House(
        tmp_path, clock=clock, accounts=(account("a", images_per_minute=1),), owner="other"
    ).open()
    async with asyncio.timeout(5):
        (job,) = await other.buy("second")
    assert job.image is not None
    await other.close()


async def test_a_cooling_from_before_the_clock_was_set_back_ends_as_any_other(
    tmp_path: Path,
) -> None:
    clock = SetBack()
    one = await House(tmp_path, clock=clock).open()
    one.upstream.steps = [
        UpstreamError(FaultClass.THROTTLED, "rate_limit_exceeded", "Wait.", retry_after_s=300)
    ]
    await one.buy()
    await Upkeep(one.parts, owner="test").share()
    clock.behind_ms = HOUR_MS
    other = await House(tmp_path, clock=clock, owner="other").open()
    await Upkeep(other.parts, owner="other").share()
    cooling = max(one.cooling_until for one in other.parts.pool.limiters.values())
    assert 0 < cooling - clock.monotonic() <= PoolConfig().cooling_max_s
    await one.close()
    await other.close()
