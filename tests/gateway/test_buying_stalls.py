"""Stalls get a second attempt, few pictures are bought twice, nothing begins too late."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.buyer import ANSWER, NEED, VIP, Bench, Step, fault
from gateway.desk import later
from safelight.config import PoolConfig
from safelight.errors import FaultClass
from safelight.pool import Lease
from safelight.pool.hedging import FIRST
from safelight.types import Account
from simulation.vendor import account
from simulation.virtual import run

# --- stalls --------------------------------------------------------------------------------------


def test_a_stall_gets_a_second_attempt_on_another_group_and_its_answer_wins() -> None:
    async def main() -> None:
        bench = Bench((account("a", "org"), account("b", "org"), account("c")))
        for name in ("a", "b"):
            held = bench.pool.acquire(NEED, tried=frozenset("abc") - {name})
            assert isinstance(held, Lease)
            bench.pool.release(held, None)
        won = await bench.buy((1000, None), (30, None))
        assert len(bench.calls) == 2
        stalled, second = bench.calls
        assert second.at == pytest.approx(100, abs=0.1)
        assert won == second.account
        assert (stalled.account == "c") != (second.account == "c")
        assert bench.now == pytest.approx(130, abs=0.1)
        assert bench.cancelled == [(stalled.account, True)]
        assert bench.in_flight == 0

    run(main())


def test_a_first_attempt_that_was_only_slow_wins_when_it_comes_first() -> None:
    async def main() -> None:
        bench = Bench()
        won = await bench.buy((120, None), (60, None))
        slow, second = bench.calls
        assert won == slow.account
        assert bench.now == pytest.approx(120)
        assert (bench.cancelled, bench.in_flight) == ([(second.account, True)], 0)

    run(main())


def test_a_second_attempt_that_fails_leaves_the_first_its_time() -> None:
    async def main() -> None:
        bench = Bench(channel=msgspec.structs.replace(VIP, max_attempts=3))
        won = await bench.buy((150, None), (1, fault(FaultClass.FAST)), (400, None))
        assert won == bench.calls[0].account
        assert bench.now == pytest.approx(150)
        assert len(bench.calls) == 3
        assert bench.calls[2].at == pytest.approx(102, abs=1.1)

    run(main())


def test_a_stall_that_ends_as_a_fault_leaves_the_second_its_time() -> None:
    async def main() -> None:
        bench = Bench()
        won = await bench.buy((110, fault(FaultClass.SLOW)), (60, None))
        assert (won, len(bench.calls)) == (bench.calls[1].account, 2)
        assert bench.now == pytest.approx(160, abs=0.1)

    run(main())


def test_the_callers_own_fault_ends_the_job_while_another_attempt_runs() -> None:
    async def main() -> None:
        bench = Bench()
        failure = await bench.fail((115, fault(FaultClass.CLIENT, final_status=400)), (60, None))
        assert failure.status == 400
        assert bench.now == pytest.approx(115)
        assert bench.cancelled == [(bench.calls[1].account, True)]
        assert bench.in_flight == 0

    run(main())


@pytest.mark.parametrize(
    ("accounts", "policy"),
    [
        ((account("a", "org"), account("b", "org")), PoolConfig()),
        ((account("a"), account("b")), PoolConfig(hedge_share=0.0)),
    ],
)
def test_without_another_group_or_a_budget_a_stall_is_waited_for(
    accounts: tuple[Account, ...], policy: PoolConfig
) -> None:
    async def main() -> None:
        bench = Bench(accounts, policy)
        assert isinstance(await bench.buy((200, None)), str)
        assert len(bench.calls) == 1

    run(main())


def test_no_second_attempt_while_somebody_waits_for_a_first() -> None:
    async def main() -> None:
        bench = Bench((account("a", max_in_flight=1), account("b", max_in_flight=1)))
        scripts: list[Step] = [(200, None), (200, None), ANSWER]
        await asyncio.gather(*(bench.buy(step) for step in scripts))
        assert len(bench.calls) == 3

    run(main())


def test_an_hour_buys_few_pictures_twice_even_if_all_are_slow_at_once() -> None:
    async def main() -> None:
        bench = Bench((account("a"), account("b"), account("c")))
        slow = [asyncio.ensure_future(bench.buy((140, None), (90, None))) for _ in range(60)]
        await asyncio.gather(*slow)
        assert 60 < len(bench.calls) <= 60 + 2 * FIRST

    run(main())


def test_jobs_that_were_abandoned_do_not_use_up_the_budget() -> None:
    async def main() -> None:
        bench = Bench()
        for _ in range(20):
            buying = bench.buying((1000, None), (1000, None))
            task = asyncio.ensure_future(buying.buy())
            await later(105)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await buying.abandon()
            assert bench.in_flight == 0
        assert {superseded for _, superseded in bench.cancelled} == {False}
        assert bench.pool.hedges.allows(bench.clock.monotonic())

    run(main())


# --- the deadline --------------------------------------------------------------------------------


def test_nothing_begins_that_cannot_finish() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.learn(40)
        failure = await bench.fail(*[(20.0, fault(FaultClass.FAST))] * 8, deadline_s=100)
        assert failure.status == 503
        assert [call.at for call in bench.calls][:2] == pytest.approx([0, 20])
        assert all(call.at + 40 <= 100 for call in bench.calls)
        assert bench.now <= 65

    run(main())


def test_a_first_attempt_that_cannot_finish_is_not_made() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.learn(40)
        failure = await bench.fail(deadline_s=30)
        assert (failure.status, failure.code) == (503, "deadline_exceeded")
        assert (bench.calls, bench.now) == ([], 0)

    run(main())


def test_no_second_attempt_that_cannot_finish() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.learn(80)
        late: Step = (150, fault(FaultClass.SLOW))
        failure = await bench.fail(late, (80, fault(FaultClass.SLOW)), deadline_s=150)
        assert len(bench.calls) == 2
        assert all(call.at + 80 <= 150 for call in bench.calls)
        assert (failure.status, bench.now) == (503, 150)

    run(main())
