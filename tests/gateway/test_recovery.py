"""A process ends anywhere; the next one finishes or releases every job and buys nothing twice."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.house import House, picture
from safelight import jobs
from safelight.clock import Clock, ManualClock
from safelight.gateway.failures import out_of_time
from safelight.gateway.orders import Order
from safelight.types import JobState
from safelight.upstreams.spool import Spool


async def interrupted(folder: Path, clock: Clock | None = None) -> tuple[House, Order]:
    """A process dies while the upstream is at work on its order."""
    house = await House(folder, owner="one", clock=clock).open()
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    await house.kill()
    return house, order


async def test_a_job_whose_call_was_under_way_is_run_again_and_the_loss_is_waste(
    tmp_path: Path,
) -> None:
    _, order = await interrupted(tmp_path)
    second = await House(tmp_path, owner="two").open()
    (job,) = await second.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert (job.epoch, job.attempts) == (2, 2)
    assert (await second.balance()).posted_micros == 970_000
    assert (await second.waste(), await second.unknown_waste()) == (0, 1)
    assert await second.audit() == []
    await second.close()


async def test_a_complete_answer_in_the_spool_is_adopted_not_bought_again(
    tmp_path: Path,
) -> None:
    first, order = await interrupted(tmp_path)
    # The kill came after the rename and before the journal.
    with Spool(first.parts.spool.answer(order.jobs[0].id, 1, 1)) as spool:
        spool.write(picture("1024x1024", "png", 5))
        answer = spool.commit()
    second = await House(tmp_path, owner="two").open()
    (job,) = await second.gateway.wait(order)
    assert job.image is not None
    assert job.image.blob.digest == answer.digest
    assert second.upstream.calls == []
    assert await second.waste() == 0
    assert await second.audit() == []
    await second.close()
    assert list((tmp_path / "spool").iterdir()) == []


async def test_an_unfinished_spool_file_is_swept_and_the_job_runs_again(tmp_path: Path) -> None:
    first, order = await interrupted(tmp_path)
    answer = first.parts.spool.answer(order.jobs[0].id, 1, 1)
    answer.with_name(answer.name + ".part").write_bytes(picture("1024x1024", "png", 5)[:-20])
    second = await House(tmp_path, owner="two").open()
    (job,) = await second.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert len(second.upstream.calls) == 1
    await second.close()


async def test_a_damaged_answer_in_the_spool_is_waste_and_the_job_runs_again(
    tmp_path: Path,
) -> None:
    first, order = await interrupted(tmp_path)
    answer = first.parts.spool.answer(order.jobs[0].id, 1, 1)
    answer.write_bytes(picture("1024x1024", "png", 5)[:-20])
    second = await House(tmp_path, owner="two").open()
    (job,) = await second.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert await second.waste() == 1
    assert await second.audit() == []
    await second.close()


async def test_a_job_past_its_deadline_is_released(tmp_path: Path) -> None:
    clock = ManualClock()
    _, order = await interrupted(tmp_path, clock)
    clock.advance(3600)
    second = await House(tmp_path, owner="two", clock=clock).open()
    (job,) = await second.gateway.wait(order)
    assert job.failure is not None
    assert job.failure.code == "deadline_exceeded"
    assert second.upstream.calls == []
    balance = await second.balance()
    assert (balance.posted_micros, balance.held_micros) == (1_000_000, 0)
    assert await second.audit() == []
    await second.close()


async def test_a_zombies_late_failure_changes_nothing_but_its_late_success_is_taken(
    tmp_path: Path,
) -> None:
    first = await House(tmp_path, owner="one").open()
    first.upstream.gate.clear()
    order = await first.submit()
    await first.upstream.called.wait()
    stale = await first.gateway.job("cus_1", order.jobs[0].id)
    assert await first.db.write(lambda tx: jobs.take_over(tx, stale, dead="one", owner="two"))
    failure = await _late_failure(first, stale.id)
    assert failure is False
    first.upstream.gate.set()
    (job,) = await first.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert await first.audit() == []
    await first.close()


async def _late_failure(house: House, job_id: str) -> bool:
    job = await house.gateway.job("cus_1", job_id)
    stale = msgspec.structs.replace(job, epoch=job.epoch - 1)
    return await house.db.write(
        lambda tx: jobs.fail(tx, stale, out_of_time(), cancelled=out_of_time())
    )


async def test_after_a_restart_the_sdk_retry_joins_the_order_that_went_on(tmp_path: Path) -> None:
    _, order = await interrupted(tmp_path)
    second = await House(tmp_path, owner="two").open()
    again = await second.submit(retry_count=1)
    assert again.request_id == order.request_id
    await second.gateway.wait(again)
    assert (await second.balance()).posted_micros == 970_000
    await second.close()


async def test_a_job_whose_channel_was_removed_is_released_not_stuck(tmp_path: Path) -> None:
    _, order = await interrupted(tmp_path)
    second = House(tmp_path, owner="two")
    second.parts.channels._channels = {}  # the operator's new file has no channels
    await second.open()
    (job,) = await second.gateway.wait(order)
    assert job.failure is not None
    assert job.failure.code == "model_unavailable"
    assert (await second.balance()).held_micros == 0
    assert await second.audit() == []
    await second.close()


async def test_a_clock_set_back_does_not_give_a_job_more_time_than_it_had(tmp_path: Path) -> None:
    clock = ManualClock()
    _, order = await interrupted(tmp_path, clock)
    clock._ms -= 24 * 3600 * 1000
    second = await House(tmp_path, owner="two", clock=clock).open()
    second.upstream.gate.clear()
    await second.upstream.called.wait()
    assert second.upstream.deadlines[-1] <= clock.monotonic() + 300
    second.upstream.gate.set()
    await second.gateway.wait(order)
    await second.close()
