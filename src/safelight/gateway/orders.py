"""What goes in and out of the gateway: callers, orders, events.

Only data; the verbs are in `gateway/__init__.py`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from safelight.notices import LimitNotice
from safelight.types import Job, JobClass, JobState, Metadata, Stage, StatementLine


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
    webhook_url: str | None = None
    """Whom to tell about the end of each job. No part of the body: a retry that joins changes
    nothing."""
    persist: bool = False
    """Whether the pictures are to be carried to the customer's own bucket; the same."""
    metadata: Metadata = ()
    """What is written on the jobs of a new order; the same."""
    traceparent: str | None = None
    """The span that the jobs of a new order belong to (W3C Trace Context)."""


class Queued(msgspec.Struct, frozen=True):
    """That an order is to be collected later: its jobs wait in the queue, and nobody is attached.

    Args:
        job_class: JOB or BATCH.
        priority: among the queued jobs of its customer, 1 to 2^31 - 1, the lowest first.
        not_before: when they may begin, milliseconds since 1970; None: at once.
        batch_id: of the batch that they are lines of.
        vendor_batch: whether they go to a vendor's Batch API, at the price of that.
    """

    job_class: JobClass = JobClass.JOB
    priority: int = 100
    not_before: int | None = None
    batch_id: str | None = None
    vendor_batch: bool = False


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


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a job, as its rows tell it.

    Args:
        name: the same on every process that looks, and no other step of the job has it.
        state: the job's from then on.
        stage: what was finished, if this is about a stage.
        at: when, milliseconds since 1970.
        attempt: of which attempt, counted from 1.
        reason: why the attempt failed, in words that name no account.
        cancelling: the customer does not want the picture any more.
    """

    name: str
    state: JobState
    stage: Stage | None
    at: int
    attempt: int | None = None
    reason: str | None = None
    cancelling: bool = False


class Standing(msgspec.Struct, frozen=True):
    """Where a job stands.

    Args:
        place: how many waiting jobs are before it; None: it waits in no line.
        finish_at: when it will have ended, milliseconds since 1970, as far as one can tell.
    """

    place: int | None = None
    finish_at: int | None = None


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """How fast pictures of one kind would be made now, as far as one can tell.

    Args:
        serves: whether an account can make them now.
        images_per_minute: that may begin, by the limits of the accounts; None: no limit is known.
        burst: how many of them may begin at once, before they are spaced; None: all.
        window_s: in how many seconds at most a minute's images begin.
        at_once: how many may be in the making; None: not bounded.
        generation_s: how long half of the pictures take at most; None: not measured yet.
        waiting: jobs that come first.
    """

    serves: bool = False
    images_per_minute: float | None = None
    burst: int | None = None
    window_s: float = 60.0
    at_once: int | None = None
    generation_s: float | None = None
    waiting: int = 0


class JobPage(msgspec.Struct, frozen=True):
    """Some of a customer's jobs, and whether more follow."""

    jobs: tuple[Job, ...]
    has_more: bool


class StatementPage(msgspec.Struct, frozen=True):
    """Statement lines, oldest first, and whether more follow."""

    lines: tuple[StatementLine, ...]
    has_more: bool
