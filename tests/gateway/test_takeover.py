"""Several processes serve one data folder: one order stays one image and one charge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House, picture
from safelight import attempts, jobs
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.errors import DeadlineExceeded, ShuttingDown
from safelight.gateway.orders import JobEnded, Order
from safelight.storage import Proof
from safelight.storage.disk import DiskStore
from safelight.types import JobState, Received
from safelight.upstreams.spool import Spool


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    """Two processes on one folder; at the end the books must be sound and nothing may be left."""
    one = await House(tmp_path, owner="one").open()
    other = await House(tmp_path, owner="two").open()
    yield one, other
    for house in (one, other):
        house.upstream.gate.set()
        if house.gateway.accepting:
            await house.close()
    third = await House(tmp_path, owner="three").open()
    await third.gateway.drain(5)
    assert await third.audit() == []
    await third.close()
    assert list((tmp_path / "spool").rglob("*")) == []
    assert list((tmp_path / "processes").iterdir()) == []


async def begun(house: House, **more: object) -> Order:
    """Order one picture and return when its call is under way, held at the upstream."""
    house.upstream.gate.clear()
    house.upstream.called.clear()
    order = await house.submit(**more)  # type: ignore[arg-type]
    await house.upstream.called.wait()
    return order


async def killed(house: House) -> None:
    house.gateway.accepting = False
    await house.kill()


def left_answer(house: House, order: Order, seed: int = 5) -> Received:
    """Put a complete answer where the first attempt of an order would."""
    with Spool(house.parts.spool.answer(order.jobs[0].id, 1, 1)) as spool:
        spool.write(picture("1024x1024", "png", seed))
        return spool.commit()


async def test_a_living_process_takes_a_dead_ones_job_over(two: tuple[House, House]) -> None:
    one, other = two
    order = await begun(one)
    await killed(one)
    assert await other.look() == 1
    (job,) = await other.gateway.wait(order)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 2)
    assert (await other.balance()).posted_micros == 970_000
    assert (await other.waste(), await other.unknown_waste()) == (0, 1)
    assert await other.look() == 0


async def test_the_jobs_of_a_living_process_are_left_alone(two: tuple[House, House]) -> None:
    one, other = two
    order = await begun(one)
    assert await other.look() == 0
    one.upstream.gate.set()
    (job,) = await one.gateway.wait(order)
    assert job.epoch == 1
    assert other.upstream.calls == []


async def test_one_of_two_survivors_gets_a_dead_ones_job(
    two: tuple[House, House], tmp_path: Path
) -> None:
    one, other = two
    third = await House(tmp_path, owner="third").open()
    orders = [await begun(one) for _ in range(5)]
    await killed(one)
    taken = await asyncio.gather(other.look(), third.look())
    assert sum(taken) == 5
    for order in orders:
        (job,) = await third.gateway.wait(order)
        assert (job.state, job.epoch) == (JobState.COMPLETED, 2)
    assert len(other.upstream.calls) + len(third.upstream.calls) == 5
    assert (await third.balance()).posted_micros == 1_000_000 - 5 * 30_000
    await third.close()


async def test_a_job_read_before_another_took_it_is_not_taken_again(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    stale = await one.gateway.job("cus_1", order.jobs[0].id)
    assert await other.db.write(lambda tx: jobs.take_over(tx, stale, dead="one", owner="x"))
    assert not await other.db.write(lambda tx: jobs.take_over(tx, stale, dead="one", owner="y"))
    assert not await other.db.write(lambda tx: jobs.take_over(tx, stale, dead="x", owner="y"))


async def test_a_dead_ones_complete_answer_is_adopted_by_a_living_process(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    await killed(one)
    answer = left_answer(one, order)
    await other.look()
    (job,) = await other.gateway.wait(order)
    assert job.image is not None
    assert job.image.blob.digest == answer.digest
    assert other.upstream.calls == []
    assert await other.unknown_waste() == 0


async def test_an_answer_adopted_by_a_process_that_dies_too_is_adopted_again(
    two: tuple[House, House], tmp_path: Path
) -> None:
    one, other = two
    order = await begun(one)
    await killed(one)
    answer = left_answer(one, order)
    job = order.jobs[0]
    # The second process dies between its takeover and its end.
    assert await other.db.write(lambda tx: jobs.take_over(tx, job, dead="one", owner="two"))
    await killed(other)
    third = await House(tmp_path, owner="third").open()
    (done,) = await third.gateway.wait(order)
    assert done.image is not None
    assert done.image.blob.digest == answer.digest
    assert done.epoch == 3
    assert third.upstream.calls == []
    await third.close()


async def test_an_answer_of_a_version_without_process_folders_is_adopted(
    two: tuple[House, House], tmp_path: Path
) -> None:
    one, other = two
    order = await begun(one)
    await killed(one)
    answer = left_answer(one, order)
    answer.path.rename(tmp_path / "spool" / answer.path.name)
    await other.look()
    await other.gateway.wait(order)
    assert other.upstream.calls == []


async def test_sweeping_touches_no_file_of_a_living_process(two: tuple[House, House]) -> None:
    one, other = two
    order = await begun(one)
    name = one.parts.spool.answer(order.jobs[0].id, 1, 1)
    arriving = name.with_name(name.name + ".part")
    ended = name.with_name("job_ended.1.1.partial0")
    for path in (arriving, ended):
        path.write_bytes(b"x")
    (gone := name.parent.parent / "dead").mkdir()
    (gone / "job_ended.1.1").write_bytes(b"x")
    await other.look()
    assert arriving.exists()
    assert ended.exists()
    assert not gone.exists()
    arriving.unlink()
    ended.unlink()


# --- retries that come to another process ----------------------------------------------------


async def test_an_sdk_retry_sent_to_another_process_joins_and_waits_there(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    async with one.gateway.attached(order):
        pass
    again = await other.submit(retry_count=1)
    assert (again.joined, again.request_id) == (True, order.request_id)
    waiting = asyncio.create_task(other.gateway.wait(again))
    one.upstream.gate.set()
    (job,) = await waiting
    assert job.state is JobState.COMPLETED
    assert other.upstream.calls == []
    assert (await other.balance()).posted_micros == 970_000


async def test_a_disconnect_that_another_process_sees_during_the_grace_is_joined(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    retry = asyncio.create_task(other.submit(retry_count=1))
    await asyncio.sleep(0)
    await other.db.write(lambda tx: tx.now_ms)
    assert not retry.done()
    async with one.gateway.attached(order):
        pass
    assert (await retry).request_id == order.request_id


async def test_a_retry_joins_the_order_of_a_dead_process_before_anybody_took_it_over(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    await killed(one)
    again = await other.submit(retry_count=1)
    assert again.request_id == order.request_id
    waiting = asyncio.create_task(other.gateway.wait(again))
    await asyncio.sleep(0)
    assert await other.look() == 1
    (job,) = await waiting
    assert job.state is JobState.COMPLETED
    assert (await other.balance()).posted_micros == 970_000


async def test_taking_over_leaves_the_retry_that_has_joined_already_attached(
    two: tuple[House, House],
) -> None:
    one, other = two
    await begun(one)
    await killed(one)
    await other.submit(retry_count=1)
    other.upstream.gate.clear()
    await other.look()
    # Its caller waits at the living process: a stranger's retry may not have it.
    stranger = await other.submit(retry_count=1)
    assert not stranger.joined


async def test_a_caller_attached_to_another_living_process_keeps_its_order(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    stranger = await other.submit(retry_count=1)
    assert stranger.request_id != order.request_id


async def test_one_idempotency_key_at_two_processes_at_once_is_one_order(
    two: tuple[House, House],
) -> None:
    one, other = two
    orders = await asyncio.gather(
        *(house.submit(key="k-1") for house in (one, other) for _ in range(5))
    )
    assert len({order.request_id for order in orders}) == 1
    assert sum(not order.joined for order in orders) == 1
    for house, order in zip((one,) * 5 + (other,) * 5, orders, strict=True):
        (job,) = await house.gateway.wait(order)
        assert job.state is JobState.COMPLETED
    assert len(one.upstream.calls) + len(other.upstream.calls) == 1


# --- waiting for what runs elsewhere ---------------------------------------------------------


async def test_the_events_of_a_job_that_runs_elsewhere_are_its_end(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one, stream=True, partial_images=2)
    events = other.gateway.events(order)
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    one.upstream.gate.set()
    event = await first
    assert isinstance(event, JobEnded)
    assert event.job.state is JobState.COMPLETED
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_many_callers_wait_for_one_job_elsewhere(two: tuple[House, House]) -> None:
    one, other = two
    order = await begun(one)
    waiting = [asyncio.create_task(other.gateway.wait(order)) for _ in range(20)]
    await asyncio.sleep(0)
    one.upstream.gate.set()
    assert {job.id for (job,) in await asyncio.gather(*waiting)} == {order.jobs[0].id}


async def test_a_caller_of_a_job_elsewhere_may_stop_waiting_and_come_again(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    with pytest.raises(DeadlineExceeded):
        await other.gateway.wait(order, timeout_s=0.01)
    one.upstream.gate.set()
    (job,) = await other.gateway.wait(order)
    assert job.state is JobState.COMPLETED


async def test_a_process_that_leaves_sends_those_who_wait_for_another_ones_job_there(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    waiting = asyncio.create_task(other.gateway.wait(order))
    while other.gateway._watch.followed == ():
        await other.db.read(lambda tx: tx.now_ms)
    await other.close()
    with pytest.raises(ShuttingDown):
        await waiting
    other.gateway.accepting = False


async def test_a_process_that_leaves_unfinished_jobs_counts_as_dead(
    two: tuple[House, House],
) -> None:
    one, other = two
    order = await begun(one)
    await one.close(0)
    one.gateway.accepting = False
    assert await other.look() == 1
    (job,) = await other.gateway.wait(order)
    assert job.state is JobState.COMPLETED


async def test_an_attempt_left_open_by_a_job_that_ended_is_unknown_waste_and_is_closed(
    tmp_path: Path,
) -> None:
    """Its process died between the settle and the journal of a second attempt's end."""
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    (job,) = await house.buy("a lamp")

    def leave_open(tx: Transaction) -> None:
        tx.execute(
            "INSERT INTO attempt (job_id, epoch, k, account, limiter_group, sent_at) "
            "VALUES (:job, 1, 2, 'second', 'second', :now)",
            {"job": job.id, "now": tx.now_ms},
        )

    await house.db.write(leave_open)
    assert (await house.waste(), await house.unknown_waste()) == (0, 1)
    await house.reaper.look()
    assert await outcome_of(house, job.id, k=2) is None  # its process may be closing it just now
    clock.advance(60)
    await house.reaper.look()
    assert await outcome_of(house, job.id, k=2) == "lost"
    assert await outcome_of(house, job.id, k=1) == "ok"
    assert (await house.waste(), await house.unknown_waste()) == (0, 1)
    await house.close()


async def outcome_of(house: House, job_id: str, *, k: int) -> str | None:
    made = await house.db.read(lambda tx: attempts.of_jobs(tx, [job_id]))
    return next(one.outcome for one in made[job_id] if one.k == k)


class HeldStore(DiskStore):
    """A store that keeps nothing before it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        self.asked.set()
        await self.let.wait()
        await super().put(source, digest, given=given, proof=proof)


async def test_who_comes_back_after_a_takeover_and_finds_his_answer_gone_leaves_quietly(
    two: tuple[House, House], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever ended the job removed what was bought for it; that is no fault of this process."""
    store = HeldStore(tmp_path / "blobs")
    late = await House(tmp_path, owner="late", store=store).open()
    order = await late.submit()
    await store.asked.wait()
    (job,) = order.jobs
    assert await two[0].db.write(lambda tx: jobs.take_over(tx, job, dead="late", owner="one"))
    late.parts.spool.answer(job.id, 1, 1).unlink()
    with caplog.at_level(logging.INFO, "safelight.gateway"):
        store.let.set()
        await late.gateway.drain(5)
    said = [record.getMessage() for record in caplog.records]
    assert "job is no longer ours" in said
    assert "job failed inside the gateway" not in said
    await late.close()
    await killed(two[0])
    await two[1].look()
    (done,) = await two[1].gateway.wait(order)
    assert done.state is JobState.COMPLETED
