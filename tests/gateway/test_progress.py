"""Who watches a job is told all that happens to it, on whichever process, and however late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.house import VIP
from gateway.replicas import Replica
from safelight.errors import FaultClass, InvalidValue, ShuttingDown, UpstreamError
from safelight.gateway.orders import Caller, PartialImage, Queued, Standing
from safelight.gateway.progress import LINE_S, Changed, Progress, Told, Update
from safelight.gateway.watch import Watch
from safelight.job_lists import JobFilter
from safelight.types import ImageRequest, Job, JobState, Operation

BROKEN = UpstreamError(FaultClass.FAST, "upstream_error", "Broken.")
WHOLE = ["queued", "1.1.sent", "1.1.received", "1.1.verified", "1.1.stored", "ended"]


@pytest.fixture
async def two(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas on one database."""
    one, other = (Replica(tmp_path, name, database_url) for name in ("one", "two"))
    await one.open()
    await other.open()
    yield one, other
    for replica in (one, other):
        replica.upstream.gate.set()
        await replica.close()


ON_SQLITE = pytest.mark.parametrize("database_url", [""])


async def watched(replica: Replica, job: Job, after: str | None = None) -> list[Update]:
    async with asyncio.timeout(20), aclosing(replica.gateway.progress(job, after=after)) as updates:
        return [update async for update in updates]


def names(updates: list[Update]) -> list[str]:
    return [update.step.name for update in updates if isinstance(update, Told)]


async def first_sent(replica: Replica, job: Job) -> None:
    async with asyncio.timeout(20), aclosing(replica.gateway.progress(job)) as updates:
        async for update in updates:
            if isinstance(update, Told) and update.step.name == "1.1.sent":
                return


async def test_another_replica_tells_every_step_of_a_job_as_the_one_that_runs_it(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    one.upstream.steps = [BROKEN]
    (job,) = (await one.begun()).jobs
    here, there = (asyncio.create_task(watched(replica, job)) for replica in two)
    await first_sent(other, job)
    one.upstream.gate.set()
    found = await there
    expected = ["queued", "1.1.sent", "1.1.failed"]
    expected += [f"1.2.{stage}" for stage in ("sent", "received", "verified", "stored")]
    assert names(found) == names(await here) == [*expected, "ended"]
    last = found[-1]
    assert isinstance(last, Told)
    assert last.job.state is JobState.COMPLETED
    assert last.job.image is not None


@ON_SQLITE
async def test_who_comes_after_the_end_is_told_the_same(two: tuple[Replica, Replica]) -> None:
    one, other = two
    (job,) = await one.buy()
    assert names(await watched(other, job)) == WHOLE


@ON_SQLITE
async def test_who_comes_back_is_told_what_it_missed(two: tuple[Replica, Replica]) -> None:
    one, other = two
    (job,) = await one.buy()
    assert names(await watched(other, job, "1.1.received")) == WHOLE[3:]
    assert names(await watched(other, job, "of another job")) == WHOLE
    assert names(await watched(other, job, "ended")) == []


@ON_SQLITE
async def test_who_reads_slowly_misses_nothing_and_nothing_is_kept_for_it(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    (job,) = (await one.begun()).jobs
    async with aclosing(other.gateway.progress(job)) as updates:
        told = [await anext(updates)]
        one.upstream.gate.set()
        await one.gateway.ended_within(job, 20)
        await other.gateway.ended_within(job, 20)
        told += [update async for update in updates]
    assert names(told) == WHOLE


@ON_SQLITE
async def test_partial_images_are_told_where_the_job_runs(
    two: tuple[Replica, Replica], tmp_path: Path
) -> None:
    one, _ = two
    (job,) = (await one.begun()).jobs
    watch = Watch(lambda _: None)
    watch.open(job.id)
    progress = Progress(one.db, one.clock, watch, finish_at=lambda *_: None)
    found: list[int] = []
    async with aclosing(progress.follow(job.id, after=None)) as updates:
        watch.partial(job.id, 0, tmp_path / "coarse.png")
        async for update in updates:
            if isinstance(update, PartialImage):
                found.append(update.index)
                if update.index == 1:
                    break
                watch.partial(job.id, 1, tmp_path / "fine.png")
    assert found == [0, 1]


@ON_SQLITE
async def test_who_watches_is_told_that_the_process_leaves(two: tuple[Replica, Replica]) -> None:
    one, other = two
    (job,) = (await one.begun()).jobs
    watching = asyncio.create_task(watched(other, job))
    await first_sent(other, job)
    await other.gateway.drain(0)
    with pytest.raises(ShuttingDown):
        await watching


@ON_SQLITE
async def test_a_database_that_is_away_for_a_moment_cuts_nobody_off(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    (job,) = (await one.begun()).jobs
    watching = asyncio.create_task(watched(other, job))
    await first_sent(other, job)
    other.cable.out = True
    other.cable.refused.clear()
    await other.cable.refused.wait()
    other.cable.out = False
    one.upstream.gate.set()
    assert names(await watching) == WHOLE


async def test_a_wait_ends_with_the_job_or_with_its_time(two: tuple[Replica, Replica]) -> None:
    one, other = two
    (job,) = (await one.begun()).jobs
    assert (await other.gateway.ended_within(job, 0.05)).state is JobState.IN_PROGRESS
    waiting = asyncio.create_task(other.gateway.ended_within(job, 20))
    one.upstream.gate.set()
    assert (await waiting).state is JobState.COMPLETED


@ON_SQLITE
async def test_many_who_come_and_go_at_once_are_all_told_the_end(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    (job,) = (await one.begun()).jobs
    staying = [asyncio.create_task(watched(other, job)) for _ in range(20)]
    leaving = [asyncio.create_task(watched(other, job)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    one.upstream.gate.set()
    assert [names(found) for found in await asyncio.gather(*staying)] == [WHOLE] * 20


@ON_SQLITE
async def test_partial_images_come_before_the_end(
    two: tuple[Replica, Replica], tmp_path: Path
) -> None:
    """Also where one look finds all of it: nothing is told behind the last step."""
    one, _ = two
    (job,) = await one.buy()
    watch = Watch(lambda _: None)
    watch.open(job.id)
    watch.partial(job.id, 0, tmp_path / "coarse.png")
    progress = Progress(one.db, one.clock, watch, finish_at=lambda *_: None)
    async with aclosing(progress.follow(job.id, after=None)) as updates:
        found = [
            update.step.name if isinstance(update, Told) else "partial" async for update in updates
        ]
    assert found == [*WHOLE[:2], "partial", *WHOLE[2:]]


# --- the line and the list -----------------------------------------------------------------------


async def queue(replica: Replica, prompt: str, priority: int = 100) -> Job:
    request = ImageRequest(operation=Operation.GENERATION, prompt=prompt, channel=VIP)
    caller = Caller(customer_id="cus_1", key_id="key_1", route="/v1/images/generations")
    order = await replica.gateway.submit(
        request, caller, given=frozenset({"prompt"}), queued=Queued(priority=priority)
    )
    replica.clock.advance(1)
    return order.jobs[0]


async def test_a_waiting_jobs_place_counts_those_that_go_before_it(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    first, second = await queue(one, "a"), await queue(one, "b")
    urgent = await queue(one, "c", priority=1)
    (running,) = (await one.begun()).jobs
    standings = await other.gateway.standings([first, second, urgent, running])
    assert [standings[job.id].place for job in (urgent, first, second, running)] == [0, 1, 2, None]
    now_ms = other.clock.now_ms()
    assert all(now_ms < (one.finish_at or 0) for one in standings.values())
    await one.gateway.cancel("cus_1", first.id)
    ended = await other.gateway.job("cus_1", first.id)
    other.clock.advance(LINE_S)
    standings = await other.gateway.standings([second, ended])
    assert (standings[second.id].place, standings[ended.id]) == (1, Standing())


@ON_SQLITE
async def test_who_watches_a_waiting_job_is_told_its_new_place_and_its_end(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    first, second = await queue(one, "a"), await queue(one, "b")
    async with asyncio.timeout(20), aclosing(other.gateway.progress(second)) as updates:
        told = await anext(updates)
        assert isinstance(told, Told)
        assert (told.step.name, told.standing.place) == ("queued", 1)
        await one.gateway.cancel("cus_1", first.id)
        other.clock.advance(LINE_S)
        moved = await anext(updates)
        assert isinstance(moved, Changed)
        assert moved.standing.place == 0
        await one.gateway.cancel("cus_1", second.id)
        assert names([update async for update in updates]) == ["cancelling", "ended"]


async def test_a_list_is_paged_in_both_directions_and_filtered(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    placed = [await queue(one, str(number)) for number in range(5)]
    ids = [job.id for job in placed]
    await one.gateway.cancel("cus_1", ids[1])

    async def page(
        after: str | None = None, *, newest: bool = False, **chosen: object
    ) -> list[str]:
        found = await other.gateway.job_page(
            "cus_1",
            JobFilter(**chosen),  # type: ignore[arg-type]
            after=after,
            newest_first=newest,
            limit=3,
        )
        assert found.has_more == (
            len(found.jobs) == 3 and found.jobs[-1].id not in (ids[0], ids[4])
        )
        return [job.id for job in found.jobs]

    assert await page() == ids[:3]
    assert await page(ids[2]) == ids[3:]
    assert await page(newest=True) == ids[:1:-1]
    assert await page(ids[2], newest=True) == [ids[1], ids[0]]
    assert await page(states=(JobState.CANCELLED, JobState.FAILED)) == [ids[1]]
    assert await page(request_id=placed[3].request_id) == [ids[3]]
    assert await page(channel=VIP, from_ms=placed[3].created_at) == ids[3:]
    assert await page(to_ms=placed[1].created_at) == ids[:2]
    assert await page(batch_id="batch_1") == []
    assert await page(channel="gpt-image-2") == []
    with pytest.raises(InvalidValue):
        await page("job_of_nobody")
    nobody = await other.gateway.job_page(
        "cus_2", JobFilter(), after=None, newest_first=True, limit=3
    )
    assert nobody.jobs == ()
