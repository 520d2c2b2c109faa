"""Series beside a scripted day of a whole gateway: each step counts what it held."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from gateway.house import VIP, House, account
from safelight import link_checks, series
from safelight.clock import ManualClock
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.orders import Queued
from safelight.series import POINTS_MAX, Point, Step

BEGAN_S = 1_800_000_000 // 86_400 * 86_400 + 12 * 3600
"""A noon, where minutes, hours and half days begin."""


def fault(kind: FaultClass, **more: object) -> UpstreamError:
    return UpstreamError(kind, "upstream_error", "It failed.", **more)  # type: ignore[arg-type]


class Day:
    """A gateway whose pictures take as long as the script says."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(BEGAN_S * 1000)
        pool = (account("a", image_cost_micros=9_000), account("b", image_cost_micros=9_000))
        self.house = House(folder, clock=self.clock, accounts=pool)
        self._orders = 0

    async def buy(self, *steps: UpstreamError, takes_s: float = 0.0, channel: str = VIP) -> None:
        """Order one picture; the attempts fail as told, and the last one takes that long."""
        self._orders += 1
        upstream = self.house.upstream
        upstream.steps = [*steps, None]
        if not takes_s:
            await self.house.buy(f"lamp {self._orders}", channel=channel)
            return
        upstream.gate.clear()
        upstream.called.clear()
        buying = asyncio.create_task(self.house.buy(f"lamp {self._orders}", channel=channel))
        await upstream.called.wait()
        self.clock.advance(takes_s)
        upstream.gate.set()
        await buying

    async def cancel(self) -> None:
        """Order for later and think better of it."""
        (job,) = (await self.house.submit("later", queued=Queued())).jobs
        await self.house.gateway.cancel("cus_1", job.id)

    async def points(self, step: Step, *, from_s: int = 0, steps: int = 1) -> list[Point]:
        begin = BEGAN_S + from_s
        end = begin + steps * series.STEP_S[step]
        return await self.house.db.read(lambda tx: series.read(tx, step, from_s=begin, to_s=end))


async def live(folder: Path) -> Day:
    """Live through the script."""
    day = Day(folder)
    await day.house.open()
    await day.buy(takes_s=42)
    await day.buy(fault(FaultClass.THROTTLED, retry_after_s=5), takes_s=10)
    day.clock.advance(60 - 52)
    await day.buy(fault(FaultClass.FAST), channel="gpt-image-2")
    day.clock.advance(20)
    await day.buy(fault(FaultClass.CLIENT, final_status=400))
    await day.buy(fault(FaultClass.THROTTLED), channel="gpt-image-2")
    day.clock.advance(3600)
    await day.buy(fault(FaultClass.SLOW, sold=True), takes_s=100)
    await day.cancel()
    day.clock.advance(86_400)
    await day.buy(takes_s=5)
    return day


async def test_each_minute_counts_what_ended_and_what_was_sent_in_it(tmp_path: Path) -> None:
    """Hidden faults are those of pictures that came; visible what callers saw as 429 or 5xx."""
    day = await live(tmp_path)
    first, second, third = await day.points("minute", steps=3)
    assert (first.at, first.completed, first.failed, first.cancelled) == (BEGAN_S, 2, 0, 0)
    assert (first.attempts, dict(first.outcomes)) == (3, {"ok": 2, "throttled": 1})
    assert (first.hidden_errors, first.throttled, first.visible) == (1, 1, 0)
    assert (first.settled_micros, first.vendor_cost_micros) == (60_000, 18_000)
    assert (first.seconds(0.5), first.seconds(0.95), first.mean_s) == (10.0, 42.0, 26.0)
    assert (second.completed, second.failed, second.visible) == (0, 3, 2)
    assert (second.attempts, second.hidden_errors, second.throttled) == (3, 0, 0)
    assert (second.settled_micros, second.seconds(0.5), second.mean_s) == (0, None, None)
    assert third == Point(at=BEGAN_S + 120)
    await day.house.close()


async def test_hours_and_days_are_the_sums_of_their_minutes(tmp_path: Path) -> None:
    day = await live(tmp_path)
    one, two = await day.points("hour", steps=2)
    assert (one.completed, one.failed, one.hidden_errors, one.visible) == (2, 3, 1, 2)
    assert (two.completed, two.cancelled, two.hidden_errors, two.throttled) == (1, 1, 1, 0)
    assert (two.seconds(0.5), two.attempts) == (100.0, 2)
    noon, next_day = await day.points("day", from_s=-12 * 3600, steps=2)
    assert noon.at == BEGAN_S - 12 * 3600
    assert (noon.completed, noon.failed, noon.cancelled, noon.settled_micros) == (3, 3, 1, 90_000)
    assert (next_day.completed, next_day.mean_s) == (1, 5.0)
    statement = await day.house.statement()
    charged = -sum(line.amount_micros for line in statement if line.kind == "settle")
    assert noon.settled_micros + next_day.settled_micros == charged
    # A step is shown whole, whatever second of it is asked for.
    begin = BEGAN_S + 30
    (whole,) = await day.house.db.read(
        lambda tx: series.read(tx, "minute", from_s=begin, to_s=begin + 1)
    )
    assert (whole.at, whole.completed) == (BEGAN_S, 2)
    await day.house.close()


async def test_downloads_from_outside_are_a_share_of_those_that_were_tried(tmp_path: Path) -> None:
    day = Day(tmp_path)
    await day.house.open()
    for tried, good in ((4, 4), (4, 3), (2, 2)):
        await day.house.db.write(partial(link_checks.note, tried=tried, good=good))
        day.clock.advance(40)
    first, second, third = await day.points("minute", steps=3)
    assert (first.links_tried, first.link_success) == (8, 7 / 8)
    assert (second.link_success, third.link_success) == (1.0, None)
    (hour,) = await day.points("hour")
    assert (hour.links_good, hour.link_success) == (9, 0.9)
    await day.house.close()


async def test_a_span_has_a_bounded_number_of_steps(tmp_path: Path) -> None:
    day = Day(tmp_path)
    await day.house.open()
    assert len(await day.points("minute", steps=POINTS_MAX)) == POINTS_MAX
    with pytest.raises(series.TooMany):
        await day.points("minute", steps=POINTS_MAX + 1)
    await day.house.close()


async def test_jobs_that_ended_a_moment_ago_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    day = await live(tmp_path)
    to_ms = day.clock.now_ms() + 1
    counts, sample = await day.house.db.read(
        lambda tx: series.ended_between(tx, from_ms=BEGAN_S * 1000, to_ms=to_ms, sample=3)
    )
    assert counts == {"completed": 4, "failed": 3, "cancelled": 1}
    ended = [one.completed_at for one in sample]
    assert (len(sample), sample[0].state) == (3, "completed")
    assert ended == sorted(ended, reverse=True)
    await day.house.close()
