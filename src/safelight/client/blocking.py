"""`Client`: the same verbs as `AsyncClient`, for programs without an event loop.

Owns the thread in which one loop runs for all calls of one client, from whatever thread they come.
An interrupted call (Ctrl-C) is cancelled there, too, before the interrupt goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from safelight.client.answers import (
    Balance,
    Capabilities,
    ChannelSizes,
    Job,
    JobChange,
    JobEvent,
    Picture,
    Quote,
    Saved,
    StatementLine,
)
from safelight.client.client import AsyncClient, OnChange, PictureSource
from safelight.client.figures import Figures
from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.transport import Deadline, Patience

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")

_THREAD = "safelight-client"
_CLEANUP_S = 5.0
"""How long an interrupted call may take to end, seconds."""


class _Call(Generic[T]):
    """One call in the loop's thread, which its caller may give up at any moment."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._abandoned = False

    async def run(self) -> T:
        """Do the work."""
        if self._abandoned:
            raise CancelledError

        async def work() -> T:
            return await self._work()

        self._task = asyncio.create_task(work())
        return await self._task

    async def abandon(self) -> None:
        """Cancel the work, if it is not done, and wait until its connections are given back."""
        self._abandoned = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})


class _Loop:
    """One event loop in a thread of its own, begun with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack: contextlib.ExitStack | None = None
        self._portal: BlockingPortal | None = None

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` there and return what it returns; an interrupt cancels it first."""
        portal, call = self._started(), _Call(work)
        try:
            return portal.start_task_soon(call.run).result()
        except BaseException:
            # Also when an interrupt came before the future was in our hands.
            with contextlib.suppress(RuntimeError, TimeoutError):
                portal.start_task_soon(call.abandon).result(_CLEANUP_S)
            raise

    def finish(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` there, and wait for it unless the collector came here in that very thread."""
        if threading.current_thread().name != _THREAD:
            self.run(work)
        elif self._portal is not None:
            self._portal.start_task_soon(work)

    def _started(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                from anyio.from_thread import (  # noqa: PLC0415 - with the first call
                    start_blocking_portal,
                )

                stack = contextlib.ExitStack()
                self._portal = stack.enter_context(start_blocking_portal(name=_THREAD))
                self._stack = stack
            return self._portal

    def stop(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` as the last thing and end the thread; nothing happens where none runs."""
        with self._lock:
            portal, stack = self._portal, self._stack
            self._portal = self._stack = None
        if portal is None or stack is None:
            return
        if threading.current_thread().name == _THREAD:
            # The collector came here in the loop's own thread, which cannot wait for itself.
            threading.Thread(target=_end, args=(portal, stack, work), daemon=True).start()
        else:
            _end(portal, stack, work)


def _end(
    portal: BlockingPortal, stack: contextlib.ExitStack, work: Callable[[], Awaitable[None]]
) -> None:
    with stack:
        portal.start_task_soon(work).result()


class Client:
    """Orders pictures from one address, and blocks until they are there.

    It may be used from several threads at once, as a context manager or without; `close` may be
    called twice, and is called when the program ends. For the arguments, and what each method
    does and raises, see `AsyncClient`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retries: int = 3,
        patience: Patience | None = None,
    ) -> None:
        self._async = AsyncClient(
            base_url, api_key, timeout_s=timeout_s, retries=retries, patience=patience
        )
        self._loop = _Loop()
        self._finalizer = weakref.finalize(self, self._loop.stop, self._async.close)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. It may be called twice; a later call opens new ones."""
        self._loop.stop(self._async.close)

    @property
    def base_url(self) -> str:
        """Where requests go, with the API's version."""
        return self._async.base_url

    @property
    def figures(self) -> Figures:
        """What this client has seen so far: generation times, 5xx, downloads."""
        return self._async.figures

    def _each(self, made: Callable[[], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        """Yield what an asynchronous generator does, one step of it for each of ours."""
        steps = made()
        end = object()

        async def step() -> Any:
            return await anext(steps, end)

        try:
            while (found := self._loop.run(step)) is not end:
                yield found
        finally:
            self._loop.finish(steps.aclose)

    def capabilities(self) -> Capabilities:
        """Return what stands at the address; asked once."""
        return self._loop.run(self._async.capabilities)

    # --- orders ---

    def generate(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        size: str | None = None,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
        **parameters: Any,
    ) -> Picture:
        """Return one new picture; see `AsyncClient.generate`."""
        return self._loop.run(
            lambda: self._async.generate(
                prompt,
                model=model,
                size=size,
                idempotency_key=idempotency_key,
                deadline_s=deadline_s,
                **parameters,
            )
        )

    def edit(
        self,
        prompt: str,
        images: Sequence[PictureSource],
        *,
        mask: PictureSource | None = None,
        model: str = DEFAULT_MODEL,
        size: str | None = None,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
        untouched: bool = False,
        **parameters: Any,
    ) -> Picture:
        """Return one picture made from others; see `AsyncClient.edit`."""
        return self._loop.run(
            lambda: self._async.edit(
                prompt,
                images,
                mask=mask,
                model=model,
                size=size,
                idempotency_key=idempotency_key,
                deadline_s=deadline_s,
                untouched=untouched,
                **parameters,
            )
        )

    def order(self, order: Order, *, deadline_s: float | None = None) -> Picture:
        """Place an order and return its picture; see `AsyncClient.order`."""
        return self._loop.run(lambda: self._async.order(order, deadline_s=deadline_s))

    def save(self, picture: Picture, path: Path | str) -> Saved:
        """Write a picture to a file, checked; see `AsyncClient.save`."""
        return self._loop.run(lambda: self._async.save(picture, path))

    # --- jobs ---

    def submit(self, order: Order, *, deadline_s: float | None = None) -> Job:
        """Place an order that nobody waits for; see `AsyncClient.submit`."""
        return self._loop.run(lambda: self._async.submit(order, deadline_s=deadline_s))

    def job(self, job_id: str) -> Job:
        """Return a job as it stands now; see `AsyncClient.job`."""
        return self._loop.run(lambda: self._async.job(job_id))

    def wait(
        self,
        job: Job | str,
        *,
        timeout_s: float | None = None,
        on_change: OnChange | None = None,
    ) -> Job:
        """Wait until a job has ended; `on_change` is called in this thread.

        See `AsyncClient.wait`.
        """
        if on_change is None:
            return self._loop.run(lambda: self._async.wait(job, timeout_s=timeout_s))
        deadline = Deadline(Patience(), timeout_s)
        with contextlib.closing(self.watch(job, timeout_s=timeout_s)) as changes:
            for change in changes:
                on_change(change)
                if change.job.ended:
                    return change.job
        left_s = deadline.left_s()
        return self._loop.run(lambda: self._async.wait(job, timeout_s=left_s))

    def watch(
        self, job: Job | str, *, timeout_s: float | None = None
    ) -> Generator[JobChange, None, None]:
        """Yield a job as it stands after each of its events; see `AsyncClient.watch`."""
        return self._each(lambda: self._async.watch(job, timeout_s=timeout_s))

    def events(
        self, job: Job | str, *, after: str | None = None
    ) -> Generator[JobEvent, None, None]:
        """Yield a job's events to the last; see `AsyncClient.events`."""
        return self._each(lambda: self._async.events(job, after=after))

    def jobs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        model: str | None = None,
        request_id: str | None = None,
        batch_id: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        newest_first: bool = True,
    ) -> Generator[Job, None, None]:
        """Yield the customer's jobs; see `AsyncClient.jobs`."""
        return self._each(
            lambda: self._async.jobs(
                status=status,
                model=model,
                request_id=request_id,
                batch_id=batch_id,
                created_after=created_after,
                created_before=created_before,
                newest_first=newest_first,
            )
        )

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job; see `AsyncClient.cancel`."""
        return self._loop.run(lambda: self._async.cancel(job))

    # --- money ---

    def quote(self, order: Order, n: int = 1) -> Quote:
        """Return what `n` such pictures will cost; see `AsyncClient.quote`."""
        return self._loop.run(lambda: self._async.quote(order, n))

    def sizes(self, model: str | None = None) -> tuple[ChannelSizes, ...]:
        """Return the sizes that have a name; see `AsyncClient.sizes`."""
        return self._loop.run(lambda: self._async.sizes(model))

    def balance(self) -> Balance:
        """Return the customer's money; see `AsyncClient.balance`."""
        return self._loop.run(self._async.balance)

    def statement(
        self,
        *,
        after: str | None = None,
        since: int | str | None = None,
        until: int | str | None = None,
        month: str | None = None,
    ) -> Generator[StatementLine, None, None]:
        """Yield the lines of the statement; see `AsyncClient.statement`."""
        return self._each(
            lambda: self._async.statement(after=after, since=since, until=until, month=month)
        )

    def save_statement(
        self,
        path: Path | str,
        *,
        since: int | str | None = None,
        until: int | str | None = None,
        month: str | None = None,
    ) -> Path:
        """Write the statement to a CSV file; see `AsyncClient.save_statement`."""
        return self._loop.run(
            lambda: self._async.save_statement(path, since=since, until=until, month=month)
        )
