"""What follows a failed or a slow attempt: another one, or the job's last word."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from gateway import house as houses
from gateway.buyer import ANSWER, VIP, Bench, Step, fault
from gateway.house import House
from safelight import jobs
from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.gateway.buying import Blocked
from safelight.gateway.calling import Calls
from safelight.gateway.failures import BAD_OUTPUT_MAX, Failed
from safelight.pool import Lease, Need
from simulation.vendor import account
from simulation.virtual import run

# --- retries -------------------------------------------------------------------------------------


def test_a_picture_that_comes_at_once_takes_one_attempt() -> None:
    async def main() -> None:
        bench = Bench()
        assert await bench.buy() in {"a", "b", "c"}
        assert (len(bench.calls), bench.now, bench.in_flight) == (1, 10, 0)

    run(main())


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FaultClass if kind is not FaultClass.CLIENT],
)
def test_a_fault_that_another_account_can_absorb_is_not_seen(kind: FaultClass) -> None:
    async def main() -> None:
        bench = Bench()
        assert isinstance(await bench.buy((1, fault(kind)), ANSWER), str)
        first, second = bench.calls
        assert first.account != second.account
        assert second.at == 1  # the first retry does not wait

    run(main())


def test_the_callers_own_fault_ends_the_job_at_once() -> None:
    async def main() -> None:
        bench = Bench()
        refusal = fault(FaultClass.CLIENT, "moderation_blocked", final_status=400)
        failure = await bench.fail((3, refusal))
        assert (failure.status, failure.code) == (400, "moderation_blocked")
        assert (len(bench.calls), bench.in_flight) == (1, 0)

    run(main())


def test_after_so_many_unusable_pictures_it_is_not_bought_again() -> None:
    async def main() -> None:
        bench = Bench()
        bad: Step = (5, fault(FaultClass.BAD_OUTPUT, "upstream_bad_image", sold=True))
        failure = await bench.fail(*[bad] * 9)
        assert (failure.status, failure.code) == (503, "upstream_bad_image")
        assert len(bench.calls) == BAD_OUTPUT_MAX

    run(main())


def test_no_job_makes_more_attempts_than_its_channel_allows() -> None:
    async def main() -> None:
        bench = Bench(channel=msgspec.structs.replace(VIP, max_attempts=4))
        failure = await bench.fail(*[(0.1, fault(FaultClass.FAST))] * 9)
        assert len(bench.calls) == 4
        # The gateway has used its own attempts: the SDK shall not add its own.
        assert (failure.status, failure.should_retry) == (503, False)

    run(main())


def test_a_channel_without_retries_answers_with_the_first_fault() -> None:
    async def main() -> None:
        bench = Bench(channel=msgspec.structs.replace(VIP, retries=False))
        failure = await bench.fail((1, fault(FaultClass.FAST)))
        assert (failure.status, failure.should_retry, len(bench.calls)) == (503, True, 1)
        failure = await bench.fail((1, fault(FaultClass.THROTTLED, retry_after_s=17)))
        assert (failure.status, failure.retry_after_s, len(bench.calls)) == (429, 17, 2)
        # Nor does it look for stalls.
        assert await bench.buy((400, None)) in {"a", "b", "c"}
        assert len(bench.calls) == 3

    run(main())


def test_waits_between_retries_grow_and_are_bounded() -> None:
    async def main() -> None:
        bench = Bench(tuple(account(f"a{n}") for n in range(40)))
        await bench.buy(*[(0.0, fault(FaultClass.FAST))] * 7)
        gaps = [b.at - a.at for a, b in zip(bench.calls, bench.calls[1:], strict=False)]
        assert gaps[0] == 0
        for exponent, gap in enumerate(gaps[1:]):
            assert 0 <= gap <= min(0.5 * 2**exponent, 8)
        assert sum(gaps) > 0

    run(main())


def test_being_throttled_is_waited_out_and_is_no_attempt() -> None:
    async def main() -> None:
        bench = Bench(
            (account("a", images_per_minute=60),),
            channel=msgspec.structs.replace(VIP, max_attempts=2),
        )
        throttled: Step = (0.2, fault(FaultClass.THROTTLED, retry_after_s=5))
        assert await bench.buy(*[throttled] * 6, (1, fault(FaultClass.FAST)), ANSWER) == "a"
        assert len(bench.calls) == 8
        gaps = [b.at - a.at for a, b in zip(bench.calls, bench.calls[1:6], strict=False)]
        assert all(gap >= 5.2 for gap in gaps)

    run(main())


def test_what_other_processes_kept_from_leaving_is_no_attempt_and_no_fault() -> None:
    async def main() -> None:
        bench = Bench(
            (account("a", images_per_minute=60),),
            channel=msgspec.structs.replace(VIP, max_attempts=1),
        )
        assert await bench.buy(*[(0.0, Blocked(7.0))] * 3, ANSWER) == "a"
        assert [call.at for call in bench.calls] == pytest.approx([21], abs=0.5)
        assert bench.tokens() == bench.policy.retry_tokens

    run(main())


# --- the quota -----------------------------------------------------------------------------------


def test_the_price_of_retries_comes_back_with_the_picture_and_not_without() -> None:
    async def main() -> None:
        bench = Bench()
        before = bench.tokens()
        mixed = [(1.0, fault(kind)) for kind in (FaultClass.FAST, FaultClass.SLOW)]
        await bench.buy(*mixed, (1.0, fault(FaultClass.LOCAL)), ANSWER)
        assert bench.tokens() == before
        await bench.fail(*mixed, (1.0, fault(FaultClass.CLIENT)))
        assert bench.tokens() == before - 3
        await bench.buy()
        assert before - 3 <= bench.tokens() <= before - 2.5

    run(main())


def test_without_tokens_the_first_fault_is_the_last() -> None:
    async def main() -> None:
        bench = Bench(policy=PoolConfig(retry_tokens=4))
        while bench.pool.pay("a", FaultClass.THROTTLED):
            pass
        failure = await bench.fail((1, fault(FaultClass.FAST)))
        assert (failure.status, len(bench.calls)) == (503, 1)

    run(main())


# --- unusable pictures ---------------------------------------------------------------------------


WRONG_SIZE = fault(FaultClass.BAD_OUTPUT, "upstream_wrong_size", sold=True)


@pytest.mark.parametrize("earlier", [0, 1])
def test_an_unusable_picture_is_bought_again_elsewhere_but_not_for_ever(earlier: int) -> None:
    """One that an earlier process has bought counts as well."""

    async def main() -> None:
        bench = Bench(tuple(account(name) for name in "abcde"))
        buying = bench.buying()
        for _ in range(earlier):
            await buying.reject(None, WRONG_SIZE)
        for _ in range(BAD_OUTPUT_MAX - earlier - 1):
            await buying.reject(await buying.buy(), WRONG_SIZE)
        with pytest.raises(Failed) as caught:
            await buying.reject(await buying.buy(), WRONG_SIZE)
        assert caught.value.failure.code == "upstream_wrong_size"
        await buying.close(delivered=False)
        names = [call.account for call in bench.calls]
        assert len(names) == len(set(names)) == BAD_OUTPUT_MAX - earlier

    run(main())


def test_an_unusable_picture_leaves_the_attempt_beside_it_its_time() -> None:
    async def main() -> None:
        bench = Bench()
        buying = bench.buying((130, None), (60, None))
        first = await buying.buy()
        await buying.reject(first, WRONG_SIZE)
        second = await buying.buy()
        await buying.close(delivered=True)
        assert [call.account for call in bench.calls] == [first.account.name, second.account.name]
        assert bench.now == pytest.approx(160, abs=0.1)

    run(main())


# --- the journal ---------------------------------------------------------------------------------


async def test_an_attempt_that_lost_is_journalled_as_superseded_and_perhaps_sold(
    house: House,
) -> None:
    """Beside the job's own attempt a second one runs; it is cut short when the first delivers."""
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    house.upstream.called.clear()
    job = await house.db.read(lambda tx: jobs.get_job(tx, order.jobs[0].id))
    assert job is not None
    lease = house.parts.pool.acquire(
        Need(houses.VIP), tried=frozenset({house.upstream.calls[0][0]})
    )
    assert isinstance(lease, Lease)
    calls = Calls(house.parts, house.gateway._turns, job, on_partial=None)
    second = asyncio.ensure_future(
        calls.make(
            lease,
            deadline=house.clock.monotonic() + 60,
            race=SimpleNamespace(superseded=True, alone=False),
        )
    )
    await house.upstream.called.wait()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    assert [view.in_flight for view in house.parts.pool.views()].count(1) == 1
    house.upstream.gate.set()
    await house.gateway.wait(order)
    rows = await house.db.read(lambda tx: tx.all("SELECT * FROM attempt ORDER BY k"))
    assert [(row["outcome"], row["sold"]) for row in rows] == [("ok", 1), ("superseded", None)]
    assert rows[1]["ended_at"] is not None
    assert await house.unknown_waste() == 1
