"""Turns are fair, urgent ones come first, what cannot be in time is told so, no lease is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.desk import BATCH, EDIT, INTERACTIVE, JOB, NEED, Desk, later, refusal
from safelight.config import PoolConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.failures import Failed
from safelight.gateway.turns import Ticket
from safelight.pool import Lease, Need
from safelight.types import JobClass
from simulation.vendor import account
from simulation.virtual import run

# --- order -------------------------------------------------------------------------------------


def test_customers_take_turns_however_many_jobs_each_has() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        await desk.running()
        for customer, jobs in (("one", 8), ("two", 3), ("three", 1)):
            for _ in range(jobs):
                desk.ask(customer, customer)
            await asyncio.sleep(0)
        await desk.finish()
        assert desk.served[1:] == [
            *("one", "two", "three", "one", "two", "one", "two"),
            *["one"] * 5,
        ]

    run(main())


def test_a_late_customer_waits_for_one_turn_of_each_other_not_for_their_backlog() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        for number in range(300):
            desk.ask("backlog", f"customer {number % 3}")
        await later(10.5)
        waits = []
        for _ in range(20):
            waits.append(await desk.ask("late", "late"))
            await later(3)
        assert max(waits) <= 4
        await desk.finish()

    run(main())


def test_equal_backlogs_are_served_equally() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=3))
        for _ in range(3):
            await desk.running()
        for customer in range(10):
            for _ in range(40):
                desk.ask(str(customer), str(customer))
        await later(67.5)
        served = Counter(desk.served[3:])
        assert max(served.values()) - min(served.values()) <= 1
        await desk.finish()

    run(main())


def test_a_customers_jobs_go_in_the_order_of_their_coming_whatever_their_kind() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        names = []
        for number in range(12):
            edit = number % 4 == 3
            names.append(f"{'edit' if edit else 'picture'} {number}")
            desk.ask(names[-1], need=EDIT if edit else NEED)
        await desk.finish()
        assert desk.served == names

    run(main())


def test_a_job_that_had_a_turn_is_its_customers_next() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        await desk.running()
        desk.ask("old edit", need=EDIT)
        for number in range(3):
            desk.ask(f"waits {number}")
        await asyncio.sleep(0)
        desk.ask("again", first=True)
        await desk.finish()
        assert desk.served[:3] == ["running", "again", "old edit"]

    run(main())


def test_what_cannot_be_served_now_does_not_hold_up_other_kinds() -> None:
    async def main() -> None:
        desk = Desk(account("a", edits=False), account("edits", max_in_flight=1, tier=2))
        desk.ask("running edit", need=EDIT, hold_s=100)
        await asyncio.sleep(0)
        for number in range(3):
            desk.ask(f"edit {number}", need=EDIT)
        picture = desk.ask("picture")
        assert await asyncio.wait_for(picture, 5) == 0
        await desk.finish()

    run(main())


# --- classes -------------------------------------------------------------------------------------


def test_who_waits_goes_before_what_is_collected_later() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1), policy=PoolConfig(floor_share=0.01))
        await desk.running()
        for job_class in (BATCH, JOB, INTERACTIVE):
            for _ in range(3):
                desk.ask(str(job_class), str(job_class), job_class)
        await desk.finish()
        assert desk.served[1:] == ["interactive"] * 3 + ["job"] * 3 + ["batch"] * 3

    run(main())


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_each_lower_class_keeps_its_share_of_the_turns(share: float) -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1), policy=PoolConfig(floor_share=share))
        for job_class in JobClass:
            for _ in range(220):
                desk.ask(str(job_class), str(job_class), job_class)
        await later(200.5)
        served = Counter(desk.served)
        assert sum(served.values()) == 201
        assert served["job"] == pytest.approx(200 * share, abs=2)
        assert served["batch"] == pytest.approx(200 * share, abs=2)
        await desk.finish()

    run(main())


def test_lower_classes_use_everything_while_nobody_waits() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        for _ in range(20):
            desk.ask("batch", job_class=BATCH)
        await later(19.5)
        assert len(desk.served) == 20
        await desk.finish()

    run(main())


def test_a_class_that_was_idle_is_owed_nothing_for_that_time() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        for _ in range(60):
            desk.ask("interactive")
        await later(50.5)
        for _ in range(5):
            desk.ask("job", "two", JOB)
        await later(9)
        assert Counter(desk.served[51:60])["job"] <= 1
        await desk.finish()

    run(main())


# --- refusals ------------------------------------------------------------------------------------


def test_no_more_may_wait_than_the_bounds_say() -> None:
    async def main() -> None:
        policy = PoolConfig(max_waiting=5, max_waiting_per_customer=3)
        desk = Desk(account("a", max_in_flight=1), policy=policy)
        for _ in range(4):  # one runs, three wait
            desk.ask("one", "one")
        await later(0.1)
        failure, _ = await refusal(desk.ask("one", "one"))
        assert (failure.status, failure.should_retry) == (429, True)
        assert failure.retry_after_s
        assert failure.message.startswith("You have")
        for _ in range(2):
            desk.ask("two", "two")
        await later(0.1)
        failure, after_s = await refusal(desk.ask("three", "three"))
        assert (failure.status, after_s) == (429, 0)
        assert failure.message.startswith("The gateway has")
        # A job that had its turn is in already.
        desk.ask("again", "one", first=True)
        await desk.finish()
        assert Counter(desk.served) == {"one": 4, "two": 2, "again": 1}

    run(main())


def test_what_would_wait_too_long_is_refused_at_once_and_told_when() -> None:
    async def main() -> None:
        desk = Desk(account("a", images_per_minute=6))
        tasks = [desk.ask(str(n), within_s=100) for n in range(12)]
        await later(0.1)
        refused = [task for task in tasks if task.done()]
        for task in refused:
            failure, _ = await refusal(task)
            assert (failure.status, failure.should_retry) == (429, True)
            assert 0 < (failure.retry_after_s or 0) < 60
        assert 2 <= len(refused) <= 4
        await desk.finish()
        # None of those that were let in was disappointed.
        assert len(desk.served) == 12 - len(refused)

    run(main())


def test_a_second_customer_is_not_refused_for_the_backlog_of_the_first() -> None:
    async def main() -> None:
        desk = Desk(account("a", images_per_minute=6))
        for number in range(100):
            desk.ask(str(number), "one")
        await later(0.1)
        assert await desk.ask("second", "two", within_s=60) < 30
        for task in desk.tasks:
            task.cancel()
        await desk.finish()

    run(main())


def test_too_late_is_told_at_once() -> None:
    async def main() -> None:
        desk = Desk(account("a"))
        failure, after_s = await refusal(desk.ask("late", within_s=0))
        assert (failure.status, failure.code, after_s) == (503, "deadline_exceeded", 0)
        assert desk.served == []

    run(main())


def test_without_patience_what_is_not_free_at_once_is_refused() -> None:
    async def main() -> None:
        desk = Desk(account("a", images_per_minute=6))
        assert await desk.ask("first", patient=False) == 0
        failure, after_s = await refusal(desk.ask("second", patient=False))
        assert (failure.status, after_s) == (429, 0)
        assert failure.retry_after_s == pytest.approx(7, abs=0.5)
        assert desk.turns.waiting == 0

    run(main())


def test_without_patience_an_outage_is_told_as_one() -> None:
    async def main() -> None:
        desk = Desk(account("a"))
        desk.break_down()
        for job_class in (INTERACTIVE, JOB):
            failure, after_s = await refusal(desk.ask("x", job_class=job_class, patient=False))
            assert failure.retry_after_s
            assert (failure.code, after_s) == ("upstream_down", 0)

    run(main())


def test_who_still_waits_when_it_is_too_late_is_told_then() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        await desk.running(hold_s=100)
        failure, after_s = await refusal(desk.ask("waits", within_s=30))
        assert failure.code == "deadline_exceeded"
        assert after_s == pytest.approx(30)
        assert desk.turns.waiting == 0
        await desk.finish()

    run(main())


def test_while_everything_is_down_callers_are_refused_and_jobs_wait() -> None:
    async def main() -> None:
        desk = Desk(account("a"))
        desk.break_down()
        job = desk.ask("job", job_class=JOB)
        failure, after_s = await refusal(desk.ask("caller"))
        assert (failure.status, failure.code, after_s) == (503, "upstream_down", 0)
        assert (failure.should_retry, failure.retry_after_s) == (True, 30)
        assert await job == pytest.approx(desk.pool.policy.canary_s, abs=0.1)

    run(main())


def test_callers_that_wait_when_everything_goes_down_are_refused_then() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=5))
        held = [desk.pool.acquire(NEED) for _ in range(5)]
        caller, job = desk.ask("caller"), desk.ask("job", job_class=JOB)
        await asyncio.sleep(0)
        for lease in held:
            assert isinstance(lease, Lease)
            desk.pool.release(lease, UpstreamError(FaultClass.LOCAL, "x", "x"))
        desk.turns.look_again()
        failure, after_s = await refusal(caller)
        assert (failure.code, after_s) == ("upstream_down", 0)
        assert await job == pytest.approx(desk.pool.policy.canary_s, abs=0.1)

    run(main())


def test_when_no_account_will_ever_serve_nobody_waits() -> None:
    async def main() -> None:
        desk = Desk(account("a"))
        for job_class in JobClass:
            task = desk.ask("other", job_class=job_class, need=Need("other"))
            failure, after_s = await refusal(task)
            assert (failure.status, failure.code, after_s) == (503, "model_unavailable", 0)

    run(main())


def test_jobs_that_wait_hear_when_the_last_credential_is_refused() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        held = desk.pool.acquire(NEED)
        assert isinstance(held, Lease)
        task = desk.ask("waits", job_class=JOB)
        await asyncio.sleep(0)
        desk.pool.release(held, UpstreamError(FaultClass.AUTH, "x", "x"))
        desk.turns.look_again()
        failure, after_s = await refusal(task)
        assert (failure.code, after_s) == ("pool_exhausted", 0)

    run(main())


# --- leases --------------------------------------------------------------------------------------


def test_a_lease_that_is_handed_back_wakes_the_next_at_once() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        await desk.running(hold_s=0.3)
        assert await desk.ask("next") == pytest.approx(0.3)

    run(main())


def test_who_gives_up_waiting_leaves_the_line() -> None:
    async def main() -> None:
        desk = Desk(account("a", max_in_flight=1))
        await desk.running()
        gone = desk.ask("gone")
        after = desk.ask("after")
        await asyncio.sleep(0)
        gone.cancel()
        assert await after == pytest.approx(1)
        assert (desk.served, desk.turns.waiting) == (["running", "after"], 0)

    run(main())


def test_a_lease_that_comes_together_with_a_cancellation_is_given_back_unspent() -> None:
    async def main() -> None:
        desk = Desk(account("a", images_per_minute=1, max_in_flight=1))
        held = desk.pool.acquire(NEED)
        assert isinstance(held, Lease)
        task = desk.ask("gone")
        await asyncio.sleep(0)
        desk.turns.drop(held, sent=False)  # gives the turn ...
        task.cancel()  # ... before its owner has looked
        await asyncio.gather(task, return_exceptions=True)
        assert desk.in_flight == 0
        assert await desk.ask("next") == 0

    run(main())


def test_nothing_is_spare_while_somebody_waits() -> None:
    async def main() -> None:
        desk = Desk(account("a", edits=False), account("b", max_in_flight=1, tier=2))
        running = desk.turns.spare(EDIT, tried=frozenset(), but_groups=frozenset())
        assert running is not None
        waits = desk.ask("edit", need=EDIT)
        await asyncio.sleep(0)
        assert desk.turns.spare(NEED, tried=frozenset(), but_groups=frozenset()) is None
        desk.turns.drop(running)
        await waits
        assert desk.turns.spare(NEED, tried=frozenset(), but_groups=frozenset({"a"})) is not None

    run(main())


asks = st.tuples(
    st.just("ask"),
    st.sampled_from(["one", "two", "three"]),
    st.sampled_from(list(JobClass)),
    st.sampled_from([NEED, NEED, EDIT, Need("other")]),
    st.floats(0, 60),
    st.booleans(),
)
cancels = st.tuples(st.just("cancel"), st.integers(0, 20))
sleeps = st.tuples(st.just("sleep"), st.floats(0, 20))
breaks = st.tuples(st.just("break"))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.one_of(asks, asks, cancels, sleeps, breaks), max_size=50))
def test_no_lease_is_ever_lost_or_given_twice(steps: list[tuple[object, ...]]) -> None:
    """Asked for, waited for, given up, expired and refused in any order."""

    async def main() -> None:
        desk = Desk(
            account("a", "org", max_in_flight=1, edits=False),
            account("b", "org", images_per_minute=10, max_in_flight=2),
        )
        held = 0
        most = 0

        async def job(
            customer: str, job_class: JobClass, need: Need, within_s: float, first: bool
        ) -> None:
            nonlocal held, most
            lease = await desk.turns.lease(
                need,
                Ticket(customer, job_class),
                first=first,
                start_by=desk.clock.monotonic() + within_s,
            )
            held += 1
            most = max(most, held)
            try:
                await later(within_s / 3)
            finally:
                held -= 1
                desk.turns.drop(lease)

        tasks: list[asyncio.Task[None]] = []
        for step in steps:
            match step:
                case ["ask", *arguments]:
                    tasks.append(asyncio.ensure_future(job(*arguments)))  # type: ignore[arg-type]
                case ["cancel", int(at)] if tasks:
                    tasks[at % len(tasks)].cancel()
                case ["sleep", float(seconds)]:
                    await later(seconds)
                    assert desk.in_flight == held
                    assert desk.turns.waiting == sum(not t.done() for t in tasks) - held
                case ["break"]:
                    if not desk.in_flight:
                        desk.break_down()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = [task.exception() for task in tasks if not task.cancelled()]
        assert all(end is None or isinstance(end, Failed) for end in ends)
        assert (desk.in_flight, desk.turns.waiting, held) == (0, 0, 0)
        assert most <= 3

    run(main())
