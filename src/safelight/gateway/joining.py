"""Which earlier request a new one is a retry of: the rule that makes one order one image.

Two ways to be recognised. An `Idempotency-Key` names the order. Without one, the SDK's
`x-stainless-retry-count` above zero with the same key and an equal body is the retry of an order
whose caller has left. Equal bodies without either are two orders.

Retries map one to one onto the attempts they repeat: a retry with count k may only claim a request
whose newest caller had a lower count, and each claim raises that count in a compare-and-set. So of
fifty identical orders in flight, fifty retries collect fifty different pictures.

A retry repeats its call as it was: that of a waiting caller never claims an order that was answered
with its job's id, nor the other way about, even where a killed process could not note the answer.
Only an `Idempotency-Key` names an order whichever way it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from safelight import job_lists, jobs
from safelight.db import Transaction
from safelight.errors import IdempotencyKeyReused
from safelight.gateway.failures import is_retryable
from safelight.gateway.orders import Caller, Order
from safelight.types import ImageRequest, Job, JobClass, JobState

JOIN_WINDOW_MS = 15 * 60 * 1000
"""A retry joins a request of at most this age."""
KEY_LIFE_MS = 24 * 3600 * 1000
"""An Idempotency-Key is remembered this long after its last job ended."""
JOIN_GRACE_S = 1.0
"""How long a retry waits for the old connection of its order to be seen closing."""
JOIN_LOOK_S = 0.25
"""How often it looks meanwhile: another process does not say here that it saw one close."""
SLACK_MS = 500
"""The caller's clock starts before its request is here."""


def fingerprint(request: ImageRequest, route: str) -> bytes:
    """Return the digest of what is ordered: route, fields with defaults, digests of the inputs."""
    return hashlib.sha256(route.encode() + b"\0" + msgspec.json.encode(request)).digest()


class Busy(Exception):
    """Only requests whose caller is still connected could be joined."""


def by_key(
    tx: Transaction, caller: Caller, digest: bytes, *, now_ms: int, owner: str
) -> tuple[Order | None, str | None]:
    """Find the order of the caller's Idempotency-Key.

    Returns:
        The order to join, or None, and then the id of the failed request that the new one retries.

    Raises:
        IdempotencyKeyReused: the key belongs to another body.
    """
    assert caller.idempotency_key is not None
    request = jobs.request_by_idempotency_key(
        tx, caller.customer_id, caller.route, caller.idempotency_key
    )
    if request is None:
        return None, None
    members = jobs.jobs_of(tx, request.id)
    if _ended_before(members, now_ms - KEY_LIFE_MS):
        jobs.free_idempotency_key(tx, request.id)
        return None, None
    if request.fingerprint != digest:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used with another request body; send a new key for a new "
            "order.",
            param="Idempotency-Key",
        )
    if may_be_ordered_again(members):
        jobs.free_idempotency_key(tx, request.id)
        return None, request.id
    jobs.claim_request(
        tx,
        request,
        owner=owner,
        retry_count=request.retry_count,
        until=waits_until(caller, now_ms),
    )
    return _joined(request.id, members, request.retry_count), None


def by_retry_count(
    tx: Transaction,
    caller: Caller,
    digest: bytes,
    *,
    now_ms: int,
    owner: str,
    queued: bool,
    alive: Callable[[Transaction, str], bool],
    patient: bool,
) -> tuple[Order | None, str | None]:
    """Find and claim the order that the SDK's own retry repeats.

    In this order: one whose caller has left, or had its connection to a process that died; with
    patience, none yet, while the caller of one may be about to be seen leaving; one that was
    answered with a failure worth another order (it is consumed); one whose caller must have given
    up though its connection still stands, as behind a proxy. A caller who may still be waiting
    never loses its order to a stranger's retry.

    Args:
        tx: a transaction that may write.
        caller: who retries.
        digest: fingerprint of the body.
        now_ms: the present.
        owner: this process.
        queued: whether it is asked for jobs to be collected later.
        alive: whether a process lives.
        patient: whether to raise Busy rather than to look further.

    Raises:
        Busy: patient, and the order may be one whose caller still looks connected.
    """
    candidates = jobs.requests_to_join(
        tx,
        key_id=caller.key_id,
        fingerprint=digest,
        since_ms=now_ms - JOIN_WINDOW_MS,
        below_retry_count=caller.retry_count,
    )
    members = {request.id: jobs.jobs_of(tx, request.id) for request in candidates}
    candidates = [one for one in candidates if _was_queued(members[one.id]) is queued]
    failed = [request for request in candidates if may_be_ordered_again(members[request.id])]
    good = [request for request in candidates if request not in failed]
    free = [one for one in good if one.attached_by is None or not alive(tx, one.attached_by)]
    attached = [
        one for one in good if one not in free and one.retry_count == caller.retry_count - 1
    ]

    def claimed(request: jobs.RequestRow) -> bool:
        until = waits_until(caller, now_ms)
        return jobs.claim_request(
            tx, request, owner=owner, retry_count=caller.retry_count, until=until
        )

    for request in free:
        if claimed(request):
            return _joined(request.id, members[request.id], caller.retry_count), None
    if patient and attached:
        raise Busy
    for request in failed:
        if claimed(request):
            jobs.deliver_request(tx, request.id, retry_count=caller.retry_count)
            return None, request.id
    # Of any count: retries between may have been lost with their connections.
    for request in good:
        if request.attached_until <= now_ms + SLACK_MS and claimed(request):
            return _joined(request.id, members[request.id], caller.retry_count), None
    return None, None


def _was_queued(members: tuple[Job, ...]) -> bool:
    """Return whether the order was placed to be collected later."""
    return members[0].job_class is not JobClass.INTERACTIVE


def waits_until(caller: Caller, now_ms: int) -> int:
    """Return when a caller that comes now stops waiting by itself, milliseconds since 1970."""
    return now_ms + round(caller.patience_s * 1000)


def _joined(request_id: str, members: tuple[Job, ...], retry_count: int) -> Order:
    return Order(
        request_id=request_id,
        jobs=members,
        retry_count=retry_count,
        joined=True,
        replayed=all(job.state.terminal for job in members),
    )


def may_be_ordered_again(members: tuple[Job, ...]) -> bool:
    """All failed, and at least one in a way that may end otherwise next time."""
    return all(job.state is JobState.FAILED for job in members) and any(
        job.failure is not None and is_retryable(job.failure) for job in members
    )


def told_to_repeat(tx: Transaction, request_id: str) -> bool:
    """Whether the answer of an order told its caller to send it again."""
    # Nearly always nothing has failed, and no job need be read for that.
    failed = job_lists.count_failed(tx, request_id)
    return failed > 0 and to_be_repeated(jobs.jobs_of(tx, request_id))


def to_be_repeated(members: tuple[Job, ...]) -> bool:
    """The order failed, and its answer told the caller to send it again."""
    return may_be_ordered_again(members) and any(
        job.failure is not None and job.failure.should_retry for job in members
    )


def _ended_before(members: tuple[Job, ...], time_ms: int) -> bool:
    return all(job.completed_at is not None and job.completed_at < time_ms for job in members)
