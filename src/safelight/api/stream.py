"""Server-sent events: frames, keep-alive comments, and image streams.

Owns the image event shapes (OpenAI images API, streaming; no `[DONE]` at the end) and the moment
a stream starts. Chat's chunks are `chat`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from safelight.api.answers import (
    first_problem,
    order_headers,
    resolved_background,
    usage_object,
)
from safelight.api.exchange import Exchange, settled
from safelight.api.pictures import Picture, Segment, Weaver, write_segments
from safelight.api.problems import Headers, Problem, error_object
from safelight.api.timing import Timing
from safelight.errors import SafelightError
from safelight.gateway.orders import Event, JobEnded, Order, PartialImage
from safelight.types import Job, Operation, Usage

T = TypeVar("T")

KEEP_ALIVE = b": keep-alive\n\n"
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_MAGIC = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))


async def paced(
    exchange: Exchange, events: AsyncIterator[T], *, first_s: float, every_s: float
) -> AsyncGenerator[T | None, None]:
    """Yield the events, and None after every silence of `first_s`, then `every_s`.

    Raises:
        ClientGone: the caller has hung up; noticed while waiting.
    """
    wait_s = first_s
    pending: asyncio.Task[T | None] | None = None
    try:
        while True:
            pending = pending or asyncio.create_task(_next(events))
            await exchange.either(pending, timeout_s=wait_s)
            if not pending.done():
                wait_s = every_s
                yield None
                continue
            event, pending = pending.result(), None
            if event is None:
                return
            wait_s = first_s if not exchange.started else every_s
            yield event
    finally:
        if pending is not None:
            await settled(pending)


async def _next(events: AsyncIterator[T]) -> T | None:
    return await anext(events, None)


def frame(name: str, segments: list[Segment]) -> list[Segment]:
    """Return one SSE frame with an event name."""
    return [f"event: {name}\ndata: ".encode(), *segments, b"\n\n"]


@dataclass
class ImageStream:
    """The stream of one order."""

    exchange: Exchange
    order: Order
    timing: Timing
    safety_identifier: str | None
    completed: int = 0
    failed: list[Job] = field(default_factory=list)

    async def run(self) -> bool:
        """Write the whole stream, or one plain error when nothing was written before it.

        Returns:
            Whether it told how the order ended; False when the process is leaving and a retry shall
            find the jobs.

        Raises:
            ClientGone: the caller hung up.
        """
        try:
            await self._forward()
        except SafelightError as error:
            await self._fail(error)
            return False
        if self.completed:
            await self.exchange.finish()
        else:
            await self._fail(first_problem(self.failed, self.timing))
        return True

    async def _forward(self) -> None:
        services, silence_s = self.exchange.services, self.timing.silence_s()
        ticks = paced(
            self.exchange,
            services.gateway.events(self.order),
            first_s=min(services.stream_patience_s, silence_s),
            every_s=min(services.keep_alive_s, silence_s),
        )
        async with aclosing(ticks):
            async for event in ticks:
                await self._on(event)

    async def _on(self, event: Event | None) -> None:
        if event is None:
            await self._begin()
            await self.exchange.write(KEEP_ALIVE)
        elif isinstance(event, PartialImage):
            await self._partial(event)
        elif event.job.image is None:
            self.failed.append(event.job)
        else:
            await self._complete(event)

    async def _begin(self) -> None:
        if not self.exchange.started:
            price = sum(job.price_micros for job in self.order.jobs)
            headers = order_headers(self.order, self.order.jobs, price_micros=price)
            await self.exchange.start(200, SSE_HEADERS + headers)

    async def _partial(self, event: PartialImage) -> None:
        job = next(job for job in self.order.jobs if job.id == event.job_id)
        picture_format = await asyncio.to_thread(format_of, event.path)
        fields = {
            "partial_image_index": event.index,
            "created_at": self.exchange.services.clock.now_ms() // 1000,
            "size": job.size_plan.size,
            "quality": job.request.quality or "auto",
            "background": job.request.background or "auto",
            "output_format": picture_format or job.request.output_format,
        }
        await self._send("partial_image", job, event.path, fields)

    async def _complete(self, event: JobEnded) -> None:
        job, image = event.job, event.job.image
        assert image is not None
        fields: dict[str, object] = {
            "created_at": (job.completed_at or job.created_at) // 1000,
            "size": f"{image.blob.width}x{image.blob.height}",
            "quality": job.request.quality or "auto",
            "background": resolved_background(job),
            "output_format": image.blob.format,
            "usage": usage_object(job.usage or Usage()),
        }
        if self.safety_identifier:
            fields["safety_identifier"] = self.safety_identifier
        self.completed += 1
        await self._send("completed", job, image.blob, fields)

    async def _send(self, what: str, job: Job, picture: Picture, fields: dict[str, object]) -> None:
        await self._begin()
        family = "edit" if job.request.operation is Operation.EDIT else "generation"
        name = f"image_{family}.{what}"
        weaver = Weaver()
        payload = {"type": name, "b64_json": weaver.place(picture), **fields}
        await write_segments(self.exchange, frame(name, weaver.weave(payload)))

    async def _fail(self, problem: Problem) -> None:
        job_id = (self.failed or self.order.jobs)[0].id
        if not self.exchange.started:
            headers = order_headers(self.order, self.failed or self.order.jobs, price_micros=0)
            await self.exchange.fail(problem, headers=headers, job_id=job_id)
            return
        self.exchange.failed_late(problem)
        error = error_object(problem, job_id=job_id)
        payload = {"type": "error", "error": error, "sequence_number": 0}
        await write_segments(self.exchange, frame("error", [msgspec.json.encode(payload)]))
        await self.exchange.finish()


def format_of(path: Path) -> str | None:
    """Return what a partial image is, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)
