"""GET /v1/jobs/{id}: one job as its owner sees it.

Owns the shape. Which fields a job has and when they change is the gateway's business.
"""

from __future__ import annotations

from typing import Any

import msgspec

from safelight.api.answers import usage_object
from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.origin import signed_url
from safelight.api.problems import error_object
from safelight.types import ImageFormat, ImageRecord, Job


class JobImage(msgspec.Struct, frozen=True, kw_only=True):
    """A finished job's picture; `url` is a fresh signed link, `expires_at` its end."""

    id: str
    url: str
    sha256: str
    bytes: int
    width: int
    height: int
    format: ImageFormat
    expires_at: int


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job; times in unix seconds, `size` measured once there is a picture."""

    object: str = "image.job"
    id: str
    status: str
    stage: str | None
    request_id: str
    model: str
    n_index: int
    created_at: int
    started_at: int | None
    completed_at: int | None
    deadline_at: int
    size: str
    size_plan: str
    price_micros: int
    attempts: int
    image: JobImage | None
    error: dict[str, Any] | None
    usage: dict[str, Any] | None


async def job(exchange: Exchange) -> None:
    """Answer GET /v1/jobs/{id}."""
    identity = await authenticate(exchange)
    found = await exchange.services.gateway.job(identity.customer_id, exchange.path_param("id"))
    await exchange.respond_json(job_view(exchange, found))


def job_view(exchange: Exchange, found: Job) -> JobView:
    """Return a job as its owner sees it, with a fresh link."""
    image = found.image
    return JobView(
        id=found.id,
        status=found.state,
        stage=found.stage,
        request_id=found.request_id,
        model=found.request.channel,
        n_index=found.n,
        created_at=found.created_at // 1000,
        started_at=_seconds(found.started_at),
        completed_at=_seconds(found.completed_at),
        deadline_at=found.deadline_at // 1000,
        size=found.size_plan.size if image is None else f"{image.blob.width}x{image.blob.height}",
        size_plan=found.size_plan.describe(),
        price_micros=found.price_micros,
        attempts=found.attempts,
        image=None if image is None else _image_view(exchange, image),
        error=None if found.failure is None else error_object(found.failure),
        usage=None if found.usage is None else usage_object(found.usage),
    )


def _image_view(exchange: Exchange, image: ImageRecord) -> JobImage:
    return JobImage(
        id=image.id,
        url=signed_url(exchange, image),
        sha256=image.blob.digest,
        bytes=image.blob.bytes,
        width=image.blob.width,
        height=image.blob.height,
        format=image.blob.format,
        expires_at=exchange.services.clock.now_ms() // 1000 + image.link_ttl_s,
    )


def _seconds(time_ms: int | None) -> int | None:
    return None if time_ms is None else time_ms // 1000
