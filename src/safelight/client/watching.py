"""Following a job to its end: its events, from any point on, over cut connections.

Owns going on after a cut (`Last-Event-ID`) and what an event changes about a job. Ordering is
`ordering`'s business.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import pybase64

from safelight.client.answers import Job, JobChange, JobEvent
from safelight.client.errors import Answered, TimedOut, Unreachable
from safelight.client.refusals import refusal
from safelight.client.sse import frames
from safelight.client.transport import Deadline, Transport, lower

_SILENCE_S = 60.0
"""A stream of events has a comment every 10 s; one that is silent for so long is dead."""
_WAIT_S = 30
_LOOK_AGAIN_S = 1.0


async def events(
    transport: Transport, job_id: str, *, after: str | None = None
) -> AsyncGenerator[JobEvent, None]:
    """Yield what happens to a job, in order, to its last event.

    A stream that is cut is gone on with where it was; only a server that tells nothing new
    several times in a row ends it.

    Raises:
        ClientError: the job is not there, or its events cannot be had.
    """
    failures, last = 0, after
    while True:
        try:
            async with aclosing(_once(transport, job_id, last)) as told:
                async for event in told:
                    failures, last = 0, event.id or last
                    yield event
                    if event.last:
                        return
            if last is not None and await _has_ended(transport, job_id):
                return
            problem: Answered | Unreachable | TimedOut = Unreachable("the events broke off")
        except (Answered, Unreachable, TimedOut) as failed:
            problem = failed
        failures += 1
        final = isinstance(problem, Answered | Unreachable) and not problem.retryable
        if final or failures > transport.patience.retries:
            raise problem
        named_s = problem.retry_after_s if isinstance(problem, Answered) else None
        await transport.patience.sleep(named_s or transport.patience.pause(failures - 1))


async def _has_ended(transport: Transport, job_id: str) -> bool:
    return (await transport.get(f"/jobs/{job_id}", Job)).ended


async def _once(
    transport: Transport, job_id: str, last: str | None
) -> AsyncGenerator[JobEvent, None]:
    """Yield the events of one connection."""
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    async with transport.stream(
        "GET", f"/jobs/{job_id}/events", timeout_s=0, silence_s=_SILENCE_S, headers=headers
    ) as response:
        if response.status == 204:
            return
        if response.status != 200:
            body = await response.content.read(64 * 1024)
            raise refusal(response.status, lower(response.headers), body)
        async for frame in frames(response.content.iter_any()):
            yield msgspec.json.decode(frame.data, type=JobEvent)


async def changes(
    transport: Transport, job_id: str, *, timeout_s: float | None = None
) -> AsyncGenerator[JobChange, None]:
    """Yield a job as it stands, after each of its events, until it has ended.

    Raises:
        TimedOut: it has not ended within `timeout_s`; the job goes on.
    """
    deadline = Deadline(transport.patience, timeout_s)
    job: Job | None = None
    async with aclosing(events(transport, job_id)) as told:
        while True:
            try:
                left_s = deadline.left_s()
                event = await asyncio.wait_for(anext(told, None), left_s)
            except (TimeoutError, TimedOut) as late:
                raise _not_ended(job_id, timeout_s) from late
            if event is None:
                return
            if job is None and event.job is None:
                job = await transport.get(f"/jobs/{job_id}", Job)
            job = _after(job, event)
            yield JobChange(job=job, event=event, partial=_partial(event))


def _after(job: Job | None, event: JobEvent) -> Job:
    if event.job is not None:
        return event.job
    assert job is not None
    told: dict[str, Any] = {"status": event.status, "stage": event.stage or job.stage}
    if event.type == "job.queued":
        told["queue_position"] = event.queue_position
    elif event.status != "queued":
        told["queue_position"] = None
    if event.expected_finish_at is not None:
        told["expected_finish_at"] = event.expected_finish_at
    if event.attempt is not None:
        told["attempts"] = event.attempt
    return msgspec.structs.replace(job, **told)


def _partial(event: JobEvent) -> bytes | None:
    if event.b64_json is None:
        return None
    try:
        return pybase64.b64decode(event.b64_json, validate=True)
    except (binascii.Error, ValueError):
        return None  # a hint that came damaged is no hint


async def ended(transport: Transport, job_id: str, *, timeout_s: float | None) -> Job:
    """Wait for a job's end by looking again and again (`?wait=`).

    Raises:
        TimedOut: it has not ended within `timeout_s`; the job goes on.
        ClientError: it cannot be looked at.
    """
    deadline, wait_s = Deadline(transport.patience, timeout_s), _WAIT_S
    while True:
        try:
            left_s = deadline.left_s()
        except TimedOut as late:
            raise _not_ended(job_id, timeout_s) from late
        step_s = wait_s if left_s is None else min(wait_s, int(left_s))
        try:
            job, known = await _look(transport, job_id, step_s)
        except Answered as problem:
            if problem.param != "wait" or wait_s == 0:
                raise
            wait_s = 0  # the operator allows only shorter waits (`max_wait_s`)
            continue
        if job.ended:
            return job
        if step_s == 0:
            await transport.patience.sleep(_pause(known, deadline))


async def _look(transport: Transport, job_id: str, wait_s: int) -> tuple[Job, Mapping[str, str]]:
    async def attempt(limit_s: float) -> tuple[Job, Mapping[str, str]]:
        path = f"/jobs/{job_id}?wait={wait_s}"
        answer = await transport.ask("GET", path, timeout_s=max(limit_s, wait_s + 10))
        return answer.as_(Job), answer.headers

    return await transport.again(attempt)


def _pause(headers: Mapping[str, str], deadline: Deadline) -> float:
    """Return when to look again: soon where little time is left, else when the server says."""
    raw = headers.get("retry-after", "")
    named_s = min(float(raw), 10.0) if raw.isascii() and raw.isdigit() else _LOOK_AGAIN_S
    try:
        left_s = deadline.left_s()
    except TimedOut:
        return 0.0
    return named_s if left_s is None else min(named_s, left_s)


def _not_ended(job_id: str, timeout_s: float | None) -> TimedOut:
    within = "in time" if timeout_s is None else f"within {timeout_s:g} s"
    return TimedOut(
        f"{job_id} has not ended {within}; it goes on: wait for it again, or cancel it",
        job_id=job_id,
    )
