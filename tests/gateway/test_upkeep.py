"""What the pool learns outlives the process and reaches the others; refused keys are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.house import VIP, House, account
from safelight import limiters
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.errors import FaultClass, ShuttingDown, UpstreamError
from safelight.gateway.upkeep import SILENT_MS, Upkeep
from safelight.pool import Lease, Need, Nothing
from safelight.types import Account

NEED = Need(VIP, size="1024x1024")
ORG = (account("a", "org", images_per_minute=20), account("b", "org", images_per_minute=20))


class Process:
    """One process on a data folder, with its upkeep."""

    def __init__(
        self,
        folder: Path,
        clock: ManualClock,
        accounts: tuple[Account, ...] = ORG,
        owner: str = "test",
    ) -> None:
        self.house = House(folder, clock=clock, accounts=accounts, owner=owner)
        self.open = True
        self.pool = self.house.parts.pool
        self.upkeep = Upkeep(self.house.parts, owner=owner)

    def meet(self, kind: FaultClass, *, granted: int | None = None, **more: object) -> None:
        """Make an attempt that fails."""
        lease = self.pool.acquire(NEED)
        assert isinstance(lease, Lease), lease
        error = UpstreamError(kind, "x", "x", **more)  # type: ignore[arg-type]
        self.pool.release(lease, error, granted=granted)

    @property
    def limit(self) -> float | None:
        return self.pool.limiters["org"].images_per_minute

    @property
    def wait_s(self) -> float:
        return self.pool.limiters["org"].free_in(NEED, self.house.clock.monotonic())

    @property
    def states(self) -> dict[str, str]:
        return {view.account.name: view.state for view in self.pool.views()}

    async def shown(self) -> list[tuple[str, str, str]]:
        rows = await self.house.db.read(
            lambda tx: tx.all("SELECT * FROM account_state ORDER BY owner, account")
        )
        return [(row["owner"], row["account"], row["state"]) for row in rows]

    async def close(self) -> None:
        if self.open:
            self.open = False
            await self.house.close(0)


Start = Callable[..., Process]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start processes on one folder; those that a test leaves open are closed after it."""
    made: list[Process] = []

    def one(
        clock: ManualClock, accounts: tuple[Account, ...] = ORG, owner: str = "test"
    ) -> Process:
        made.append(Process(tmp_path, clock, accounts, owner))
        return made[-1]

    yield one
    for process in made:
        await process.close()


# --- limits ----------------------------------------------------------------------------------


async def test_a_learnt_limit_and_a_cooling_survive_a_restart(start: Start) -> None:
    clock = ManualClock()
    first = start(clock)
    first.meet(FaultClass.THROTTLED, granted=14, retry_after_s=100)
    await first.upkeep.leave()
    await first.close()
    clock.advance(40)
    second = start(clock)
    assert (second.limit, second.wait_s) == (20, 0)
    await second.upkeep.share()
    assert second.limit == 14
    assert 60 <= second.wait_s <= 70
    clock.advance(70)
    assert second.wait_s == 0


async def test_a_lesson_reaches_the_other_process_with_its_next_look(start: Start) -> None:
    clock = ManualClock()
    one, two = start(clock, owner="one"), start(clock, owner="two")
    for expected in (15, 11):
        clock.advance(200)
        one.meet(FaultClass.THROTTLED, granted=expected, retry_after_s=30)
        one.pool.limiters["org"].grant(clock.monotonic())
        await one.upkeep.share()
        assert two.wait_s == 0
        await two.upkeep.share()
        assert (one.limit, two.limit) == (expected, expected)
        assert two.wait_s >= 30
    # What two has taken over is no news to one.
    assert not two.pool.limiters["org"].changed


async def test_a_cooling_is_no_longer_after_the_clock_was_set_back(start: Start) -> None:
    """Neither where it is read after a restart, nor where a newer one is written over it."""
    clock = ManualClock()
    first = start(clock)
    first.meet(FaultClass.THROTTLED, granted=7, retry_after_s=30)
    await first.upkeep.share()
    noted_s = first.wait_s
    clock.jump(-7200)
    second = start(clock, owner="second")
    await second.upkeep.share()
    assert second.wait_s <= noted_s
    clock.advance(noted_s + 1)
    second.meet(FaultClass.THROTTLED, granted=7, retry_after_s=40)
    await second.upkeep.share()
    row = await second.house.db.read(lambda tx: limiters.get_limiter(tx, "org"))
    assert row is not None
    assert clock.now_ms() < row.cooling_until <= clock.now_ms() + 60_000


async def test_an_empty_wallet_is_known_to_all(start: Start) -> None:
    clock = ManualClock()
    one, two = start(clock, owner="one"), start(clock, owner="two")
    one.meet(FaultClass.QUOTA)
    await one.upkeep.share()
    await two.upkeep.share()
    assert isinstance(two.pool.acquire(NEED), Nothing)
    clock.advance(901)
    assert isinstance(two.pool.acquire(NEED), Lease)


async def test_a_new_configuration_is_not_overruled_by_old_lessons(start: Start) -> None:
    clock = ManualClock()
    first = start(clock)
    first.meet(FaultClass.THROTTLED, granted=14, retry_after_s=5)
    await first.upkeep.leave()
    await first.close()
    accounts = (account("a", "org", images_per_minute=50),)
    second = start(clock, accounts)
    await second.upkeep.share()
    assert second.limit == 50
    clock.advance(6)
    second.meet(FaultClass.THROTTLED, granted=44, retry_after_s=5)
    await second.upkeep.share()
    row = await second.house.db.read(lambda tx: limiters.get_limiter(tx, "org"))
    assert row is not None
    assert (row.images_per_minute, row.configured) == (44, 50)


async def test_a_learnt_limit_of_input_images_survives_a_restart(start: Start) -> None:
    clock = ManualClock()
    first = start(clock)
    edit = Need(NEED.channel, edits=True, size=NEED.size, inputs=4)
    for _ in range(3):
        one = first.pool.acquire(edit)
        assert isinstance(one, Lease)
        first.pool.release(one, None)
        clock.advance(3)
    refused = first.pool.acquire(edit)
    assert isinstance(refused, Lease)
    first.pool.release(refused, UpstreamError(FaultClass.THROTTLED, "x", "x", unit="input-images"))
    meter = first.pool.limiters["org"].meters["input-images"]
    assert meter.per_minute == 12
    await first.upkeep.leave()
    await first.close()
    second = start(clock)
    await second.upkeep.share()
    assert second.pool.limiters["org"].meters["input-images"].per_minute == 12
    assert second.limit == 20


async def test_a_lesson_that_could_not_be_written_is_written_later(start: Start) -> None:
    clock = ManualClock()
    process = start(clock)
    process.meet(FaultClass.THROTTLED, granted=14, retry_after_s=5)
    await process.close()
    with pytest.raises(ShuttingDown):
        await process.upkeep.share()
    assert process.pool.limiters["org"].changed


async def test_without_news_nothing_is_written(start: Start) -> None:
    process = start(ManualClock())
    await process.upkeep.share()
    assert await process.house.db.read(limiters.all_limiters) == []


# --- credentials -----------------------------------------------------------------------------


async def test_a_refused_credential_is_probed_until_it_is_accepted(start: Start) -> None:
    process = start(ManualClock(), (account("a"),))
    upstream = process.house.upstream
    await process.upkeep.probe()
    assert upstream.probes == []
    process.meet(FaultClass.AUTH)
    upstream.refuses = {"a"}
    for _ in range(3):
        await process.upkeep.probe()
        assert process.states == {"a": "refused"}
    assert upstream.probes == ["a", "a", "a"]
    upstream.refuses = set()
    await process.upkeep.probe()
    assert process.states == {"a": "returning"}
    await process.upkeep.probe()
    assert len(upstream.probes) == 4
    assert await process.house.open()
    await process.house.buy()
    assert process.states == {"a": "ready"}


async def test_a_credential_that_only_probes_accept_is_tried_ever_more_rarely(
    start: Start,
) -> None:
    """A key may be good for the free question and not for pictures."""
    process = start(ManualClock(), (account("a"),))
    attempts = 0
    for _ in range(120):
        if process.states["a"] != "refused":
            process.meet(FaultClass.AUTH)
            attempts += 1
        await process.upkeep.probe()
    assert 4 <= attempts <= 15


# --- states ------------------------------------------------------------------------------------


async def test_states_are_written_for_people_and_removed_when_the_process_leaves(
    start: Start,
) -> None:
    clock = ManualClock()
    one, two = start(clock, owner="one"), start(clock, owner="two")
    one.meet(FaultClass.AUTH)
    await one.upkeep.show()
    await two.upkeep.show()
    shown = await one.shown()
    assert len(shown) == 4
    assert sorted(state for owner, _, state in shown if owner == "one") == ["ready", "refused"]
    assert {state for owner, _, state in shown if owner == "two"} == {"ready"}
    await one.upkeep.leave()
    assert {owner for owner, _, _ in await two.shown()} == {"two"}


async def test_timers_that_show_at_once_do_not_meet_in_the_database(
    any_db: Database, tmp_path: Path
) -> None:
    house = House(tmp_path, clock=ManualClock(), accounts=ORG, owner="one", db=any_db)
    upkeep = Upkeep(house.parts, owner="one")
    for _ in range(10):
        await asyncio.gather(*(upkeep.show() for _ in range(5)))
    rows = await any_db.read(lambda tx: tx.all("SELECT account FROM account_state ORDER BY 1"))
    await house.kill()
    assert [row["account"] for row in rows] == ["a", "b"]


async def test_when_a_cooling_ends_is_told_as_a_time_of_day(start: Start) -> None:
    clock = ManualClock()
    process = start(clock, ORG[:1])
    process.meet(FaultClass.THROTTLED, granted=14, retry_after_s=100)
    await process.upkeep.show()
    row = await process.house.db.read(lambda tx: tx.one("SELECT * FROM account_state"))
    assert row is not None
    assert (row["state"], row["in_flight"]) == ("cooling", 0)
    assert 100_000 <= row["until"] - clock.now_ms() <= 110_000


async def test_what_a_dead_process_said_is_forgotten_in_the_end(start: Start) -> None:
    clock = ManualClock()
    dead = start(clock, owner="dead")
    await dead.upkeep.show()
    await dead.house.kill()
    dead.open = False
    process = start(clock, owner="alive")
    clock.advance(SILENT_MS / 1000 - 1)
    await process.upkeep.show()
    assert {owner for owner, _, _ in await process.shown()} == {"alive", "dead"}
    clock.advance(2)
    await process.upkeep.show()
    assert {owner for owner, _, _ in await process.shown()} == {"alive"}
