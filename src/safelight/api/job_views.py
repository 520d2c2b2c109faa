"""How a job looks to its owner, in every answer and event that shows one.

Owns the shape. Which fields a job has and when they change is the gateway's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from safelight.api.answers import usage_object
from safelight.api.exchange import Exchange
from safelight.api.origin import goes_at, link_at, origin_of
from safelight.api.problems import Headers, error_object
from safelight.gateway.orders import Standing
from safelight.links import Links
from safelight.types import ImageFormat, ImageRecord, Job

_RETRY_AFTER_MAX_S = 60


class JobImage(msgspec.Struct, frozen=True, kw_only=True):
    """A finished job's picture; `url` is a fresh signed link, `expires_at` its end.

    `kept_until` is when the picture itself goes, null where it does not by itself. Of one that is
    gone (`deleted_at`) there is no link.
    """

    id: str
    url: str | None
    sha256: str
    bytes: int
    width: int
    height: int
    format: ImageFormat
    expires_at: int | None
    kept_until: int | None
    pinned: bool
    deleted_at: int | None
    persist_status: str | None
    persisted_at: int | None
    persisted_url: str | None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job; times in unix seconds, `size` measured once there is a picture.

    `queue_position` counts the waiting jobs before it: 0 is the next one, null one that waits in no
    line. It and `expected_finish_at` are estimates.
    """

    object: str = "image.job"
    id: str
    status: str
    stage: str | None
    request_id: str
    batch_id: str | None
    metadata: dict[str, str] | None
    model: str
    n_index: int
    job_class: str = msgspec.field(name="class")
    priority: int
    created_at: int
    not_before: int | None
    started_at: int | None
    completed_at: int | None
    cancel_requested_at: int | None
    deadline_at: int
    queue_position: int | None
    expected_finish_at: int | None
    size: str
    size_plan: str
    price_micros: int
    attempts: int
    image: JobImage | None
    error: dict[str, Any] | None
    usage: dict[str, Any] | None


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[JobView, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A request for several pictures that nobody waits for: its jobs."""

    object: str = "image.request"
    id: str
    created_at: int
    jobs: tuple[JobView, ...]


async def job_views(exchange: Exchange, found: Sequence[Job]) -> list[JobView]:
    """Return jobs as their owner sees them."""
    standings = await exchange.services.gateway.standings(found)
    origin, services = origin_of(exchange), exchange.services
    return [job_view(origin, services.links, job, standings[job.id]) for job in found]


def job_view(origin: str, links: Links, found: Job, standing: Standing) -> JobView:
    """Return a job as its owner sees it, with a fresh link."""
    image = found.image
    return JobView(
        id=found.id,
        status=found.state,
        stage=found.stage,
        request_id=found.request_id,
        batch_id=found.batch_id,
        metadata=dict(found.metadata) or None,
        model=found.request.channel,
        n_index=found.n,
        job_class=found.job_class,
        priority=found.priority,
        created_at=found.created_at // 1000,
        not_before=seconds(found.not_before),
        started_at=seconds(found.started_at),
        completed_at=seconds(found.completed_at),
        cancel_requested_at=seconds(found.cancel_requested_at),
        deadline_at=found.deadline_at // 1000,
        queue_position=standing.place,
        expected_finish_at=seconds(standing.finish_at),
        size=found.size_plan.size if image is None else f"{image.blob.width}x{image.blob.height}",
        size_plan=found.size_plan.describe(),
        price_micros=found.price_micros,
        attempts=found.attempts,
        image=None if image is None else image_view(origin, links, image),
        error=None if found.failure is None else error_object(found.failure),
        usage=None if found.usage is None else usage_object(found.usage),
    )


def retry_after(exchange: Exchange, views: Sequence[JobView]) -> Headers:
    """Return the header that says when to look again, at most a minute away; none where all ended.

    SDKs before 2.52 ignore a longer one.
    """
    now_s = exchange.services.clock.now_ms() // 1000
    finishes = [view.expected_finish_at for view in views if view.expected_finish_at is not None]
    if not finishes:
        return []
    wait_s = min(max(max(finishes) - now_s, 1), _RETRY_AFTER_MAX_S)
    return [(b"retry-after", str(wait_s).encode())]


def image_view(origin: str, links: Links, image: ImageRecord) -> JobImage:
    """Return a picture as its owner sees it, with a fresh link while there is one."""
    gone, until_ms = image.deleted_at is not None, goes_at(image)
    return JobImage(
        id=image.id,
        url=None if gone else link_at(origin, links, image),
        sha256=image.blob.digest,
        bytes=image.blob.bytes,
        width=image.blob.width,
        height=image.blob.height,
        format=image.blob.format,
        expires_at=None if gone else links.end_s(ttl_s=image.link_ttl_s, until_ms=until_ms),
        kept_until=seconds(until_ms),
        pinned=image.pinned,
        deleted_at=seconds(image.deleted_at),
        persist_status=image.persist_state,
        persisted_at=seconds(image.persisted_at),
        persisted_url=image.persisted_url,
    )


def seconds(time_ms: int | None) -> int | None:
    """Return a time as the wire has it."""
    return None if time_ms is None else time_ms // 1000
