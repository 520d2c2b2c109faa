"""Replicas on one database without a folder in common: leases, zombies, cut cables, late jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import picture
from gateway.replicas import Replica, silence, watch
from safelight import attempts, heartbeats, jobs, owners
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.processes import BEAT_S, LEASE_S
from safelight.gateway.reaping import GRACE_S, LOOK_S, ORPHAN_S
from safelight.types import JobState
from safelight.upstreams.spool import Spool

PLANNED_S = 300.0
"""The deadline of the channel that is ordered from."""
REFUSED = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.")
BROKEN = UpstreamError(FaultClass.FAST, "upstream_error", "Broken.")

ON_SQLITE = pytest.mark.parametrize("database_url", [""])
"""What has no SQL of its own is not tried on both databases."""


@pytest.fixture
async def two(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two replicas; at the end the books must be sound and nothing may be held or left."""
    one, other = (Replica(tmp_path, name, database_url) for name in ("one", "two"))
    await one.open()
    await other.open()
    yield one, other
    for replica in (one, other):
        replica.upstream.gate.set()
        if replica.gateway.accepting:
            await replica.close()
    third = Replica(tmp_path, "three", database_url)
    await third.open()
    assert await third.audit() == []
    assert (await third.balance()).held_micros == 0
    await third.close()


async def rows(replica: Replica) -> set[str]:
    return set(await replica.db.read(heartbeats.all_beats))


# --- death -----------------------------------------------------------------------------------


async def test_a_dead_replicas_job_is_taken_over_after_its_lease_and_not_before(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    await one.crash()
    assert await other.look() == 0
    await watch(LEASE_S - BEAT_S, other)
    assert await other.look() == 0
    await silence(other)
    assert await other.look() == 1
    (job,) = await other.gateway.wait(order)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 2)
    assert (await other.balance()).posted_micros == 970_000
    assert (await other.waste(), await other.unknown_waste()) == (0, 1)
    assert await other.look() == 0
    assert await rows(other) == {"two"}


@ON_SQLITE
async def test_a_replica_that_leaves_unfinished_jobs_needs_no_lease_to_end(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    await one.close(0)
    one.gateway.accepting = False
    assert await other.look() == 1
    (job,) = await other.gateway.wait(order)
    assert job.state is JobState.COMPLETED


@ON_SQLITE
async def test_a_retry_joins_the_order_of_a_dead_replica(two: tuple[Replica, Replica]) -> None:
    one, other = two
    order = await one.begun()
    await one.crash()
    await silence(other)
    again = await other.submit(retry_count=1)
    assert again.request_id == order.request_id
    await other.look()
    (job,) = await other.gateway.wait(again)
    assert job.state is JobState.COMPLETED


@ON_SQLITE
async def test_a_replica_restarted_on_the_dead_ones_folder_adopts_its_answer_at_once(
    two: tuple[Replica, Replica], tmp_path: Path, database_url: str
) -> None:
    one, _ = two
    order = await one.begun()
    await one.crash()
    with Spool(one.parts.spool.answer(order.jobs[0].id, 1, 1)) as spool:
        spool.write(picture("1024x1024", "png", 5))
        answer = spool.commit()
    again = Replica(tmp_path, "again", database_url, folder="one")
    await again.open()
    (job,) = await again.gateway.wait(order)
    assert job.image is not None
    assert job.image.blob.digest == answer.digest
    assert again.upstream.calls == []
    await again.close()


# --- zombies ---------------------------------------------------------------------------------


async def taken_from_a_paused_one(one: Replica, other: Replica) -> None:
    """`one` is paused for longer than its lease; `other` takes its job and is held too."""
    other.upstream.gate.clear()
    await silence(other)
    assert await other.look() == 1
    await other.upstream.called.wait()
    assert await rows(other) == {"two"}


async def test_a_zombies_late_picture_is_taken_and_the_second_one_changes_nothing(
    two: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two
    order = await one.begun()
    await taken_from_a_paused_one(one, other)
    one.upstream.gate.set()
    (job,) = await one.gateway.wait(order)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 2)
    assert (await one.balance()).posted_micros == 970_000
    other.upstream.gate.set()
    (again,) = await other.gateway.wait(order)
    assert again.image == job.image
    assert (await one.balance()).posted_micros == 970_000
    assert await one.waste() == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_zombies_late_failure_is_not_taken_and_its_caller_gets_the_picture(
    two: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two
    one.upstream.steps = [REFUSED]
    order = await one.begun()
    waiting = asyncio.create_task(one.gateway.wait(order))
    await taken_from_a_paused_one(one, other)
    one.upstream.gate.set()
    while one.gateway.running:
        await one.beat()
    assert not waiting.done()
    assert await rows(other) == {"one", "two"}
    other.upstream.gate.set()
    (job,) = await waiting
    assert (job.state, job.epoch) == (JobState.COMPLETED, 2)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@ON_SQLITE
async def test_a_zombie_buys_nothing_more_for_a_job_it_lost(two: tuple[Replica, Replica]) -> None:
    one, other = two
    one.upstream.steps = [BROKEN]
    order = await one.begun()
    await taken_from_a_paused_one(one, other)
    one.upstream.gate.set()
    while one.gateway.running:
        await one.beat()
    assert len(one.upstream.calls) == 1
    other.upstream.gate.set()
    (job,) = await other.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert len(other.upstream.calls) == 1


@ON_SQLITE
async def test_what_a_zombie_journals_leaves_its_successors_rows_alone(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    one.upstream.steps = [BROKEN]
    order = await one.begun()
    await taken_from_a_paused_one(one, other)
    one.upstream.gate.set()
    while one.gateway.running:
        await one.beat()
    made = await other.db.read(
        lambda tx: tx.all("SELECT epoch, outcome, sold FROM attempt ORDER BY epoch")
    )
    # Its own attempt was lost when it was taken for dead; now it is known how it ended.
    assert [(row["epoch"], row["outcome"], row["sold"]) for row in made] == [
        (1, "fast", 0),
        (2, None, 0),
    ]
    job = await other.gateway.job("cus_1", order.jobs[0].id)
    assert (job.state, job.stage) == (JobState.IN_PROGRESS, "sent")
    other.upstream.gate.set()
    await other.gateway.wait(order)


# --- without the database --------------------------------------------------------------------


@ON_SQLITE
async def test_a_replica_cut_off_keeps_its_picture_and_settles_when_the_database_is_back(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    one.cable.out = True
    one.upstream.gate.set()
    await one.cable.refused.wait()
    await watch(30, other)
    one.cable.out = False
    (job,) = await one.gateway.wait(order)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 1)
    assert len(one.upstream.calls) == 1
    assert other.upstream.calls == []


async def test_of_a_replica_cut_off_and_its_successor_the_first_picture_is_charged(
    two: tuple[Replica, Replica], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two
    order = await one.begun()
    one.cable.out = True
    one.upstream.gate.set()
    await one.cable.refused.wait()
    await silence(other)
    assert await other.look() == 1
    (job,) = await other.gateway.wait(order)
    one.cable.out = False
    (late,) = await one.gateway.wait(order)
    assert late.image == job.image
    assert (await one.balance()).posted_micros == 970_000
    assert await one.waste() == 1
    errors = {record.getMessage() for record in caplog.records if record.levelno > logging.WARNING}
    assert errors <= {"write refused"}


# --- deadlines -------------------------------------------------------------------------------


async def test_a_job_that_hangs_in_a_living_replica_is_released_after_its_deadline_and_grace(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    waiting = asyncio.create_task(one.gateway.wait(order))
    await watch(PLANNED_S + GRACE_S - LOOK_S, one, other, reap=True)
    assert (await other.balance()).held_micros == 30_000
    await watch(4 * LOOK_S, one, other, reap=True)
    assert (await other.balance()).held_micros == 0
    # Who hangs is told, and so is its caller.
    (job,) = await waiting
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (503, "deadline_exceeded")
    assert one.gateway.running == 0
    (line,) = [line for line in await other.statement() if line.kind == "release"]
    assert line.reason == "deadline_exceeded"
    assert (await other.gateway.job("cus_1", order.jobs[0].id)).epoch == 2


@ON_SQLITE
async def test_a_replica_that_hangs_as_a_whole_has_its_late_jobs_ended_by_another(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    for _ in range(80):
        other.clock.advance(LOOK_S)
        for replica in two:  # it still beats, but looks after nothing
            await replica.beat()
        await other.reaper.look()
    job = await other.gateway.job("cus_1", order.jobs[0].id)
    assert job.state is JobState.FAILED
    # Its picture comes after all: too late, and waste.
    one.upstream.gate.set()
    (ended,) = await one.gateway.wait(order)
    assert ended.state is JobState.FAILED
    assert (await other.balance()).posted_micros == 1_000_000
    assert await other.waste() == 1


@ON_SQLITE
@pytest.mark.parametrize("jump_s", [-7200, 7200])
async def test_a_clock_that_jumps_neither_ends_a_running_job_nor_lets_its_hold_live_on(
    two: tuple[Replica, Replica], jump_s: float
) -> None:
    one, other = two
    await one.begun()
    await watch(20, one, other, reap=True)
    for replica in two:
        replica.clock.jump(jump_s)
    await watch(PLANNED_S - 30, one, other, reap=True)
    assert (await other.balance()).held_micros == 30_000
    await watch(GRACE_S + 30 + 2 * LOOK_S, one, other, reap=True)
    assert (await other.balance()).held_micros == 0


@ON_SQLITE
async def test_time_in_which_nobody_watched_does_not_end_a_job(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    await watch(20, one, other, reap=True)
    for replica in two:
        replica.clock.advance(3600)
    await watch(20, one, other, reap=True)
    one.upstream.gate.set()
    (job,) = await one.gateway.wait(order)
    assert job.state is JobState.COMPLETED


@ON_SQLITE
async def test_a_dead_replicas_job_past_its_deadline_is_released_whatever_is_in_flight(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    await one.crash()
    await silence(other)
    other.clock.advance(PLANNED_S + GRACE_S)
    await other.beat()
    await silence(other)
    await other.reaper.look()
    job = await other.gateway.job("cus_1", order.jobs[0].id)
    assert job.failure is not None
    assert job.failure.code == "deadline_exceeded"
    assert other.upstream.calls == []


@ON_SQLITE
async def test_a_draining_replica_begins_nothing(two: tuple[Replica, Replica]) -> None:
    one, other = two
    order = await one.begun()
    await one.crash()
    await silence(other)
    other.gateway.accepting = False
    other.clock.advance(PLANNED_S + GRACE_S)
    await other.reaper.look()
    assert (await other.gateway.job("cus_1", order.jobs[0].id)).state is JobState.IN_PROGRESS
    other.gateway.accepting = True
    await other.look()
    await other.gateway.wait(order)


# --- what is ours and does not run -----------------------------------------------------------


async def orphaned(one: Replica, other: Replica) -> str:
    """A takeover by `other` was written, and the answer to its commit was lost."""
    order = await one.begun()
    await one.crash()
    (job,) = order.jobs
    assert await other.db.write(lambda tx: jobs.take_over(tx, job, dead="one", owner="two"))
    return job.id


async def test_a_job_of_this_replica_that_does_not_run_here_is_taken_up(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    job_id = await orphaned(one, other)
    await watch(ORPHAN_S, other, reap=True)
    assert other.gateway.running == 0  # its acceptance might be about to start it
    await watch(LOOK_S, other, reap=True)
    while other.gateway.running:
        await other.beat()
    job = await other.gateway.job("cus_1", job_id)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 3)
    assert len(other.upstream.calls) == 1


@ON_SQLITE
async def test_an_answer_of_ours_is_adopted_with_the_job_that_does_not_run(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    job_id = await orphaned(one, other)
    taken = await other.gateway.job("cus_1", job_id)
    assert await other.db.write(lambda tx: attempts.begin(tx, taken, k=2, account="a", group="a"))
    with Spool(other.parts.spool.answer(job_id, 2, 2)) as spool:
        spool.write(picture("1024x1024", "png", 5))
        answer = spool.commit()
    await watch(ORPHAN_S + LOOK_S, other, reap=True)
    while other.gateway.running:
        await other.beat()
    job = await other.gateway.job("cus_1", job_id)
    assert job.image is not None
    assert job.image.blob.digest == answer.digest
    assert other.upstream.calls == []


@ON_SQLITE
async def test_a_job_that_runs_here_is_never_taken_up_twice(two: tuple[Replica, Replica]) -> None:
    one, other = two
    order = await one.begun()
    await watch(100, one, other, reap=True)
    assert (len(one.upstream.calls), len(other.upstream.calls)) == (1, 0)
    (open_job,) = await one.db.read(owners.open_jobs)
    assert (open_job.owner, open_job.epoch) == ("one", 1)
    one.upstream.gate.set()
    await one.gateway.wait(order)


@ON_SQLITE
async def test_a_run_whose_job_ended_elsewhere_is_stopped_and_its_caller_told(
    two: tuple[Replica, Replica],
) -> None:
    one, other = two
    order = await one.begun()
    await taken_from_a_paused_one(one, other)
    waiting = asyncio.create_task(one.gateway.wait(order))
    other.upstream.gate.set()
    await other.gateway.wait(order)
    await watch(3 * LOOK_S, one, other, reap=True)
    (job,) = await waiting
    assert job.state is JobState.COMPLETED
    while one.gateway.running:
        await one.beat()
    made = await one.db.read(lambda tx: tx.all("SELECT outcome FROM attempt ORDER BY epoch"))
    assert [row["outcome"] for row in made] == ["superseded", "ok"]
