"""/v1/batches: many orders in one file (OpenAI Batch API).

Owns the shapes. When a batch may begin, how its lines are bought and what its files hold is the
gateway's business.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from safelight.api.batch_ports import BatchingPort
from safelight.api.body import json_body
from safelight.api.callers import authenticate, caller_of
from safelight.api.exchange import Exchange
from safelight.api.files import ExpiresAfter, keep_s_of, limit_of
from safelight.api.job_views import seconds
from safelight.api.origin import origin_of
from safelight.api.timing import Timing
from safelight.api.wire import check_metadata, parse_fields, present
from safelight.batches import BatchRow, Counts, LineFault
from safelight.errors import NotFound, UnknownParameter
from safelight.gateway.batching import NewBatch

_LIMIT, _LIMIT_MAX = 20, 100
_QUERY = ("after", "limit")


class BatchBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """POST /v1/batches."""

    input_file_id: Annotated[str, Meta(min_length=1, max_length=256)]
    endpoint: Annotated[
        str,
        Meta(max_length=256, description="The route of all lines: an image route."),
    ]
    completion_window: Annotated[str, Meta(max_length=16)]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class FaultList(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed, by line; or what it waits for."""

    object: str = "list"
    data: tuple[LineFault, ...]


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines there are, and how many have ended."""

    total: int
    completed: int
    failed: int


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch; times in unix seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None
    errors: FaultList | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: dict[str, Any] | None
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/batches, newest first; `after` takes the last id to go on."""

    object: str = "list"
    data: tuple[BatchView, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/batches."""
    identity = await authenticate(exchange)
    caller = caller_of(exchange, identity, Timing(exchange))
    async with json_body(exchange, exchange.services.config.server.max_json_bytes) as sent:
        body = parse_fields(present(sent.fields), BatchBody)
    check_metadata(body.metadata)
    expires = body.output_expires_after
    keep_s = None
    if expires is not None:
        keep_s = keep_s_of(expires.anchor, expires.seconds, "output_expires_after")
    new = NewBatch(
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata,
        keep_output_s=keep_s,
        origin=origin_of(exchange),
        idempotency_key=caller.idempotency_key,
        retry_count=caller.retry_count,
    )
    batch, counts = await exchange.services.batching.create(identity, new)
    await exchange.respond_json(batch_view(batch, counts))


async def listing(exchange: Exchange) -> None:
    """Answer GET /v1/batches."""
    identity = await authenticate(exchange)
    query = exchange.query()
    for name in query:
        if name not in _QUERY:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    found, has_more = await exchange.services.batching.page(
        identity.customer_id,
        after=query.get("after") or None,
        limit=limit_of(query, default=_LIMIT, most=_LIMIT_MAX),
    )
    views = tuple(batch_view(batch, counts) for batch, counts in found)
    await exchange.respond_json(
        BatchList(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=has_more,
        )
    )


async def batch(exchange: Exchange) -> None:
    """Answer GET /v1/batches/{id}."""
    identity = await authenticate(exchange)
    batching = exchange.services.batching
    found = await batching.batch(identity.customer_id, exchange.path_param("id"))
    await exchange.respond_json(batch_view(*found))


async def cancel(exchange: Exchange) -> None:
    """Answer POST /v1/batches/{id}/cancel."""
    identity = await authenticate(exchange)
    batching = exchange.services.batching
    found = await batching.cancel(identity.customer_id, exchange.path_param("id"))
    await exchange.respond_json(batch_view(*found))


class BatchMessages:
    """What webhooks say of batches.

    Args:
        batching: the batches of customers.
    """

    def __init__(self, batching: BatchingPort) -> None:
        self._batching = batching

    async def __call__(self, customer_id: str, batch_id: str) -> object | None:
        """Return a batch as GET /v1/batches/{id} shows it; None: there is none."""
        try:
            found = await self._batching.batch(customer_id, batch_id)
        except NotFound:
            return None
        return batch_view(*found)


def batch_view(row: BatchRow, counts: Counts) -> BatchView:
    """Return a batch as its owner sees it."""
    return BatchView(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=FaultList(data=row.errors) if row.errors else None,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        status=row.status,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=row.created_at // 1000,
        in_progress_at=seconds(row.in_progress_at),
        expires_at=row.expires_at // 1000,
        finalizing_at=seconds(row.finalizing_at),
        completed_at=seconds(row.completed_at),
        failed_at=seconds(row.failed_at),
        expired_at=seconds(row.expired_at),
        cancelling_at=seconds(row.cancelling_at),
        cancelled_at=seconds(row.cancelled_at),
        request_counts=RequestCounts(
            total=row.total, completed=counts.completed, failed=counts.failed
        ),
        usage=row.usage,
        metadata=row.metadata,
    )
