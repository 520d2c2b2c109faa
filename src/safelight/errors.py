"""Every error of safelight, in one tree.

    SafelightError                    knows its HTTP status, OpenAI type, code, param, retry advice
    |-- InvalidRequest            400 the caller's request is wrong; change it
    |   |-- InvalidValue              a parameter has a value the channel does not take
    |   |-- MissingParameter          a parameter that is required was not sent
    |   |-- UnknownParameter          a parameter nobody knows
    |   |-- UnsupportedParameter      a parameter this channel does not take
    |   |-- UnknownModel              no channel of that name
    |   `-- InvalidImage              an input that is no usable picture
    |-- AuthenticationFailed      401 no key, a wrong key or a revoked key
    |-- InsufficientBalance       402 top up
    |   `-- BudgetExceeded            a budget of the key is used up
    |-- CustomerFrozen            403 the books are being looked into; nothing new is accepted
    |-- PermissionDenied          403 who calls is known, and may not do this
    |-- NotFound                  404 no such thing for this customer
    |   `-- Gone                  410 it was deleted, or its time is over
    |-- MethodNotAllowed          405 the path exists, the method does not
    |-- RequestTimeout            408 the request arrived too slowly
    |-- Conflict                  409 what is asked does not fit the present state
    |-- RequestTooLarge           413 the request is larger than the limits
    |-- UnsupportedMediaType      415 a body in a form we do not read
    |-- RangeNotSatisfiable       416 the range starts behind the picture's end
    |-- IdempotencyKeyReused      422 the key belongs to another body
    |-- HeadTooLarge              431 request line and headers are too long
    |-- RateLimited               429 nothing free now; Retry-After says when
    |-- InternalError             500 our own fault
    |-- Unavailable               503 storage full, no room, or no account left
    |   `-- ShuttingDown              draining; the next process goes on
    `-- DeadlineExceeded          503 out of time
    UpstreamError                 one failed attempt, classified; never shown to a caller as it is
    ConfigError                   the operator's configuration; names key, line and known keys
    StorageError                  the blob store could not keep or give a blob

Raisers say what happened and what to do next; skins (api, cli) only render. Upstream text reaches a
message only through `UpstreamError.message`, which adapters scrub of credentials and ids.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Literal

from safelight.notices import LimitNotice

STORAGE_UNAVAILABLE = "storage_unavailable"
"""The code of a disk that fails without saying that it is full or protected."""


class SafelightError(Exception):
    """Base of the errors that a caller may see.

    Args:
        message: what happened and what to do next, for a person.
        code: OpenAI's machine-readable code, or None.
        param: the request parameter at fault, or None.
        retry_after_s: seconds until a retry makes sense, or None.
        should_retry: overrides the class's advice to the SDK (`x-should-retry`).
        limits: what the answer's headers tell about the caller's own limits.
    """

    status = 500
    type = "server_error"
    default_code: str | None = None
    default_should_retry = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        moderation_details: dict[str, object] | None = None,
        limits: tuple[LimitNotice, ...] = (),
    ) -> None:
        super().__init__(message)
        self.limits = limits
        self.message = message
        self.code = code if code is not None else self.default_code
        self.param = param
        self.retry_after_s = retry_after_s
        self.should_retry = self.default_should_retry if should_retry is None else should_retry
        self.moderation_details = moderation_details


class InvalidRequest(SafelightError):
    """The caller's request is wrong."""

    status = 400
    type = "invalid_request_error"


class InvalidValue(InvalidRequest):
    """A parameter has a value that is not taken here."""

    default_code = "invalid_value"


class MissingParameter(InvalidRequest):
    """A required parameter was not sent."""

    default_code = "missing_required_parameter"


class UnknownParameter(InvalidRequest):
    """A parameter that no route knows."""

    default_code = "unknown_parameter"


class UnsupportedParameter(InvalidRequest):
    """A parameter that this channel does not take."""

    default_code = "unsupported_parameter"


class UnknownModel(InvalidRequest):
    """No channel of that name: 400 on image routes as OpenAI does, 404 elsewhere."""

    type = "image_generation_user_error"
    default_code = "invalid_value"

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message, param="model")
        self.status = status
        if status == 404:
            self.type = "invalid_request_error"
            self.code = "model_not_found"


class InvalidImage(InvalidRequest):
    """An input that is no usable picture."""

    default_code = "invalid_image"


class AuthenticationFailed(SafelightError):
    """No key, a wrong key or a revoked key: one shape for all."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class InsufficientBalance(SafelightError):
    """The balance does not cover the price."""

    status = 402
    type = "insufficient_quota"
    default_code = "insufficient_balance"


class BudgetExceeded(InsufficientBalance):
    """A budget of the key does not cover the price."""

    default_code = "budget_exceeded"


class CustomerFrozen(SafelightError):
    """The customer's books do not add up, or an operator has stopped the customer."""

    status = 403
    type = "permission_error"
    default_code = "customer_frozen"


class PermissionDenied(SafelightError):
    """Who calls is known, and may not do this; `code` says what is missing."""

    status = 403
    type = "permission_error"
    default_code = "permission_denied"


class NotFound(SafelightError):
    """No such thing for this customer."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class Gone(NotFound):
    """It was the customer's, and was deleted or has expired."""

    status = 410
    default_code = "image_deleted"


class MethodNotAllowed(SafelightError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class RequestTimeout(SafelightError):
    """The request arrived too slowly."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"
    default_should_retry = True


class Conflict(SafelightError):
    """What is asked does not fit the present state of the thing; repeating it changes nothing."""

    status = 409
    type = "invalid_request_error"
    default_code = "conflict"


class RequestTooLarge(SafelightError):
    """The request is larger than the limits."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMediaType(SafelightError):
    """A body in a form that is not read here."""

    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class RangeNotSatisfiable(SafelightError):
    """The range starts behind the picture's end."""

    status = 416
    type = "invalid_request_error"
    default_code = "range_not_satisfiable"


class IdempotencyKeyReused(SafelightError):
    """The Idempotency-Key belongs to a request with another body."""

    status = 422
    type = "invalid_request_error"
    default_code = "idempotency_key_reused"


class HeadTooLarge(SafelightError):
    """The request line and headers are longer than the limit."""

    status = 431
    type = "invalid_request_error"
    default_code = "request_header_fields_too_large"


class RateLimited(SafelightError):
    """Nothing is free now; `retry_after_s` says when."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"
    default_should_retry = True


class InternalError(SafelightError):
    """Our own fault; the request id finds it in the log."""

    default_code = "internal_error"


class Unavailable(SafelightError):
    """Nobody can serve this now."""

    status = 503
    type = "service_unavailable_error"
    default_code = "unavailable"


class ShuttingDown(Unavailable):
    """This process is leaving; its jobs go on in the next one, and a retry finds them there."""

    default_code = "shutting_down"

    def __init__(
        self, message: str = "The gateway is shutting down; send the request again in a moment."
    ) -> None:
        super().__init__(message, retry_after_s=2, should_retry=True)


class DeadlineExceeded(SafelightError):
    """Out of time; a retry joins the job if it is still running."""

    status = 503
    default_code = "deadline_exceeded"
    default_should_retry = True


class FaultClass(StrEnum):
    """What a failed attempt means for the account and for the next attempt.

    The classes of the failure catalogue: where a fault is booked and who may try next follow from
    the class alone, never from the HTTP status.
    """

    THROTTLED = "throttled"
    """The limiter group is out of budget: cool it, go elsewhere."""
    QUOTA = "quota"
    """The group has no money upstream: out until it is probed."""
    AUTH = "auth"
    """The credential is refused: the account is out after one."""
    CAPABILITY = "capability"
    """This account cannot serve this model, size or edit: out for what it lacks."""
    FAST = "fast"
    """A quick failure (5xx, HTML page): try elsewhere."""
    SLOW = "slow"
    """A timeout, stall or cut body: try elsewhere."""
    BAD_OUTPUT = "bad_output"
    """An answer that is no usable picture: one try elsewhere."""
    LOCAL = "local"
    """The call never left us (connect refused, DNS): try elsewhere, blame the endpoint."""
    CLIENT = "client"
    """The caller's fault or a refusal: no retry, nobody blamed."""


LimitUnit = Literal["images", "input-images", "requests", "tokens"]
"""What a vendor's limit counts per minute."""

Lack = Literal["model", "size", "edits", "mask"]
"""What an account can turn out not to serve: the model itself, one size of it, or its edits."""


class UpstreamError(Exception):
    """One failed attempt, classified by its adapter.

    Args:
        fault: who is to blame and who may try next.
        code: our wire code for a final failure (`upstream_truncated`, `moderation_blocked`, ...).
        message: scrubbed text, safe to show to a caller.
        status: HTTP status the upstream answered, or None.
        retry_after_s: the upstream's own wait, seconds, or None.
        sold: True if the upstream has probably billed us (reported as waste); None when nobody can
            say: the call left and was not answered.
        param: for CLIENT faults, the parameter the upstream named.
        final_status: HTTP status for the caller when this is the job's last word; never 502 or 504,
            whose bodies proxies replace by pages of their own.
        limits: what the answer's headers said about the limits of the account's group.
        unit: for THROTTLED faults, the limit that ran out, where the answer names it.
        lacks: for CAPABILITY faults, what the account cannot serve.
    """

    def __init__(  # noqa: PLR0913  (the facts of one failed call)
        self,
        fault: FaultClass,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        sold: bool | None = False,
        param: str | None = None,
        final_status: int = 503,
        upstream_request_id: str | None = None,
        moderation_details: dict[str, object] | None = None,
        limits: tuple[LimitNotice, ...] = (),
        unit: LimitUnit | None = None,
        lacks: Lack = "model",
    ) -> None:
        super().__init__(f"{fault}: {code}: {message}")
        self.fault = fault
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.sold = sold
        self.param = param
        self.final_status = final_status
        self.upstream_request_id = upstream_request_id
        self.moderation_details = moderation_details
        self.limits = limits
        self.unit = unit
        self.lacks = lacks


class ConfigError(Exception):
    """The operator's configuration is wrong; the message names key, file line and known keys."""


class StorageError(Exception):
    """The blob store could not keep or give a blob.

    Args:
        message: what happened and what to do, for the operator.
        code: what a caller is told, one of those of `storage_code`.
    """

    def __init__(self, message: str, *, code: str = STORAGE_UNAVAILABLE) -> None:
        super().__init__(message)
        self.code = code


def storage_code(error: OSError) -> str:
    """Return our wire code for what the operating system says of a disk."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "storage_full"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return "storage_read_only"
        case errno.EMFILE | errno.ENFILE:
            return "too_many_open_files"
        case _:
            return STORAGE_UNAVAILABLE


def storage_refusal(code: str) -> Unavailable:
    """Return what a caller is told whose bytes cannot be kept or given: 503, and free."""
    # Files are closed within a moment; space and rights come back when a person looks after them.
    again = code in ("too_many_open_files", STORAGE_UNAVAILABLE)
    return Unavailable(
        f"{_STORAGE_WORDS[code]} Nothing was charged.",
        code=code,
        retry_after_s=2 if again else None,
        should_retry=again,
    )


_STORAGE_WORDS = {
    "storage_full": "The gateway's disk is full; the operator must free space.",
    "storage_read_only": "The gateway may not write to its data; the operator must allow it.",
    "too_many_open_files": "The gateway has too many files open; send the request again.",
    STORAGE_UNAVAILABLE: "The gateway's disk fails; send the request again.",
}
