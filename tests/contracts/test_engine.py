"""The durable queues: what is queued runs once, survives its process, and waits its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from safelight.clock import SystemClock
from safelight.engine import Handler, Queue, Work, connecting
from safelight.engine.durable import KEEP_S, MANY, DurableEngine
from safelight.errors import Unavailable

# DBOS drops what it has claimed in the moment in which it is stopped; the engine puts it back.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PROMPT_S = 20.0
FAST: dict[Queue, float] = {"jobs": 0.05, "webhooks": 0.05, "batches": 0.05, "storage": 0.05}


class OldClock(SystemClock):
    """A clock to whom everything was done long ago."""

    def now_ms(self) -> int:
        return super().now_ms() + round(2 * KEEP_S * 1000)


class Desk:
    """A handler that notes what it was given, and holds what it is told to hold."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.news = asyncio.Event()

    async def work(self, item: str) -> None:
        self.begun.append(item)
        self.news.set()
        if item.startswith("bad"):
            raise ValueError(item)
        await self.gate.wait()
        self.done.append(item)
        self.news.set()

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(PROMPT_S):
            while not ready():
                self.news.clear()
                await self.news.wait()


Open = Callable[..., DurableEngine]


@pytest.fixture
def make(tmp_path: Path, database_url_seldom: str) -> Open:
    """Make an engine of a process on one database; one at a time, as DBOS is one to a process."""

    def build(owner: str, handler: Handler, **more: object) -> DurableEngine:
        async def dead(owners: Collection[str]) -> set[str]:
            return set(owners) - {owner}

        values: dict[str, object] = {"polls_s": FAST, "clock": SystemClock(), **more}
        return DurableEngine(
            lambda: (
                connecting.postgres(database_url_seldom)
                if database_url_seldom
                else connecting.sqlite_file(tmp_path)
            ),
            owner=owner,
            handlers={"jobs": handler, "webhooks": handler},
            dead=dead,
            **values,  # type: ignore[arg-type]
        )

    return build


@asynccontextmanager
async def started(engine: DurableEngine) -> AsyncIterator[DurableEngine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def jobs(*items: str, **more: object) -> list[Work]:
    values = [{"queue": "jobs", "item": item, "key": item, **more} for item in items]
    return [Work(**value) for value in values]  # type: ignore[arg-type]


async def test_each_work_runs_once_whatever_is_queued_again(make: Open) -> None:
    desk = Desk()
    async with started(make("one", desk.work)) as engine:
        await engine.enqueue(jobs("a", "b"))
        await engine.enqueue(jobs("a", "b", "c"))
        await desk.until(lambda: len(desk.done) == 3)
        await engine.enqueue(jobs("a"))
        await engine.enqueue(jobs("d"))
        await desk.until(lambda: "d" in desk.done)
    assert sorted(desk.begun) == ["a", "b", "c", "d"]


async def test_a_failed_work_is_not_repeated_and_harms_no_other(make: Open) -> None:
    desk = Desk()
    async with started(make("one", desk.work)) as engine:
        await engine.enqueue(jobs("bad", "good"))
        await desk.until(lambda: len(desk.begun) == 2 and desk.done == ["good"])
        await engine.look()
    assert sorted(desk.begun) == ["bad", "good"]


async def test_of_many_works_those_that_are_known_are_left_out(make: Open) -> None:
    """A sweep repeats all that wait; so many are asked for first, and the result is the same."""
    desk = Desk()
    async with started(make("one", desk.work, widths={"jobs": 8}, share=1.0)) as engine:
        await engine.enqueue(jobs(*(f"{i}" for i in range(MANY))))
        await engine.enqueue(jobs(*(f"{i}" for i in range(MANY)), *(f"new{i}" for i in range(3))))
        await desk.until(lambda: len(desk.done) >= MANY + 3)
        await engine.enqueue(jobs(*(f"{i}" for i in range(MANY))))
        await engine.enqueue(jobs("last"))
        await desk.until(lambda: "last" in desk.done)
    assert len(desk.begun) == len(set(desk.begun)) == MANY + 4


async def test_what_is_queued_and_what_had_begun_survive_a_stop(make: Open) -> None:
    """Whatever ran is begun again, by the next process, at once."""
    first, second = Desk(), Desk()
    first.gate.clear()
    async with started(make("one", first.work, widths={"jobs": 1}, share=1.0)) as engine:
        await engine.enqueue(jobs("runs", "waits"))
        await desk_begun(first, 1)
    async with started(make("two", second.work)):
        await second.until(lambda: sorted(second.done) == ["runs", "waits"])
    assert first.done == []


async def desk_begun(desk: Desk, count: int) -> None:
    await desk.until(lambda: len(desk.begun) >= count)


async def test_a_drained_process_ends_its_works_and_begins_no_more(make: Open) -> None:
    desk, second = Desk(), Desk()
    desk.gate.clear()
    engine = make("one", desk.work, widths={"jobs": 1}, share=1.0)
    async with started(engine):
        await engine.enqueue(jobs("runs", "waits"))
        await desk_begun(desk, 1)
        await engine.pause()
        desk.gate.set()
        await desk.until(lambda: len(desk.done) == 1)
        await engine.enqueue(jobs("late"))
    async with started(make("two", second.work)):
        await second.until(lambda: len(second.done) == 2)
    assert sorted(desk.begun + second.begun) == ["late", "runs", "waits"]


async def test_one_customers_many_works_do_not_hold_up_anothers_one(make: Open) -> None:
    desk = Desk()
    desk.gate.clear()
    async with started(make("one", desk.work, widths={"jobs": 4})) as engine:
        await engine.enqueue(jobs(*(f"a{n}" for n in range(300)), partition="A"))
        await desk_begun(desk, 2)
        await engine.enqueue(jobs("b", partition="B"))
        await desk.until(lambda: "b" in desk.begun)
        assert len(desk.begun) == 3, "one customer has half of the places at most"


async def test_the_lowest_priority_goes_first_among_a_customers_works(make: Open) -> None:
    desk = Desk()
    engine = make("one", desk.work, widths={"jobs": 1}, share=1.0, polls_s={**FAST, "jobs": 0.3})
    async with started(engine):
        await engine.enqueue([*jobs("low", priority=200), *jobs("high", priority=1)])
        await desk.until(lambda: len(desk.done) == 2)
    assert desk.begun == ["high", "low"]


async def test_a_delayed_work_waits_and_then_runs(make: Open) -> None:
    desk = Desk()
    async with started(make("one", desk.work)) as engine:
        await engine.enqueue([*jobs("later", delay_s=1.0), *jobs("now")])
        await desk.until(lambda: len(desk.done) == 2)
    assert desk.begun == ["now", "later"]


async def test_a_withdrawn_work_does_not_begin(make: Open) -> None:
    desk = Desk()
    async with started(make("one", desk.work)) as engine:
        await engine.enqueue(jobs("gone", delay_s=3600))
        await engine.withdraw(["gone", "never queued"])
        await engine.enqueue(jobs("gone", "stays"))
        await desk.until(lambda: desk.done == ["stays"])


async def test_a_process_that_does_not_run_works_still_queues_them(make: Open) -> None:
    idle, busy = Desk(), Desk()
    async with started(make("server", idle.work, runs=False)) as engine:
        await engine.enqueue(jobs("a"))
        await engine.look()
    async with started(make("worker", busy.work)):
        await busy.until(lambda: busy.done == ["a"])
    assert idle.begun == []


async def test_finished_works_are_forgotten_after_a_while(make: Open) -> None:
    desk = Desk()
    async with started(make("one", desk.work, clock=OldClock())) as engine:
        await engine.enqueue(jobs("a"))
        await desk.until(lambda: desk.done == ["a"])
        async with asyncio.timeout(PROMPT_S):
            while len(desk.done) < 2:  # its end is written a moment after it
                await engine.look()
                await engine.enqueue(jobs("a"))
                await asyncio.sleep(0)


async def test_closed_queues_say_so(make: Open) -> None:
    desk = Desk()
    engine = make("one", desk.work)
    with pytest.raises(Unavailable):
        await engine.enqueue(jobs("a"))
    async with started(engine):
        await engine.enqueue(jobs("a"))
    with pytest.raises(Unavailable):
        await engine.enqueue(jobs("b"))
