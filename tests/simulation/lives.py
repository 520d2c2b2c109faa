"""Processes inside one event loop: they can be killed and frozen between any two steps.

Every callback belongs to the process in whose context it was scheduled. Those of a killed process
are dropped, so no `finally` and no `except` of it runs, as after `kill -9`; those of a frozen one
are kept until it continues, as after SIGSTOP. Whoever waits for a future wakes in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any, NoReturn, TypeVar, TypeVarTuple, Unpack

from simulation.virtual import VirtualLoop, settle

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
"""Whose code runs; None: that of the world around the processes."""


class Life:
    """One run of one process, from its start to its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self._kept: list[_Step] = []

    def begin(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine in this process."""
        context = copy_context()
        context.run(_LIFE.set, self)
        return asyncio.get_running_loop().create_task(work, name=name, context=context)

    def die(self) -> None:
        """End without another step."""
        self.dead, self.frozen = True, False
        self._kept.clear()

    def rise(self) -> None:
        """Let what is left of a dead process come to its end, when the run is over."""
        self.dead = self.frozen = False

    def call(self, callback: Callable[[], object]) -> None:
        """Let a callback come from outside: a signal, the end of a connection."""
        context = copy_context()
        context.run(_LIFE.set, self)
        asyncio.get_running_loop().call_soon(callback, context=context)

    def freeze(self) -> None:
        """Stand still."""
        self.frozen = True

    def go_on(self) -> None:
        """Do what became due meanwhile, then live on."""
        if self.dead or not self.frozen:
            return
        self.frozen = False
        kept, self._kept = self._kept, []
        loop = asyncio.get_running_loop()
        for step in kept:
            VirtualLoop.call_soon(loop, step, context=step.context)  # type: ignore[arg-type]

    def take(self, step: _Step) -> None:
        """Run a callback of this process, if it may run."""
        if self.frozen:
            self._kept.append(step)
        elif not self.dead:
            step.callback(*step.args)


class _Step:
    """A callback of a process, and its handle, through which it may be cancelled until it runs."""

    __slots__ = ("args", "callback", "context", "handle", "life")

    def __init__(
        self,
        life: Life,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
    ) -> None:
        self.life = life
        self.callback = callback
        self.args = args
        self.context = context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        # One that was kept while its process stood still may have been cancelled since.
        if self.handle is None or not self.handle.cancelled():
            self.life.take(self)


async def nevermore() -> NoReturn:
    """Wait for ever: where a process has died."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("the dead do not wake")


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Act for the world around the processes: what is scheduled inside belongs to none of them."""
    token = _LIFE.set(None)
    try:
        yield
    finally:
        _LIFE.reset(token)


class LivesLoop(VirtualLoop):
    """A loop that knows whose callback it runs.

    Args:
        thread_s: draws how long a piece of thread work takes, virtual seconds; it is done whole at
            the end of that time, or not at all if its process is dead by then.
    """

    def __init__(self, thread_s: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__()
        self._thread_s = thread_s

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        life = _LIFE.get() if context is None else context.get(_LIFE)
        if life is None:
            return super().call_soon(callback, *args, context=context)
        step = _Step(life, callback, args, context or copy_context())
        step.handle = super().call_soon(step, context=step.context)
        return step.handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        life = _LIFE.get() if context is None else context.get(_LIFE)
        if life is None:
            return super().call_at(when, callback, *args, context=context)
        step = _Step(life, callback, args, context or copy_context())
        timer = super().call_at(when, step, context=step.context)
        step.handle = timer
        return timer

    def run_in_executor(  # type: ignore[override]  # (see VirtualLoop)
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        seconds = self._thread_s()
        if not seconds:
            return super().run_in_executor(executor, func, *args)
        future: asyncio.Future[T] = self.create_future()
        self.call_later(seconds, settle, future, func, *args)
        return future
