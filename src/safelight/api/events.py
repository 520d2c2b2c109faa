"""GET /v1/jobs/{id}/events: what happens to a job, as server-sent events.

Owns the events' JSON, which the WebSocket has in common (`sockets`), and their frames as a stream
(HTML standard, server-sent events): the `id` of a step is what `Last-Event-ID` goes on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pybase64

from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobView, job_view, seconds
from safelight.api.origin import origin_of
from safelight.api.stream import KEEP_ALIVE, SSE_HEADERS, format_of, paced
from safelight.errors import InvalidValue, SafelightError, UnknownParameter
from safelight.gateway.orders import PartialImage, Standing, Step
from safelight.gateway.progress import ENDED, Changed, Told, Update
from safelight.types import Job

PARTIAL_MAX_BYTES = 8 * 1024 * 1024
"""A larger partial image is not sent: each event is whole in memory while it is written."""
RETRY = b"retry: 1000\n\n"
"""How soon, in milliseconds, a browser connects again to a stream that was cut."""
_STEP_ID_MAX = 64


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a job; fields that do not apply are left out.

    `id` is what a stream that was cut goes on after; events without one are not repeated. `job` is
    there in the first event, as the job stands now, and in the last one.
    """

    id: str | None = None
    type: str
    job_id: str
    created_at: int
    status: str
    stage: str | None = None
    attempt: int | None = None
    reason: str | None = None
    queue_position: int | None = None
    expected_finish_at: int | None = None
    partial_image_index: int | None = None
    output_format: str | None = None
    b64_json: str | None = None
    job: JobView | None = None


def last_event_id(exchange: Exchange) -> str | None:
    """Return after which event the caller goes on: the header, or `after` in the query.

    Raises:
        InvalidValue: it is no event's id.
        UnknownParameter: the query has another name.
    """
    query = exchange.query()
    for name in query:
        if name != "after":
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    found = exchange.header("last-event-id") or query.get("after") or None
    if found is not None and len(found) > _STEP_ID_MAX:
        raise InvalidValue("This is no id of an event.", param="after")
    return found


async def job_events(
    exchange: Exchange, found: Job, *, after: str | None
) -> AsyncGenerator[JobEvent, None]:
    """Yield a job's events to its end; the first one shows the job as it stands.

    Raises:
        SafelightError: they cannot be told to their end here; another process tells the rest.
    """
    telling = _Telling(exchange, found)
    async with aclosing(exchange.services.gateway.progress(found, after=after)) as updates:
        async for update in updates:
            event = await telling.event(update)
            if event is not None:
                yield event


class _Telling:
    """Makes events of what the gateway tells one watcher."""

    def __init__(self, exchange: Exchange, found: Job) -> None:
        self._exchange = exchange
        self._job = found
        self._first = True
        self._standing = Standing()

    async def event(self, update: Update) -> JobEvent | None:
        """Return an update as it is told; None: it is not."""
        if isinstance(update, PartialImage):
            return await self._partial(update)
        if isinstance(update, Changed):
            self._standing = update.standing
            return self._placed("job.queued", update.standing)
        self._job, self._standing = update.job, update.standing
        event = self._step(update)
        self._first = False
        return event

    def _step(self, told: Told) -> JobEvent:
        step, standing = told.step, told.standing
        shown = self._first or step.name == ENDED
        waits = step.name == "queued" and not told.job.state.terminal
        return JobEvent(
            id=step.name,
            type=_type_of(step),
            job_id=told.job.id,
            created_at=step.at // 1000,
            status=step.state,
            stage=step.stage,
            attempt=step.attempt,
            reason=step.reason,
            queue_position=standing.place if waits else None,
            expected_finish_at=seconds(standing.finish_at),
            job=self._view(told.job, standing) if shown else None,
        )

    def _view(self, found: Job, standing: Standing) -> JobView:
        exchange, services = self._exchange, self._exchange.services
        return job_view(origin_of(exchange), services.links, found, standing)

    def _placed(self, kind: str, standing: Standing) -> JobEvent:
        return JobEvent(
            type=kind,
            job_id=self._job.id,
            created_at=self._exchange.services.clock.now_ms() // 1000,
            status=self._job.state,
            queue_position=standing.place,
            expected_finish_at=seconds(standing.finish_at),
        )

    async def _partial(self, partial: PartialImage) -> JobEvent | None:
        text = await asyncio.to_thread(_read_partial, partial.path)
        if text is None:
            return None
        picture_format, data = text
        return JobEvent(
            type="job.partial_image",
            job_id=self._job.id,
            created_at=self._exchange.services.clock.now_ms() // 1000,
            status=self._job.state,
            partial_image_index=partial.index,
            output_format=picture_format or self._job.request.output_format,
            b64_json=data,
        )


def _type_of(step: Step) -> str:
    if step.reason is not None:
        return "job.attempt_failed"
    if step.cancelling:
        return "job.cancelling"
    return f"job.{step.state}"


def _read_partial(path: Path) -> tuple[str | None, str] | None:
    """Return format and base64 of a partial image; None where it is gone already, or too large."""
    try:
        if path.stat().st_size > PARTIAL_MAX_BYTES:
            return None
        return format_of(path), pybase64.b64encode(path.read_bytes()).decode()
    except OSError:
        # They are hints: they go with the end of the job, whoever has not read them by then.
        return None


async def stream(exchange: Exchange) -> None:
    """Answer GET /v1/jobs/{id}/events."""
    identity = await authenticate(exchange)
    after = last_event_id(exchange)
    services = exchange.services
    found = await services.gateway.job(identity.customer_id, exchange.path_param("id"))
    if after == ENDED and found.state.terminal:
        # The one answer after which a browser does not connect again (HTML, event streams).
        await exchange.start(204, [(b"cache-control", b"no-store")])
        await exchange.finish()
        return
    async with exchange.watched():
        await exchange.start(200, SSE_HEADERS)
        await exchange.write(RETRY)
        every_s = services.keep_alive_s
        events = job_events(exchange, found, after=after)
        async with (
            aclosing(events),
            aclosing(paced(exchange, events, first_s=every_s, every_s=every_s)) as ticks,
        ):
            try:
                async for event in ticks:
                    await exchange.write(KEEP_ALIVE if event is None else _frame(event))
            except SafelightError:
                # It ends before the job does: whoever still wants to know connects again.
                pass
        await exchange.finish()


def _frame(event: JobEvent) -> bytes:
    name = "" if event.id is None else f"id: {event.id}\n"
    return f"{name}event: {event.type}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"
