"""An event loop whose time jumps: hours of waiting pass in seconds, and every run is the same.

Work for threads is done in place, so that there are none; `lives.py` adds processes that die.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never sleeps: when nothing is ready, the time that would be slept has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # No thread and no socket could have made anything ready.
        assert timeout is not None, "everybody waits for nothing"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on virtual seconds."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now

    def run_in_executor(  # type: ignore[override]  # (typeshed's names only other type variables)
        self, _executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do the work of a thread in place."""
        future: asyncio.Future[T] = self.create_future()
        settle(future, func, *args)
        return future


def settle(future: asyncio.Future[T], func: Callable[..., T], *args: Any) -> None:
    """Give a future the end of a function."""
    if future.cancelled():
        return  # withdrawn before its turn, as a thread pool does
    try:
        result = func(*args)
    except Exception as error:  # noqa: BLE001  (whoever awaits the future gets it)
        future.set_exception(error)
    else:
        future.set_result(result)


class LoopClock:
    """The clock of whatever loop runs."""

    def now_ms(self) -> int:
        return 1_800_000_000_000 + round(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
