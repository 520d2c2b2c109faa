"""One wait of one coroutine, and the alarms that end waits, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.desk import later
from safelight.waiting import Alarm, Alarms, TimeLimit, Wait, until_done
from simulation.virtual import run


def _now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("seed", range(5))
def test_alarms_ring_once_each_in_the_order_of_their_times(seed: int) -> None:
    """Whatever is cancelled meanwhile, and set while others ring: like a sorted list."""
    rng = random.Random(seed)

    async def main() -> None:
        alarms = Alarms()
        rung: list[tuple[float, int]] = []
        due: dict[int, tuple[float, Alarm]] = {}

        def ring(number: int) -> Callable[[], None]:
            def call() -> None:
                at, _ = due.pop(number)
                assert _now() == pytest.approx(at, abs=1e-6)
                rung.append((at, number))
                if number % 7 == 0:
                    put(number + 10_000, rng.uniform(0, 50))

            return call

        def put(number: int, seconds: float) -> None:
            due[number] = _now() + seconds, alarms.set(seconds, ring(number))

        cancelled = 0
        for number in range(1, 600):
            put(number, rng.choice([0.0, 0.001, 5.0, rng.uniform(0, 300)]))
            if due and rng.random() < 0.6:
                gone = rng.choice(list(due))
                alarms.cancel(due.pop(gone)[1])
                cancelled += 1
            await later(rng.choice([0.0, 0.0, 0.5]))
        await later(500)
        assert not due
        assert rung == sorted(rung, key=lambda one: one[0])
        assert len({number for _, number in rung}) == len(rung) > 200
        assert cancelled > 200

    run(main())


def test_cancelled_alarms_do_not_heap_up() -> None:
    """A day of orders that end before their time leaves a few dozen."""

    async def main() -> None:
        alarms = Alarms()
        standing = [alarms.set(900.0, lambda: None) for _ in range(20)]
        for _ in range(10_000):
            alarms.cancel(alarms.set(600.0, lambda: None))
        assert len(alarms._heap) < 200
        for alarm in standing:
            alarms.cancel(alarm)
            alarms.cancel(alarm)  # twice is once

    run(main())


def test_an_alarm_that_fails_holds_up_no_other() -> None:
    async def main() -> None:
        alarms, rung, told = Alarms(), [], []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

        def fail() -> None:
            raise RuntimeError("a fault of its own")

        alarms.set(1.0, fail)
        alarms.set(1.0, lambda: rung.append(1))
        alarms.set(2.0, lambda: rung.append(2))
        await later(3)
        assert rung == [1, 2]
        assert len(told) == 1

    run(main())


def test_a_wait_ends_when_it_is_woken_or_when_its_time_is_over() -> None:
    async def main() -> None:
        alarms, began = Alarms(), _now()
        wait = Wait(alarms, 5.0)
        await wait
        wait.close()
        assert _now() == pytest.approx(began + 5)
        other = Wait(alarms, 100.0)
        asyncio.get_running_loop().call_later(1.0, other)
        await other
        other.close()
        other()  # woken again, and closed: nothing happens
        assert _now() == pytest.approx(began + 6)
        assert alarms._timer is None or alarms._heap  # no timer without an alarm

    run(main())


def test_waiting_for_a_future_leaves_it_alone() -> None:
    """Whoever gives up waiting cancels himself alone, and leaves no callback behind."""

    async def main() -> None:
        alarms = Alarms()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await until_done(alarms, future, timeout_s=2.0)
        assert not future.done()
        waiting = asyncio.ensure_future(until_done(alarms, future))
        await later(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert not future.done()
        assert future.remove_done_callback(lambda _: None) == 0
        assert not future._callbacks
        third = asyncio.ensure_future(until_done(alarms, future))
        await asyncio.sleep(0)
        future.set_exception(ValueError("its own end"))
        await third  # its end is not looked at
        assert future.exception() is not None
        await until_done(alarms, future)

    run(main())


def test_a_block_that_takes_too_long_times_out() -> None:
    async def main() -> None:
        alarms, began = Alarms(), _now()
        with pytest.raises(TimeoutError), TimeLimit(alarms, 3.0):
            await later(10)
        assert _now() == pytest.approx(began + 3)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        with TimeLimit(alarms, 3.0):
            await later(1)
        await later(10)  # nothing rings any more
        with pytest.raises(KeyError), TimeLimit(alarms, 3.0):
            raise KeyError("its own")

    run(main())


def test_a_cancellation_from_elsewhere_is_no_timeout() -> None:
    """Also where both come in the same turn of the loop."""

    async def main() -> None:
        alarms = Alarms()

        async def work() -> None:
            with TimeLimit(alarms, 3.0):
                await later(10)

        early = asyncio.ensure_future(work())
        await later(1)
        early.cancel()
        both = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        alarms.set(3.0, both.cancel)
        ends = await asyncio.gather(early, both, return_exceptions=True)
        assert early.cancelled()
        assert both.cancelled()
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)

    run(main())
