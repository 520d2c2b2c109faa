"""Orders end once: charged with a picture, free without, whatever the upstream does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.house import VIP, House, account
from safelight.api.problems import error_headers
from safelight.clock import ManualClock
from safelight.errors import (
    FaultClass,
    InsufficientBalance,
    Unavailable,
    UnsupportedParameter,
    UpstreamError,
)
from safelight.gateway.orders import JobEnded, PartialImage
from safelight.images import probe
from safelight.types import JobState, PlanMethod, Stage, StatementLine

PRICE = 30_000


def fault(kind: FaultClass, code: str = "x", **more: object) -> UpstreamError:
    return UpstreamError(kind, code, "It failed.", **more)  # type: ignore[arg-type]


async def test_a_good_answer_is_charged_once_and_kept(house: House) -> None:
    (job,) = await house.buy()
    assert (job.state, job.stage) == (JobState.COMPLETED, Stage.SETTLED)
    assert job.image is not None
    assert (job.image.blob.width, job.image.blob.height) == (1024, 1024)
    assert await house.store.exists(job.image.blob.digest)
    balance = await house.balance()
    assert (balance.posted_micros, balance.held_micros) == (1_000_000 - PRICE, 0)
    line = (await house.statement())[-1]
    assert (line.kind, line.amount_micros, line.job_id) == ("settle", -PRICE, job.id)
    assert line.image_sha256 == job.image.blob.digest
    assert line.balance_micros == 970_000


@pytest.mark.parametrize(
    ("size", "method"),
    [("1820x1024", PlanMethod.CROP), ("2880x3840", PlanMethod.RESAMPLE)],
)
async def test_sizes_the_vendor_cannot_make_are_delivered_exactly(
    house: House, size: str, method: PlanMethod
) -> None:
    (job,) = await house.buy(size=size)
    assert job.size_plan.method is method
    assert job.image is not None
    path = await house.store.local_path(job.image.blob.digest)
    found = probe(path)
    assert f"{found.width}x{found.height}" == size


@pytest.mark.parametrize(
    "step",
    [
        fault(FaultClass.FAST, status=500),
        fault(FaultClass.SLOW, sold=True),
        fault(FaultClass.LOCAL),
        fault(FaultClass.THROTTLED, retry_after_s=30),
        fault(FaultClass.AUTH),
        fault(FaultClass.QUOTA),
        fault(FaultClass.CAPABILITY),
        fault(FaultClass.BAD_OUTPUT),
        "512x512",
    ],
    ids=str,
)
async def test_a_fault_that_another_account_absorbs_is_not_seen(
    house: House, step: UpstreamError | str
) -> None:
    house.upstream.steps = [step]
    (job,) = await house.buy()
    assert job.state is JobState.COMPLETED
    assert job.attempts == 2
    first, second = (name for name, _ in house.upstream.calls)
    assert first != second
    assert (await house.balance()).posted_micros == 1_000_000 - PRICE
    assert house.upstream.sold == 1 + await house.waste()


async def test_wrong_sizes_again_and_again_are_a_failure_never_a_silent_resize(
    house: House,
) -> None:
    house.upstream.steps = ["1024x1536", "1536x1024", "1024x1536", "1536x1024"]
    (job,) = await house.buy()
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (503, "upstream_wrong_size")
    assert not job.failure.should_retry
    assert len(house.upstream.calls) == 4
    assert (await house.balance()).posted_micros == 1_000_000
    line = (await house.statement())[-1]
    assert (line.kind, line.amount_micros, line.reason) == ("release", 0, "upstream_wrong_size")
    assert house.upstream.sold == await house.waste() == 4


async def test_another_format_than_asked_is_remade_here(house: House) -> None:
    house.upstream.steps = ["png"]
    (job,) = await house.buy(output_format="webp")
    assert job.image is not None
    assert job.image.blob.format == "webp"
    assert job.attempts == 1


async def test_a_refusal_is_free_and_not_repeated(house: House) -> None:
    details: dict[str, object] = {"moderation_stage": "input", "categories": ["violence"]}
    house.upstream.steps = [
        fault(
            FaultClass.CLIENT,
            "moderation_blocked",
            final_status=400,
            moderation_details=details,
        )
    ]
    (job,) = await house.buy()
    assert job.failure is not None
    failure = job.failure
    assert (failure.status, failure.code, failure.should_retry) == (
        400,
        "moderation_blocked",
        False,
    )
    assert failure.moderation_details == details
    assert len(house.upstream.calls) == 1
    assert (await house.balance()).posted_micros == 1_000_000


async def test_the_upstreams_401_is_never_the_callers(tmp_path: Path) -> None:
    house = await House(tmp_path, accounts=(account("a"),)).open()
    house.upstream.steps = [fault(FaultClass.AUTH, status=401)]
    (job,) = await house.buy()
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (503, "pool_exhausted")
    await house.close()


async def test_a_direct_channel_passes_429_and_its_wait_through(house: House) -> None:
    house.upstream.steps = [fault(FaultClass.THROTTLED, retry_after_s=17)]
    (job,) = await house.buy(channel="gpt-image-2", quality="low")
    assert job.failure is not None
    failure = job.failure
    assert (failure.status, failure.retry_after_s, failure.should_retry) == (429, 17, True)
    assert len(house.upstream.calls) == 1


async def test_attempts_end_at_the_channels_maximum(tmp_path: Path) -> None:
    accounts = tuple(account(f"a{i}") for i in range(12))
    house = await House(tmp_path, accounts=accounts).open()
    house.upstream.steps = [fault(FaultClass.SLOW, final_status=503) for _ in range(20)]
    (job,) = await house.buy()
    assert job.attempts == len(house.upstream.calls) == 10
    assert len({name for name, _ in house.upstream.calls}) == 10
    assert job.failure is not None
    assert job.failure.status == 503
    await house.close()


async def test_a_wait_that_does_not_fit_is_answered_at_once_with_its_length(
    tmp_path: Path,
) -> None:
    house = await House(tmp_path, accounts=(account("a"),)).open()
    house.upstream.steps = [fault(FaultClass.THROTTLED, retry_after_s=500)]
    (job,) = await house.buy()
    assert job.failure is not None
    assert job.failure.status == 429
    assert 200 <= (job.failure.retry_after_s or 0) <= 310  # of the 500, 300 fit
    assert (b"retry-after", b"60") in error_headers(job.failure)
    await house.close()


async def test_no_balance_writes_nothing(tmp_path: Path) -> None:
    house = await House(tmp_path).open(credit=PRICE - 1)
    with pytest.raises(InsufficientBalance):
        await house.submit()
    assert await house.db.read(lambda tx: tx.all("SELECT 1 FROM request")) == []
    assert house.upstream.calls == []
    await house.close()


async def test_n_images_are_n_jobs_each_with_its_own_hold(house: House) -> None:
    house.upstream.steps = [
        fault(FaultClass.CLIENT, "moderation_blocked", final_status=400),
        None,
        None,
    ]
    done = await house.buy(channel="gpt-image-2-all", n=3)
    assert sorted(job.state for job in done) == ["completed", "completed", "failed"]
    assert len({job.request_id for job in done}) == 1
    assert (await house.balance()).posted_micros == 1_000_000 - 2 * PRICE


async def test_a_balance_for_two_accepts_no_order_of_three(tmp_path: Path) -> None:
    house = await House(tmp_path).open(credit=2 * PRICE)
    with pytest.raises(InsufficientBalance):
        await house.submit(channel="gpt-image-2-all", n=3)
    assert (await house.balance()).held_micros == 0
    await house.close()


async def test_fifty_orders_with_money_for_ten_buy_exactly_ten(tmp_path: Path) -> None:
    house = await House(tmp_path).open(credit=10 * PRICE)
    results = await asyncio.gather(
        *(house.buy(f"lamp {i}") for i in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, tuple) for result in results) == 10
    assert sum(isinstance(result, InsufficientBalance) for result in results) == 40
    assert (await house.balance()).posted_micros == 0
    assert house.upstream.sold == 10
    assert await house.audit() == []
    await house.close()


async def test_the_channel_refuses_before_anything_is_written(house: House) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        await house.submit(quality="high")
    assert refused.value.param == "quality"
    assert await house.db.read(lambda tx: tx.all("SELECT 1 FROM request")) == []


async def test_partial_images_reach_a_watcher_before_the_end(house: House) -> None:
    order = await house.submit(partial_images=2, stream=True)
    seen = [event async for event in house.gateway.events(order)]
    assert [type(event) for event in seen] == [PartialImage, PartialImage, JobEnded]
    assert isinstance(seen[-1], JobEnded)
    assert seen[-1].job.state is JobState.COMPLETED
    assert list((house.parts.spool._root).iterdir()) == []


async def test_a_draining_gateway_takes_nothing_new_and_finishes_what_it_has(
    house: House,
) -> None:
    house.upstream.gate.clear()
    order = await house.submit()
    drained = asyncio.create_task(house.gateway.drain(5))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await house.submit()
    assert refused.value.code == "shutting_down"
    house.upstream.gate.set()
    assert await drained == 0
    (job,) = await house.gateway.wait(order)
    assert job.state is JobState.COMPLETED


async def test_a_full_disk_is_refused_before_money_is_held(tmp_path: Path) -> None:
    house = await House(tmp_path).open()
    house.gateway._acceptance._min_free_bytes = 2**62
    with pytest.raises(Unavailable) as refused:
        await house.submit()
    assert refused.value.code == "storage_full"
    assert (await house.balance()).held_micros == 0
    await house.close()


async def test_a_job_whose_turn_never_comes_ends_at_its_deadline(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock, accounts=(account("a", max_in_flight=1),)).open()
    house.upstream.gate.clear()
    first = await house.submit("first")
    second = await house.submit("second")
    await house.upstream.called.wait()
    clock.advance(301)
    house.upstream.gate.set()
    (one,) = await house.gateway.wait(first)
    (two,) = await house.gateway.wait(second)
    assert one.state is JobState.COMPLETED
    assert two.failure is not None
    assert two.failure.code == "deadline_exceeded"
    assert (await house.balance()).held_micros == 0
    await house.close()


async def test_the_size_of_an_aggregated_channel_is_a_hint_in_the_prompt(house: House) -> None:
    (job,) = await house.buy(channel="gpt-image-2-all", size="1536x1024")
    _, call = house.upstream.calls[0]
    assert call.size == "auto"
    assert call.prompt.startswith("a lamp")
    assert "1536x1024" in call.prompt
    assert job.size_plan.method is PlanMethod.HINT
    assert job.image is not None
    assert (job.image.blob.width, job.image.blob.height) == (1024, 1024)


async def test_statement_pages_follow_the_cursor(house: House) -> None:
    for i in range(3):
        await house.buy(f"lamp {i}", channel=VIP)
    seen: list[StatementLine] = []
    after = None
    while True:
        page = await house.gateway.statement("cus_1", after=after, limit=2, from_s=None, to_s=None)
        seen += page.lines
        if not page.has_more:
            break
        after = page.lines[-1].id
    assert [line.id for line in seen] == [line.id for line in await house.statement()]
    assert sum(line.amount_micros for line in seen) == (await house.balance()).posted_micros


async def test_our_own_full_disk_is_not_bought_again(house: House) -> None:
    house.upstream.steps = [
        fault(FaultClass.LOCAL, "storage_failed", sold=True, final_status=503),
    ]
    (job,) = await house.buy()
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (503, "storage_full")
    assert len(house.upstream.calls) == 1
    assert await house.waste() == 1


async def test_a_call_that_left_and_was_not_answered_is_reported_as_unknown(house: House) -> None:
    house.upstream.steps = [fault(FaultClass.SLOW, "upstream_timeout", sold=None)]
    await house.buy()
    assert (await house.waste(), await house.unknown_waste()) == (0, 1)


async def test_a_fault_of_our_own_ends_the_job_and_its_attempt(house: House) -> None:
    house.upstream.steps = [RuntimeError("a bug in an adapter")]
    (job,) = await house.buy()
    assert job.failure is not None
    assert (job.failure.status, job.failure.code) == (500, "internal_error")
    assert (await house.balance()).held_micros == 0
    assert await house.unknown_waste() == 1


async def test_a_watcher_who_leaves_early_leaves_no_files(house: House) -> None:
    house.upstream.gate.clear()
    order = await house.submit(partial_images=2, stream=True)
    events = house.gateway.events(order)
    first = asyncio.ensure_future(anext(events))
    await house.upstream.called.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    house.upstream.gate.set()
    (job,) = await house.gateway.wait(order)
    assert job.state is JobState.COMPLETED
    assert list(house.parts.spool._root.iterdir()) == []
