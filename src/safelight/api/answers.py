"""What the answers about finished jobs have in common: headers, totals, problems.

Owns the facts that travel beside OpenAI's shapes (`x-safelight-...`), so that no extra ever
breaks a typed SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from safelight.api.exchange import Exchange
from safelight.api.problems import Headers, Problem, limit_headers
from safelight.api.timing import Timing
from safelight.errors import DeadlineExceeded, InvalidRequest
from safelight.gateway.orders import Order
from safelight.types import ImageRecord, Job, Usage


async def ended_jobs(exchange: Exchange, order: Order, timing: Timing) -> tuple[Job, ...] | None:
    """Wait for the order's jobs for as long as the caller does.

    Returns:
        The jobs, all ended; or None when the caller would have given up first. It has been told
        then, before its own cut, when its retry will find the picture.

    Raises:
        ClientGone: the caller hung up.
        Unavailable: the process is leaving.
    """
    waiting = exchange.services.gateway.wait(order, timeout_s=timing.left_s())
    try:
        return await exchange.until_gone(waiting)
    except DeadlineExceeded as unfinished:
        headers = order_headers(order, order.jobs, price_micros=0)
        await exchange.fail(unfinished, headers=headers)
        return None


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
