"""What goes in and out of the gateway: callers, orders, events.

Only data; the verbs are in `gateway/__init__.py`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from safelight.notices import LimitNotice
from safelight.types import Job, StatementLine


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends a request and how it may join an earlier one.

    `retry_count` is the SDK's `x-stainless-retry-count` (0 when absent), `route` the path, part of
    the scope of an Idempotency-Key.
    """

    customer_id: str
    key_id: str
    route: str
    retry_count: int = 0
    idempotency_key: str | None = None
    patience_s: float = 600.0
    """How long the caller waits before it gives up: the SDK's read timeout, which it sends."""
    deadline_at: int | None = None
    """Until when a picture is of use to the caller, milliseconds since 1970. No part of the body: a
    retry that joins takes the jobs with the deadline they have."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted request and its jobs as they stood at acceptance.

    `joined`: the jobs were started by an earlier request. `replayed`: they had all ended already.
    `retry_count`: of the caller that this order was given to. `limits`: what a new order leaves of
    its key's; a joined one was not counted.
    """

    request_id: str
    jobs: tuple[Job, ...]
    retry_count: int = 0
    joined: bool = False
    replayed: bool = False
    limits: tuple[LimitNotice, ...] = ()


class PartialImage(msgspec.Struct, frozen=True):
    """A coarse picture of a running job; `path` exists until the job ends and its watchers left."""

    job_id: str
    index: int
    path: Path


class JobEnded(msgspec.Struct, frozen=True):
    """A job reached a terminal state."""

    job: Job


Event = PartialImage | JobEnded


class StatementPage(msgspec.Struct, frozen=True):
    """Statement lines, oldest first, and whether more follow."""

    lines: tuple[StatementLine, ...]
    has_more: bool
