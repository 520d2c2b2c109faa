"""What a failed attempt becomes: the next attempt, or the job's last word.

Owns the table from fault class to policy, and the words of a job's `JobFailure`, which is stored
and which the skins render as it is. The classes are those of the failure catalogue
(docs/failures.md).
"""

from __future__ import annotations

from safelight.errors import FaultClass, UpstreamError, storage_refusal
from safelight.types import JobFailure

BAD_OUTPUT_MAX = 4
"""Attempts that may answer an unusable picture. Each is paid; but where one in twenty is, a second
one in a row meets one order in four hundred."""

_NEXT = "Every attempt failed; nothing was charged. Try again later."
_AGAIN = "Nothing was charged; send the request again."

DOWN_RETRY_S = 30.0
"""Advice while all upstreams are down: two of the SDK's retries bridge a minute of it."""
WAITING_RETRY_S = 30.0

CANCELLED = "job_cancelled"
"""The code of a job that its customer cancelled."""

MODERATION = "moderation_blocked"
"""The code of a refused prompt or input."""

OUR_DISK = "storage_failed"
"""What adapters call a spool that cannot be written."""


class Failed(Exception):
    """The job's last word is a failure."""

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def worth_retrying(error: UpstreamError, *, bad_outputs: int) -> bool:
    """Return whether another attempt may hide this fault."""
    if error.fault is FaultClass.CLIENT:
        return False
    if error.code == OUR_DISK:
        # Another account would sell a picture that cannot be kept either.
        return False
    return not (error.fault is FaultClass.BAD_OUTPUT and bad_outputs >= BAD_OUTPUT_MAX)


def final_failure(error: UpstreamError, *, retried: bool) -> JobFailure:
    """Return the job's last word after `error`.

    Args:
        error: the last attempt's fault.
        retried: whether the gateway has used its own attempts; then the SDK shall not add its own.
    """
    if error.fault is FaultClass.CLIENT:
        kind = "invalid_request_error"
        if error.code == MODERATION:
            kind = "image_generation_user_error"
        return JobFailure(
            status=error.final_status if error.final_status < 500 else 400,
            type=kind,
            code=error.code,
            message=error.message,
            param=error.param,
            moderation_details=error.moderation_details,
        )
    if error.code == OUR_DISK:
        return not_stored("storage_full")
    if error.fault is FaultClass.THROTTLED:
        return JobFailure(
            status=429,
            type="requests",
            code="rate_limit_exceeded",
            message="The upstream's rate limit is reached; wait and send the request again.",
            should_retry=not retried,
            retry_after_s=error.retry_after_s,
        )
    if error.fault in (FaultClass.QUOTA, FaultClass.AUTH):
        return unavailable("pool_exhausted", "No account can serve this now; tell your operator.")
    if error.fault is FaultClass.CAPABILITY:
        return unavailable("model_unavailable", "No account serves this model; tell your operator.")
    return JobFailure(
        status=error.final_status,
        type="server_error",
        code=error.code,
        message=f"{error.message} {_NEXT if retried else _AGAIN}",
        should_retry=not retried,
        retry_after_s=error.retry_after_s,
    )


def unavailable(code: str, message: str) -> JobFailure:
    """Return a 503 that no retry of the SDK can mend."""
    return JobFailure(status=503, type="service_unavailable_error", code=code, message=message)


def out_of_time() -> JobFailure:
    """Return the failure of a job whose deadline passed."""
    return JobFailure(
        status=503,
        type="server_error",
        code="deadline_exceeded",
        message="No upstream finished the picture before the deadline. Nothing was charged.",
        should_retry=True,
    )


def busy(wait_s: float) -> JobFailure:
    """Return the failure of a job that gets no turn before its deadline, only in `wait_s`."""
    wait_s = max(wait_s, 1.0)
    return JobFailure(
        status=429,
        type="requests",
        code="rate_limit_exceeded",
        message="All accounts are at their limit and the line before them is as long as your "
        f"deadline allows; send the request again in {wait_s:.0f} s. Nothing was charged.",
        should_retry=True,
        retry_after_s=wait_s,
    )


def too_many_waiting(who: str) -> JobFailure:
    """Return the failure of a job that found as many waiting as may."""
    return JobFailure(
        status=429,
        type="requests",
        code="rate_limit_exceeded",
        message=f"{who} as many jobs waiting as may; let some finish and send the request again. "
        "Nothing was charged.",
        should_retry=True,
        retry_after_s=WAITING_RETRY_S,
    )


def down() -> JobFailure:
    """Return the failure of a call that came while every upstream was down."""
    return JobFailure(
        status=503,
        type="service_unavailable_error",
        code="upstream_down",
        message="No upstream answers at the moment; the gateway looks for them all the time. "
        "Nothing was charged; send the request again.",
        should_retry=True,
        retry_after_s=DOWN_RETRY_S,
    )


def not_stored(code: str) -> JobFailure:
    """Return the failure of a job whose picture could not be kept.

    Args:
        code: why, one of those of `safelight.errors.storage_code`.
    """
    refusal = storage_refusal(code)
    return JobFailure(
        status=refusal.status,
        type=refusal.type,
        code=code,
        message=f"The picture could not be stored. {refusal.message}",
        should_retry=refusal.should_retry,
        retry_after_s=refusal.retry_after_s,
    )


def cancelled() -> JobFailure:
    """Return the end of a job that its customer did not want any more."""
    return JobFailure(
        status=409,
        type="invalid_request_error",
        code=CANCELLED,
        message="The job was cancelled; nothing was charged. Order again for a new one.",
    )


def internal() -> JobFailure:
    """Return the failure of a job that hit a fault of our own."""
    return JobFailure(
        status=500,
        type="server_error",
        code="internal_error",
        message="The gateway failed on this job; its id finds the cause in the log. "
        "Nothing was charged.",
        should_retry=True,
    )


def is_retryable(failure: JobFailure) -> bool:
    """Return whether a new order of the same body may end otherwise (it frees the key)."""
    return failure.status >= 500 or failure.status == 429
