"""Budgets: periods, what gives back and what does not, alerts, and a model that they must equal."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fresh_books import sqlite_books
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.db.postgres import PostgresDatabase
from safelight.errors import BudgetExceeded
from safelight.types import PERIODS, Period
from spender import KEY, Spender

HOUR, DAY = 3600.0, 86_400.0


def at(text: str) -> ManualClock:
    return ManualClock(int(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000))


def open_database(url: str, folder: Path, clock: ManualClock) -> Database:
    return PostgresDatabase(url, clock) if url else sqlite_books(folder / "t.db", clock)


@pytest.fixture
def clock() -> ManualClock:
    return at("2026-11-29T22:00:00")


@pytest.fixture
async def spender(database_url: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Spender]:
    made = await Spender(open_database(database_url, tmp_path, clock)).open()
    yield made
    assert await made.faults() == []
    await made.db.close()


async def test_an_order_that_any_budget_does_not_cover_takes_from_none(spender: Spender) -> None:
    await spender.put("day", 100)
    await spender.put("total", 50)
    await spender.order(40)
    with pytest.raises(BudgetExceeded) as caught:
        await spender.order(20)
    assert (caught.value.status, caught.value.code) == (402, "budget_exceeded")
    assert (caught.value.type, caught.value.should_retry) == ("insufficient_quota", False)
    assert "total budget of this key (key_1)" in caught.value.message
    assert "does not start anew; ask your operator" in caught.value.message
    assert await spender.used() == {"day": 40, "total": 40}


async def test_a_request_for_three_takes_three_prices_or_none(spender: Spender) -> None:
    await spender.put("month", 70)
    with pytest.raises(BudgetExceeded, match="starts anew at 2026-12-01 00:00 UTC"):
        await spender.order(30, n=3)
    assert await spender.used() == {"month": 0}
    await spender.order(30, n=2)
    assert await spender.used() == {"month": 60}


async def test_a_new_period_starts_with_the_whole_budget(
    spender: Spender, clock: ManualClock
) -> None:
    for period in PERIODS:
        await spender.put(period, 100)
    await spender.order(60)
    states = await spender.states()
    ends = {period: state.resets_at for period, state in states.items()}
    assert ends == {
        "day": datetime(2026, 11, 30, tzinfo=UTC).timestamp(),
        "month": datetime(2026, 12, 1, tzinfo=UTC).timestamp(),
        "total": None,
    }
    clock.advance(2 * HOUR)
    assert await spender.used() == {"day": 0, "month": 60, "total": 60}
    await spender.order(30)
    assert await spender.used() == {"day": 30, "month": 90, "total": 90}
    clock.advance(DAY)
    assert await spender.used() == {"day": 0, "month": 0, "total": 90}


async def test_a_failed_job_gives_back_only_to_the_period_it_was_counted_in(
    spender: Spender, clock: ManualClock
) -> None:
    for period in PERIODS:
        await spender.put(period, 100)
    (old, kept), _ = await spender.order(20, n=2)
    await spender.complete(kept)
    clock.advance(2 * HOUR)
    (new,), _ = await spender.order(10)
    await spender.fail(old)
    assert await spender.used() == {"day": 10, "month": 30, "total": 30}
    await spender.fail(new)
    assert await spender.used() == {"day": 0, "month": 20, "total": 20}


async def test_a_budget_made_later_counts_what_was_spent_before(
    spender: Spender, clock: ManualClock
) -> None:
    (job,), _ = await spender.order(20)
    clock.advance(2 * HOUR)
    await spender.order(5)
    for period in PERIODS:
        await spender.put(period, 30)
    assert await spender.used() == {"day": 5, "month": 25, "total": 25}
    await spender.fail(job)
    assert await spender.used() == {"day": 5, "month": 5, "total": 5}


async def test_a_lower_limit_refuses_and_a_removed_budget_does_not(spender: Spender) -> None:
    await spender.put("day", 100)
    await spender.order(60)
    await spender.put("day", 50)
    state = (await spender.states())["day"]
    assert (state.used_micros, state.remaining_micros) == (60, 0)
    with pytest.raises(BudgetExceeded):
        await spender.order(1)
    await spender.order(0)
    await spender.put("day", None)
    await spender.order(1000)
    assert await spender.used() == {}


async def test_a_period_that_has_begun_is_not_left_when_the_clock_goes_back(
    spender: Spender, clock: ManualClock
) -> None:
    """Two processes whose clocks differ at midnight must not give the budget out twice."""
    await spender.put("day", 100)
    await spender.order(90)
    clock.advance(2 * HOUR)
    await spender.order(90)
    clock.advance(-2 * HOUR)
    with pytest.raises(BudgetExceeded):
        await spender.order(20)
    (job,), taken = await spender.order(10)
    assert taken.day == "2026-11-30"
    clock.advance(2 * HOUR)
    await spender.fail(job)
    assert await spender.used() == {"day": 90}


async def test_each_share_is_announced_once_in_a_period(
    spender: Spender, clock: ManualClock
) -> None:
    await spender.put("day", 100)
    shares = []
    for price in (49, 1, 29, 1, 20):
        (job,), taken = await spender.order(price)
        shares.append([(alert.key_id, alert.period, alert.share) for alert in taken.alerts])
    assert shares == [[], [(KEY, "day", 50)], [], [(KEY, "day", 80)], [(KEY, "day", 100)]]
    await spender.fail(job)
    _, taken = await spender.order(20)
    assert taken.alerts == ()
    assert (await spender.states())["day"].alerted == 100
    clock.advance(2 * HOUR)
    assert (await spender.states())["day"].alerted == 0
    _, taken = await spender.order(85)
    assert [alert.share for alert in taken.alerts] == [80]


async def test_many_orders_at_once_never_take_more_than_the_budget(spender: Spender) -> None:
    await spender.put("day", 300_000)
    results = await asyncio.gather(
        *(spender.order(30_000) for _ in range(60)), return_exceptions=True
    )
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 50
    assert await spender.used() == {"day": 300_000}


async def test_a_budget_made_while_orders_come_counts_each_of_them_once(spender: Spender) -> None:
    """The books must agree afterwards, which the fixture looks at; with time for both orders."""

    async def make_and_remove(period: Period) -> None:
        for _ in range(4):
            await spender.put(period, 10**9)
            await spender.put(period, None)
        await spender.put(period, 10**9)

    await asyncio.gather(
        *(spender.order(1) for _ in range(40)),
        *(make_and_remove(period) for period in PERIODS),
        *(spender.order(1) for _ in range(40)),
    )
    assert await spender.used() == dict.fromkeys(PERIODS, 80)


async def test_verify_finds_a_budget_that_was_edited(
    database_url: str, tmp_path: Path, clock: ManualClock
) -> None:
    spender = await Spender(open_database(database_url, tmp_path, clock)).open()
    await spender.put("day", 100)
    await spender.order(40)
    await spender.db.write(lambda tx: tx.execute("UPDATE budget SET used_micros = 10"))
    (fault,) = await spender.faults()
    assert fault == "key key_1: its daily budget has used 10, its jobs say 40"
    await spender.db.close()


class Spending(RuleBasedStateMachine):
    """Any order of verbs, periods and clock jumps equals a model that keeps every price."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = at("2026-11-29T12:00:00")
        db = sqlite_books(Path(self.folder.name) / "t.db", self.clock)
        self.spender = Spender(db)
        self.runner.run(self.spender.open())
        self.limits: dict[Period, int] = {}
        self.spent: dict[str, tuple[str, int]] = {}
        """Day and price of every job that has not failed."""
        self.open: list[str] = []
        self.day = self.today()
        self.set_back = False
        """Whether the clock has been: then only the books must agree, the model knows no more."""

    def teardown(self) -> None:
        self.runner.run(self.spender.db.close())
        self.runner.close()
        self.folder.cleanup()

    def today(self) -> str:
        return datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC).date().isoformat()

    def used(self, period: Period) -> int:
        start = {"day": self.day, "month": self.day[:7], "total": ""}[period]
        return sum(price for day, price in self.spent.values() if day.startswith(start))

    @rule(period=st.sampled_from(PERIODS), limit=st.integers(0, 300) | st.none())
    def put(self, period: Period, limit: int | None) -> None:
        self.runner.run(self.spender.put(period, limit))
        if limit is None:
            self.limits.pop(period, None)
        else:
            self.limits[period] = limit

    @rule(price=st.integers(0, 60), n=st.integers(1, 3))
    def order(self, price: int, n: int) -> None:
        self.day = max(self.day, self.today())
        cost, limits = price * n, self.limits.items()
        fits = cost == 0 or all(self.used(period) + cost <= limit for period, limit in limits)
        try:
            ids, taken = self.runner.run(self.spender.order(price, n))
        except BudgetExceeded:
            assert self.set_back or not fits
            return
        assert self.set_back or fits
        assert self.set_back or taken.day == self.day
        for job_id in ids:
            self.spent[job_id] = (taken.day, price)
            self.open.append(job_id)

    @precondition(lambda self: self.open)
    @rule(which=st.randoms(use_true_random=False), fails=st.booleans())
    def end(self, which: object, fails: bool) -> None:
        job_id = self.open.pop(which.randrange(len(self.open)))  # type: ignore[attr-defined]
        if fails:
            self.runner.run(self.spender.fail(job_id))
            del self.spent[job_id]
        else:
            self.runner.run(self.spender.complete(job_id))

    @rule(hours=st.sampled_from((1, 5, 12, 24, 40)))
    def pass_time(self, hours: int) -> None:
        self.clock.advance(hours * HOUR)
        self.day = max(self.day, self.today())

    @rule(hours=st.sampled_from((1, 13, 30)))
    def set_the_clock_back(self, hours: int) -> None:
        self.clock.advance(-hours * HOUR)
        self.set_back = True

    @invariant()
    def the_books_agree(self) -> None:
        assert self.runner.run(self.spender.faults()) == []
        shown = self.runner.run(self.spender.states())
        assert set(shown) == set(self.limits)
        if self.set_back:
            return
        for period, state in shown.items():
            assert state.limit_micros == self.limits[period]
            assert state.used_micros == self.used(period)


Spending.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestSpending = Spending.TestCase
