"""Customers' programs in virtual time: they order, wait, hang up and repeat, as the SDK does.

Owns what a client does and what it was given. How a request is served is written down here too, as
`api/` does it but for the wire: submit, wait for as long as the caller does, answer, take note.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from safelight.api.exchange import settled
from safelight.api.timing import margin_s
from safelight.app import App
from safelight.errors import DeadlineExceeded, SafelightError, StorageError
from safelight.gateway.orders import Caller, JobEnded, Order, Queued
from safelight.types import ImageRequest, Job, JobState, Operation
from simulation.house import Connection, ConnectionLost, House, World
from simulation.pictures import picture

ROUTE = "/v1/images/generations"
SDK_RETRIES = 2
NOTED_S = 0.25
"""In this time it is written that a caller has left, unless the database is in trouble; a retry of
the SDK comes after 0.4 s at the earliest."""
READING_S = 0.002
"""Authentication and the body."""
STUBBORN_S, STUBBORN_PAUSE_S = 1200.0, 60.0
"""How long somebody repeats who wants an answer that is final, after nothing fails any more."""
BACKOFF_FIRST_S, BACKOFF_MAX_S, RETRY_AFTER_MAX_S = 0.5, 8.0, 120.0


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it."""

    status: int
    code: str | None
    should_retry: bool
    retry_after_s: float | None = None


CANCELLED = Refusal(409, "job_cancelled", should_retry=False)


@dataclass(frozen=True)
class Delivery:
    """Pictures by digest."""

    digests: tuple[str, ...]
    request_id: str


@dataclass(frozen=True)
class Ticket:
    """That an order waits in the queue: what to ask for later."""

    job_ids: tuple[str, ...]
    request_id: str


@dataclass
class Wish:
    """What one client wants, and how it goes about it."""

    number: int
    body: int
    """Wishes of equal bodies have the same."""
    customer_id: str
    key_id: str
    prompt: str
    n: int = 1
    channel: str = "gpt-image-2-vip"
    size: str = "1024x1024"
    operation: Operation = Operation.GENERATION
    idempotency_key: str | None = None
    patience_s: float = 600.0
    deadline_s: float | None = None
    stream: bool = False
    stubborn: bool = False
    """Whether the client repeats until it has an answer that is final."""
    hang_up_s: float | None = None
    """When the connection of the first call breaks."""
    gives_up: bool = False
    """Whether the client then never comes back."""
    queued: Queued | None = None
    """Whether it is to be collected later."""
    cancel_s: float | None = None
    """When the client does not want it any more, seconds after it was accepted."""
    began: float = 0.0
    ended: float = 0.0
    calls: int = 0
    request_ids: list[str] = field(default_factory=list)
    left_early: bool = False
    """Whether the client had left, and perhaps called again, before a call of it was accepted."""
    left_unseen: bool = False
    """Whether the client hung up on a process that stood still, and so could not see it."""
    outcome: Delivery | Refusal | None = None
    """What the client had in the end; None: only lost connections and timeouts."""

    @property
    def request(self) -> ImageRequest:
        """The order but for its input pictures."""
        return ImageRequest(
            operation=self.operation,
            channel=self.channel,
            prompt=self.prompt,
            size=self.size,
            n=self.n,
            partial_images=1 if self.stream else 0,
        )


class Buyer:
    """Carries out wishes.

    Args:
        world: clocks, and who is told of broken rules.
        houses: the processes that take connections; a balancer picks one.
        rng: draws pauses and processes.
    """

    def __init__(self, world: World, houses: list[House], rng: random.Random) -> None:
        self._world = world
        self._houses = houses
        self._rng = rng

    async def buy(self, wish: Wish) -> None:
        """Call until the wish is fulfilled or finally refused, or the client has had enough."""
        loop = asyncio.get_running_loop()
        wish.began = loop.time()
        for retry_count in itertools.count():
            if retry_count > SDK_RETRIES and not self._goes_on(wish):
                break
            wish.calls += 1
            pause = min(BACKOFF_FIRST_S * 2 ** min(retry_count, 10), BACKOFF_MAX_S)
            if retry_count > SDK_RETRIES:
                pause = min(2.0**retry_count, STUBBORN_PAUSE_S)
            try:
                answer = await self._call(wish, retry_count)
            except (ConnectionLost, TimeoutError) as lost:
                self._world.trace.note("lost", wish.number, type(lost).__name__)
                if wish.gives_up:
                    break
            else:
                wish.outcome = (
                    await self._collect(wish, answer) if isinstance(answer, Ticket) else answer
                )
                self._world.trace.note("answer", wish.number, answer)
                if not isinstance(answer, Refusal) or not answer.should_retry:
                    break
                if answer.retry_after_s is not None and answer.retry_after_s <= RETRY_AFTER_MAX_S:
                    pause = max(answer.retry_after_s, pause)
            await asyncio.sleep(pause * self._rng.uniform(0.75, 1.0))
        wish.ended = loop.time()

    def _goes_on(self, wish: Wish) -> bool:
        healed_at = self._world.weather.healed_at
        now = asyncio.get_running_loop().time()
        return wish.stubborn and (healed_at is None or now < healed_at + STUBBORN_S)

    async def _collect(self, wish: Wish, ticket: Ticket) -> Delivery | Refusal | None:
        """Ask for the jobs until they have ended; None when nobody knows for too long."""
        loop = asyncio.get_running_loop()
        cancel_at = math.inf if wish.cancel_s is None else loop.time() + wish.cancel_s
        while True:
            left_s = max(0.01, cancel_at - loop.time())
            await asyncio.sleep(min(left_s, self._rng.uniform(1, 20)))
            cancel = loop.time() >= cancel_at
            serving = partial(look, wish=wish, ticket=ticket, cancel=cancel)
            try:
                answer = await self._connected(wish, serving)
            except (ConnectionLost, TimeoutError):
                await asyncio.sleep(self._rng.uniform(0.5, 5))
                continue
            if cancel and not isinstance(answer, Refusal):
                cancel_at = math.inf
            if not isinstance(answer, Ticket | Refusal) or answer == CANCELLED:
                assert answer is None or isinstance(answer, Delivery | Refusal)
                return answer
            healed_at = self._world.weather.healed_at
            if healed_at is not None and loop.time() > healed_at + STUBBORN_S:
                return None

    async def _connected(
        self, wish: Wish, serving: Callable[[App, Connection], Awaitable[None]]
    ) -> object:
        listening = [house for house in self._houses if house.open]
        if not listening:
            raise ConnectionLost
        connection = self._rng.choice(listening).connect(serving)
        try:
            async with asyncio.timeout(wish.patience_s):
                return await connection.answer
        except TimeoutError:
            connection.close()
            raise

    async def _call(self, wish: Wish, retry_count: int) -> Delivery | Refusal | Ticket:
        listening = [house for house in self._houses if house.open]
        if not listening:
            raise ConnectionLost
        house = self._rng.choice(listening)
        self._world.trace.note("order", wish.number, retry_count, house.name)
        patience_s = wish.patience_s
        if wish.hang_up_s is not None and retry_count == 0:
            patience_s = wish.hang_up_s
        connection = house.connect(
            lambda app, connection: serve(self._world, app, connection, wish, retry_count)
        )
        try:
            async with asyncio.timeout(patience_s):
                answer = await connection.answer
        except TimeoutError:
            wish.left_unseen |= house.life.frozen
            connection.close()
            raise
        assert isinstance(answer, Delivery | Refusal | Ticket)
        return answer


async def look(
    app: App, connection: Connection, *, wish: Wish, ticket: Ticket, cancel: bool
) -> None:
    """Answer how the jobs of a queued order stand, cancelled if that is asked."""
    gateway = app.gateway
    try:
        ask = gateway.cancel if cancel else gateway.job
        found = tuple([await ask(wish.customer_id, job_id) for job_id in ticket.job_ids])
    except SafelightError as error:
        connection.send(_refusal(error))
        return
    if not all(job.state.terminal for job in found):
        connection.send(ticket)
    elif any(job.image is not None for job in found):
        digests = tuple(job.image.blob.digest for job in found if job.image is not None)
        connection.send(Delivery(digests, ticket.request_id))
    elif all(job.state is JobState.CANCELLED for job in found):
        connection.send(CANCELLED)
    else:
        connection.send(None)


async def serve(
    world: World, app: App, connection: Connection, wish: Wish, retry_count: int
) -> None:
    """Answer one call, as the API does; a hang-up is seen only while the answer is waited for."""
    try:
        await asyncio.sleep(READING_S)
        if connection.gone.is_set():
            return  # it is the end of the connection that is read then
        await _serve(world, app, connection, wish, retry_count)
    except SafelightError as error:
        connection.send(_refusal(error))
    except StorageError:
        connection.send(Refusal(503, "storage_failed", should_retry=True))
    except Exception as error:  # noqa: BLE001  (no other error may get so far)
        world.trace.blame(f"{type(error).__name__} reached a client: {error}")
        connection.send(Refusal(500, "unexpected", should_retry=True))


async def _serve(
    world: World, app: App, connection: Connection, wish: Wish, retry_count: int
) -> None:
    deadline_at = None
    if wish.deadline_s is not None:
        deadline_at = world.clock.now_ms() + round(wish.deadline_s * 1000)
    caller = Caller(
        customer_id=wish.customer_id,
        key_id=wish.key_id,
        route=ROUTE,
        retry_count=retry_count,
        idempotency_key=wish.idempotency_key,
        patience_s=wish.patience_s,
        deadline_at=deadline_at,
    )
    request, given = wish.request, frozenset({"prompt", "size", "n"})
    until = world.clock.monotonic() + wish.patience_s - margin_s(wish.patience_s)
    if wish.operation is Operation.EDIT:
        request = await _with_input(app, request, wish)
        given |= {"image"}
    order = await app.gateway.submit(
        request, caller, given=given, stream=wish.stream, queued=wish.queued
    )
    wish.request_ids.append(order.request_id)
    wish.left_early |= connection.answer.done()
    world.trace.note("accepted", wish.number, retry_count, order.request_id, order.joined)
    if wish.queued is not None:
        async with app.gateway.attached(order) as attachment:
            ticket = Ticket(tuple(job.id for job in order.jobs), order.request_id)
            if connection.send(ticket):
                world.answering.add((order.request_id, wish.number))
                attachment.delivered(final=True)
        world.answering.discard((order.request_id, wish.number))
        return
    async with app.gateway.attached(order) as attachment:
        waiting = asyncio.ensure_future(_ended(app, order, wish, until))
        gone = asyncio.ensure_future(connection.gone.wait())
        try:
            await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                answer = _answer(order, waiting.result())
                if connection.send(answer):
                    world.answering.add((order.request_id, wish.number))
                    attachment.delivered()
        except DeadlineExceeded as unfinished:
            connection.send(_refusal(unfinished))
        finally:
            await settled(waiting)
            await settled(gone)
            left_at = world.clock.monotonic()
    world.answering.discard((order.request_id, wish.number))
    if world.clock.monotonic() - left_at > NOTED_S:
        world.unnoted.add(order.request_id)


async def _ended(app: App, order: Order, wish: Wish, until: float) -> tuple[Job, ...]:
    left_s = until - app.clock.monotonic()
    if not wish.stream:
        return await app.gateway.wait(order, timeout_s=left_s)
    ended: dict[str, Job] = {}
    try:
        async with asyncio.timeout(left_s):
            async for event in app.gateway.events(order):
                if isinstance(event, JobEnded):
                    ended[event.job.id] = event.job
    except TimeoutError:
        raise DeadlineExceeded("It goes on.", retry_after_s=5) from None
    return tuple(ended[job.id] for job in order.jobs)


async def _with_input(app: App, request: ImageRequest, wish: Wish) -> ImageRequest:
    path = app.services.spool_dir / f"upload.{wish.number}.{wish.calls}"
    path.write_bytes(picture(64, 64, wish.body % 5, coloured=True))
    blob = await app.gateway.stage_input(path, param="image")
    path.unlink(missing_ok=True)
    return ImageRequest(
        operation=request.operation,
        channel=request.channel,
        prompt=request.prompt,
        size=request.size,
        n=request.n,
        partial_images=request.partial_images,
        inputs=(blob,),
    )


def _answer(order: Order, jobs: tuple[Job, ...]) -> Delivery | Refusal:
    digests = tuple(job.image.blob.digest for job in jobs if job.image is not None)
    if digests:
        return Delivery(digests, order.request_id)
    failure = next(job.failure for job in jobs if job.failure is not None)
    return Refusal(failure.status, failure.code, failure.should_retry, failure.retry_after_s)


def _refusal(error: SafelightError) -> Refusal:
    return Refusal(error.status, error.code, error.should_retry, error.retry_after_s)
