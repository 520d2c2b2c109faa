"""Errors on the wire: OpenAI's envelope, its four keys always, and the headers that go with it.

Renders only; what happened was decided where the error was made. A finished job's `JobFailure`
and a `SafelightError` carry the same facts and render alike.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable
from http import HTTPStatus

import msgspec

from safelight.errors import SafelightError
from safelight.notices import LimitNotice
from safelight.types import JobFailure

Problem = SafelightError | JobFailure
Headers = list[tuple[bytes, bytes]]

GUARDS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""What every answer says to browsers and caches, unless it says otherwise itself."""
_RETRY_AFTER_MAX_S = 60
"""Older SDKs ignore a longer Retry-After (openai < 2.52)."""


def wire_status(problem: Problem) -> int:
    """Return the status to answer: never 502 or 504, whose bodies CDNs replace by their own pages.

    Failures that an earlier release stored may have one of them.
    """
    return 503 if problem.status in (502, 504) else problem.status


def error_object(problem: Problem, *, job_id: str | None = None) -> dict[str, object]:
    """Return the `error` object (OpenAI's `Error` schema; `moderation_details` where known).

    `job_id` is added where the error is the word on a job: headers are lost on many ways.
    """
    found: dict[str, object] = {
        "message": problem.message,
        "type": problem.type,
        "param": problem.param,
        "code": problem.code,
    }
    if problem.moderation_details is not None:
        found["moderation_details"] = problem.moderation_details
    if job_id is not None:
        found["job_id"] = job_id
    return found


def error_body(problem: Problem, *, job_id: str | None = None) -> bytes:
    """Return the whole JSON body of an error answer."""
    return msgspec.json.encode({"error": error_object(problem, job_id=job_id)})


def error_headers(problem: Problem) -> Headers:
    """Return `x-should-retry`, `Retry-After` in whole seconds when a time is known, and limits."""
    headers = [(b"x-should-retry", b"true" if problem.should_retry else b"false")]
    if problem.retry_after_s is not None:
        seconds = min(max(math.ceil(problem.retry_after_s), 1), _RETRY_AFTER_MAX_S)
        headers.append((b"retry-after", str(seconds).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(problem, SafelightError):
        headers += limit_headers(problem.limits)
    return headers


def limit_headers(notices: Iterable[LimitNotice]) -> Headers:
    """Return OpenAI's `x-ratelimit-...` headers for the limits of the caller's key."""
    headers: Headers = []
    for notice in notices:
        for name, value in (
            ("limit", _number(notice.limit)),
            ("remaining", _number(notice.remaining)),
            ("reset", _duration(notice.reset_s)),
        ):
            if value is not None:
                headers.append((f"x-ratelimit-{name}-{notice.unit}".encode(), value.encode()))
    return headers


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _duration(seconds: float | None) -> str | None:
    """Return a time as OpenAI writes it: `250ms`, `7.5s`, `1m0s`."""
    if seconds is None:
        return None
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{f'{minutes}m' if minutes else ''}{rest / 1000:g}s"


def whole_answer(error: SafelightError) -> bytes:
    """Return an error as the bytes of an answer, for what is refused before it is a request."""
    body = error_body(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", f"req_{secrets.token_hex(16)}".encode()),
        (b"connection", b"close"),
        *error_headers(error),
        *GUARDS,
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    phrase = HTTPStatus(error.status).phrase
    return f"HTTP/1.1 {error.status} {phrase}\r\n".encode() + lines + b"\r\n" + body
