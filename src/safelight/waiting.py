"""Waiting, with as little memory as it takes: thousands of orders wait at a time, for minutes.

Owns one wait of one coroutine, and the alarms that end waits. asyncio.wait(), wait_for(), timeout()
and shield() each take half a kilobyte to a whole one for as long as they last: coroutines, sets,
closures, a timer of the loop. Knows nothing of what is waited for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Protocol

_SWEEP_FROM = 64
"""So many cancelled alarms are left lying."""


class Alarm(list[Any]):
    """A call that is to be made: when, its number, whom to call. Lists are compared quickly."""

    __slots__ = ()


class Alarms:
    """Any number of alarms in one event loop, with one of its timers for all of them.

    A heap by time; cancelled ones lie in it until they are half of it.
    """

    __slots__ = ("_cancelled", "_heap", "_next", "_set", "_timer", "context")

    def __init__(self) -> None:
        self._heap: list[Alarm] = []
        self._set = 0
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self.context = Context()
        """In which wakings run: a callback without one makes a context of its own."""

    def set(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Have somebody called in so many seconds."""
        self._set += 1
        alarm = Alarm((asyncio.get_running_loop().time() + seconds, self._set, call))
        heapq.heappush(self._heap, alarm)
        if self._heap[0] is alarm:
            self._wind()
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Have nobody called; nothing happens where somebody was."""
        if alarm[2] is None:
            return
        alarm[2] = None
        self._cancelled += 1
        if self._cancelled > max(_SWEEP_FROM, len(self._heap) // 2):
            self._heap = [one for one in self._heap if one[2] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
            self._wind()

    def _wind(self) -> None:
        """Have the loop's timer end with the first alarm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._next = self._heap[0][0]
            self._timer = asyncio.get_running_loop().call_at(self._next, self._ring)

    def _ring(self) -> None:
        # Loops round times: the alarm whose time it is may be a hair ahead.
        now = max(asyncio.get_running_loop().time(), self._next)
        try:
            while self._heap and self._heap[0][0] <= now:
                alarm = heapq.heappop(self._heap)
                call, alarm[2] = alarm[2], None
                if call is None:
                    self._cancelled -= 1
                else:
                    call()
        finally:
            self._wind()


class Wait:
    """A coroutine's wait until it is woken, or until its time is over; awaited once, then closed.

    Calling it wakes, whatever it is called with: so it is its own callback of a future.

    Args:
        alarms: for the time.
        timeout_s: seconds; None: without end.
    """

    __slots__ = ("_alarm", "_alarms", "_woken")

    def __init__(self, alarms: Alarms, timeout_s: float | None = None) -> None:
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._alarms = alarms
        self._alarm = None if timeout_s is None else alarms.set(timeout_s, self)

    def __call__(self, _: object = None) -> None:
        """Wake."""
        if not self._woken.done():
            self._woken.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait."""
        return self._woken.__await__()  # no frame of our own

    def on(self, future: asyncio.Future[Any]) -> None:
        """Be woken when `future` is done."""
        future.add_done_callback(self, context=self._alarms.context)

    def close(self) -> None:
        """Wait no more."""
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None


class TimeLimit:
    """asyncio.timeout() by an alarm: a block that raises TimeoutError after so many seconds.

    Source: asyncio.timeouts of Python 3.11; a cancellation from elsewhere stays one.

    Args:
        alarms: for the time.
        seconds: how long the block may take.
    """

    __slots__ = ("_alarm", "_alarms", "_cancelling", "_over", "_seconds", "_task")

    def __init__(self, alarms: Alarms, seconds: float) -> None:
        self._alarms = alarms
        self._seconds = seconds
        self._over = False

    def __call__(self) -> None:
        """Say that the time is over."""
        self._over = True
        self._task.cancel()

    def __enter__(self) -> None:
        """Begin."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._alarm = self._alarms.set(self._seconds, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _at: object
    ) -> None:
        """End.

        Raises:
            TimeoutError: the time was over.
        """
        self._alarms.cancel(self._alarm)
        if self._over:
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is asyncio.CancelledError:
                raise TimeoutError from error


class Until(Protocol):
    """A way to wait for a future."""

    async def __call__(
        self, future: asyncio.Future[Any], /, *, timeout_s: float | None = None
    ) -> None:
        """Return when it is done, or after so many seconds."""


async def until_done(
    alarms: Alarms, future: asyncio.Future[Any], *, timeout_s: float | None = None
) -> None:
    """Wait until `future` is done or the time is over; it is not cancelled, and its end is its own.

    Args:
        alarms: for the time.
        future: may be waited for by others, too.
        timeout_s: seconds; None: as long as it takes.
    """
    if future.done():
        return
    wait = Wait(alarms, timeout_s)
    wait.on(future)
    try:
        await wait
    finally:
        wait.close()
        future.remove_done_callback(wait)
