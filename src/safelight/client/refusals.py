"""What an error answer means: OpenAI's envelope and a few headers become one typed error.

Owns the rules of repetition: `x-should-retry` counts where it is there (OpenAI's SDKs obey it,
too), else 408, 429 and 5xx may be sent again. A 409 is repeated only where the server says so: it
reports a state, not a hiccup.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from safelight.client.errors import Answered, OutOfMoney, RateLimited, Refused, ServiceFailed

_MONEY_CODES = frozenset(
    {"insufficient_quota", "insufficient_balance", "budget_exceeded", "billing_hard_limit_reached"}
)
_PAUSE_MIN_S = 0.5


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Answered:
    """Return the error that an answer with an error status is."""
    error = error_of(body)
    if error is None:
        kind = headers.get("content-type", "no content type").partition(";")[0]
        error = {"message": f"the address answered {status} with {kind}: is it an API's address?"}
    return answered(error, status, headers)


def error_of(body: bytes) -> Mapping[str, Any] | None:
    """Return the `error` object of a body, or None: it has none."""
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def answered(error: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Answered:
    """Return the typed error of an `error` object."""
    code = _text(error.get("code"))
    kind = _kind(status, code, _text(error.get("type")))
    return kind(
        _message(error, status),
        status=status,
        code=code,
        param=_text(error.get("param")),
        request_id=headers.get("x-request-id"),
        job_id=_text(error.get("job_id")) or headers.get("x-safelight-job-id"),
        retry_after_s=retry_after_s(headers),
        retryable=kind is not OutOfMoney and _again(status, headers),
    )


def _kind(status: int, code: str | None, type_: str | None) -> type[Answered]:
    if status == 402 or code in _MONEY_CODES or type_ == "insufficient_quota":
        return OutOfMoney
    if status == 429 or code == "rate_limit_exceeded":
        return RateLimited
    # An error under 200 is the end of an answer that had begun as white space.
    late = status == 200 and type_ not in ("invalid_request_error", "image_generation_user_error")
    return ServiceFailed if status >= 500 or status == 408 or late else Refused


def _again(status: int, headers: Mapping[str, str]) -> bool:
    advice = headers.get("x-should-retry", "").strip().lower()
    if advice in ("true", "false"):
        return advice == "true"
    return status in (408, 429) or status >= 500


def _message(error: Mapping[str, Any], status: int) -> str:
    said = error.get("message")
    message = said if isinstance(said, str) and said else f"the server answered {status}"
    param = error.get("param")
    if isinstance(param, str) and param and param not in message:
        return f"{message} ({param})"
    return message


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the answer's own wait, at least half a second (RFC 9110, section 10.2.3)."""
    raw = headers.get("retry-after", "").strip()
    if not raw:
        return None
    try:
        return max(_PAUSE_MIN_S, float(raw))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(raw).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(_PAUSE_MIN_S, moment - time.time())
