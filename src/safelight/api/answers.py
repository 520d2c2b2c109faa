"""What the answers about finished jobs have in common: headers, totals, problems.

Owns the facts that travel beside OpenAI's shapes (`x-safelight-...`), so that no extra ever
breaks a typed SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from safelight.api.exchange import Exchange, settled
from safelight.api.pictures import Segment, pieces_of, total_length, write_segments
from safelight.api.problems import Headers, Problem, error_body, limit_headers
from safelight.api.timing import Timing
from safelight.errors import DeadlineExceeded, InvalidRequest, Unavailable
from safelight.gateway.orders import Order
from safelight.types import ImageRecord, Job, Usage

SMALL_BYTES = 64 * 1024
"""So short an answer is written in one piece: each piece is a system call and a packet."""

PADDED_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def ended_jobs(
    exchange: Exchange, order: Order, timing: Timing, *, keep_alive: bool = False
) -> tuple[Job, ...] | None:
    """Wait for the order's jobs for as long as the caller does.

    With `keep_alive` the answer begins after a while with white space, which JSON allows before a
    value (RFC 8259, section 2): then no proxy takes its silence for the end, and its status is 200
    whatever comes.

    Returns:
        The jobs, all ended; or None when the caller would have given up first. It has been told
        then, before its own cut, when its retry will find the picture; so has the caller of a
        process that is leaving.

    Raises:
        ClientGone: the caller hung up.
    """
    gateway = exchange.services.gateway
    try:
        if keep_alive:
            return await _padded(exchange, order, timing)
        return await gateway.wait(order, timeout_s=timing.left_s(), until=exchange.either)
    except (DeadlineExceeded, Unavailable) as unfinished:
        await tell_failure(exchange, order, order.jobs, unfinished)
        return None


async def _padded(exchange: Exchange, order: Order, timing: Timing) -> tuple[Job, ...]:
    """Wait for the jobs to their end, and write a blank after every silence."""
    services = exchange.services
    every_s = min(services.keep_alive_s, timing.silence_s())
    price = sum(job.price_micros for job in order.jobs)
    waiting = asyncio.ensure_future(services.gateway.wait(order))
    try:
        while True:
            await exchange.either(waiting, timeout_s=every_s)
            if waiting.done():
                return waiting.result()
            if not exchange.started:
                headers = order_headers(order, order.jobs, price_micros=price)
                await exchange.start(200, PADDED_HEADERS + headers)
            await exchange.write(b" ")
    finally:
        await settled(waiting)


async def tell_failure(
    exchange: Exchange, order: Order, jobs: Sequence[Job], problem: Problem
) -> None:
    """Answer with an error; behind white space it is a body under the status 200.

    Raises:
        ClientGone: the caller hung up.
    """
    job_id = jobs[0].id
    if exchange.started:
        exchange.failed_late(problem)
        await exchange.write(error_body(problem, job_id=job_id))
        await exchange.finish()
        return
    headers = order_headers(order, jobs, price_micros=0)
    await exchange.fail(problem, headers=headers, job_id=job_id)


async def write_json(exchange: Exchange, segments: list[Segment], headers: Headers) -> None:
    """Write a whole JSON answer with pictures in it, or the rest of one that began as white space.

    Raises:
        ClientGone: the caller hung up.
        StorageError: a picture cannot be read; the answer is then cut short.
        Unavailable: too many answers are being written, and this one has not begun.
    """
    length, storage = total_length(segments), exchange.services.storage
    async with exchange.services.sending.place(length, begun=exchange.started) as chunk_bytes:
        if not exchange.started:
            size = str(length).encode()
            entity = [(b"content-type", b"application/json"), (b"content-length", size)]
            await exchange.start(200, entity + headers)
        if length <= SMALL_BYTES:
            await exchange.write(b"".join([piece async for piece in pieces_of(storage, segments)]))
        else:
            await write_segments(exchange, segments, chunk_bytes)
        await exchange.finish()


def order_headers(order: Order, jobs: Sequence[Job], *, price_micros: int) -> Headers:
    """Return the headers of an image answer.

    Args:
        order: what was accepted.
        jobs: its jobs as they stand now.
        price_micros: charged for this answer; for a stream, what it will be if all jobs succeed.
    """
    headers = [
        (b"x-safelight-request-id", order.request_id.encode()),
        (b"x-safelight-job-id", ",".join(job.id for job in jobs).encode()),
        (b"x-safelight-size-plan", jobs[0].size_plan.describe().encode()),
        (b"x-safelight-price-micros", str(price_micros).encode()),
    ]
    digests = [image.blob.digest for image in images_of(jobs)]
    if digests:
        headers.append((b"x-safelight-image-sha256", ",".join(digests).encode()))
    failed = [f"{job.id};{job.failure.code}" for job in jobs if job.failure is not None]
    if failed:
        headers.append((b"x-safelight-failed-jobs", ",".join(failed).encode("ascii", "replace")))
    if order.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    return headers + limit_headers(order.limits)


def price_of(jobs: Sequence[Job]) -> int:
    """Return what the completed ones of `jobs` cost, in micro-dollars."""
    return sum(job.price_micros for job in jobs if job.image is not None)


def images_of(jobs: Sequence[Job]) -> list[ImageRecord]:
    """Return the pictures of the completed ones of `jobs`, in order."""
    return [job.image for job in jobs if job.image is not None]


def first_problem(jobs: Sequence[Job], timing: Timing) -> Problem:
    """Return why the first of `jobs`, none of which has a picture, has none."""
    for job in jobs:
        if job.failure is None:
            continue
        if timing.deadline_at is not None and job.failure.code == DeadlineExceeded.default_code:
            # By the caller's own word the picture is of no use any more, to its retry neither.
            return msgspec.structs.replace(job.failure, should_retry=False)
        return job.failure
    return InvalidRequest("The job was cancelled.", code="job_cancelled")


def total_usage(jobs: Sequence[Job]) -> Usage:
    """Return the tokens of all `jobs` together; zeros where an upstream told none."""
    told = [job.usage for job in jobs if job.usage is not None]
    return Usage(
        **{name: sum(getattr(usage, name) for usage in told) for name in Usage.__struct_fields__}
    )


def usage_object(usage: Usage) -> dict[str, object]:
    """Return `usage` as OpenAI's images body has it."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "text_tokens": usage.input_text_tokens,
            "image_tokens": usage.input_image_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "text_tokens": usage.output_text_tokens,
            "image_tokens": usage.output_image_tokens,
        },
        "total_tokens": usage.total_tokens,
    }


def resolved_background(job: Job) -> str:
    """Return `transparent` or `opaque`: what was asked, else what the file can be."""
    asked = job.request.background
    if asked in ("transparent", "opaque"):
        return asked
    alpha = job.image is not None and job.image.blob.has_alpha
    return "transparent" if alpha else "opaque"


def image_payload(jobs: Sequence[Job], *, safety_identifier: str | None) -> dict[str, object]:
    """Return OpenAI's images body around an empty `data`; the first picture is measured.

    Args:
        jobs: of one request, all ended; at least one has its picture.
        safety_identifier: as it was sent.
    """
    first = next(job for job in jobs if job.image is not None)
    assert first.image is not None
    blob = first.image.blob
    payload: dict[str, object] = {
        "created": max(job.completed_at or job.created_at for job in jobs) // 1000,
        "data": [],
        "size": f"{blob.width}x{blob.height}",
        "background": resolved_background(first),
        "output_format": blob.format,
        "usage": usage_object(total_usage(jobs)),
    }
    quality = first.request.quality
    if quality not in (None, "auto"):
        # Only a quality that was asked for is known; what `auto` became is the upstream's secret.
        payload["quality"] = quality
    if safety_identifier is not None:
        payload["safety_identifier"] = safety_identifier
    return payload
