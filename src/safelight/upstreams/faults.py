"""What an upstream's refusal means: from status, headers and body to one `UpstreamError`.

Owns the reading of error bodies in the shapes seen in the wild (OpenAI, Azure, relays, FastAPI
servers), the classification, and the reading of waiting times. Pure; transport faults (timeouts,
resets) are classified where they happen, in `openai_transport.py`.

The order of evidence is: the error's code, then its text, and the HTTP status last. Relays hide
refusals behind 500 and money problems behind 400 and 429; a status taken at its word would retry
the one and never notice the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

import msgspec

from safelight.errors import FaultClass, UpstreamError
from safelight.upstreams.openai_scrub import scrub, scrub_tree

RETRY_AFTER_MAX_S: Final = 86_400.0
_MESSAGE_READ: Final = 4000
"""Characters of a message that are looked through."""


class ErrorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says, unscrubbed; empty strings where it says nothing."""

    code: str = ""
    inner_code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    moderation_details: dict[str, object] | None = None


class _Kind(Enum):
    """What went wrong, before it is turned into blame."""

    MODERATION = auto()
    QUOTA = auto()
    AUTH = auto()
    CAPABILITY = auto()
    THROTTLED = auto()
    CALLER = auto()
    SERVER = auto()
    CUT = auto()
    """A CDN gave up waiting for work that was going on (524)."""
    NOT_JSON = auto()


_CODES: Final[Mapping[str, _Kind]] = {
    code: kind
    for kind, codes in {
        _Kind.MODERATION: (
            "moderation_blocked content_policy_violation content_filter contentfilter "
            "image_content_policy_violation responsibleaipolicyviolation"
        ),
        _Kind.QUOTA: (
            "insufficient_quota credit_balance_exhausted billing_hard_limit_reached "
            "billing_not_active insufficient_user_quota insufficient_balance"
        ),
        _Kind.AUTH: (
            "invalid_api_key incorrect_api_key invalid_authentication authentication_error "
            "account_deactivated token_expired token_revoked"
        ),
        _Kind.CAPABILITY: (
            "model_not_found deploymentnotfound operationnotsupported model_not_available "
            "unsupported_country_region_territory"
        ),
        _Kind.THROTTLED: "rate_limit_exceeded slow_down too_many_requests toomanyrequests",
        _Kind.SERVER: (
            "image_generation_failed server_is_overloaded server_error internal_error "
            "internal_server_error service_unavailable engine_overloaded"
        ),
        _Kind.CALLER: (
            "invalid_value unknown_parameter unsupported_parameter missing_required_parameter "
            "invalid_type invalid_input_fidelity_model unsupported_file_mimetype invalid_image "
            "invalid_image_file image_too_large invalid_prompt string_above_max_length "
            "unsupported_value"
        ),
    }.items()
    for code in codes.split()
}
_SPENT_CODE = re.compile(r"[a-z_]*_(?:spend|usage)_limit_exceeded")

_MESSAGES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (
            (
                r"safety system|content (?:management )?polic|content[ _]filter|usage polic|"
                r"(?:blocked|rejected|refused|flagged) by .{0,40}moderation"
            ),
            _Kind.MODERATION,
        ),
        (
            (
                r"exceeded your current quota|insufficient (?:account )?(?:quota|balance|credit)|"
                r"billing (?:hard )?limit|credit balance|out of credits|"
                r"(?:usage|spend(?:ing)?) limit (?:has been )?(?:reached|exceeded)"
            ),
            _Kind.QUOTA,
        ),
        (r"(?:incorrect|invalid) api key", _Kind.AUTH),
        (
            (
                r"model\b.{0,80}\b(?:does not exist|not found|not supported)|must be verified|"
                r"not have access to (?:the )?model|deployment.{0,80}does not exist"
            ),
            _Kind.CAPABILITY,
        ),
        (r"rate limit (?:reached|exceeded)|too many requests", _Kind.THROTTLED),
    )
)

_STATUSES: Final[Mapping[int, _Kind]] = {
    400: _Kind.CALLER,
    401: _Kind.AUTH,
    402: _Kind.QUOTA,
    403: _Kind.CAPABILITY,
    404: _Kind.CAPABILITY,
    405: _Kind.CAPABILITY,
    413: _Kind.CALLER,
    415: _Kind.CALLER,
    422: _Kind.CALLER,
    429: _Kind.THROTTLED,
    451: _Kind.MODERATION,
    524: _Kind.CUT,
}
# The vendor's invitation to write to the vendor; its address and id would be scrubbed, and its help
# is not ours to promise.
_CONTACT: Final = re.compile(
    r"\s*(?:if you (?:believe|think)\b[^.]{0,120},\s*)?(?:please )?contact us (?:at|through)\b"
    r".{0,200}?\brequest id:?\s*[\w-]{0,80}\.?",
    re.IGNORECASE | re.DOTALL,
)
# Without a JSON body these come from something in front of the API (a firewall, a captive page).
_NEEDS_JSON: Final = frozenset({400, 403, 404, 405, 415, 422})
# The error's type decides only where there is no status: inside a 200 or a stream.
_TYPES: Final[Mapping[str, _Kind]] = {
    "invalid_request_error": _Kind.CALLER,
    "image_generation_user_error": _Kind.CALLER,
    "authentication_error": _Kind.AUTH,
    "permission_error": _Kind.CAPABILITY,
    "rate_limit_error": _Kind.THROTTLED,
    "requests": _Kind.THROTTLED,
    "tokens": _Kind.THROTTLED,
    "images": _Kind.THROTTLED,
    "input-images": _Kind.THROTTLED,
}


def read_error(document: object) -> ErrorFacts | None:
    """Return what an error body says, or None if the document states no error.

    Takes OpenAI's `{"error": {...}}`, the same inside a stream event, errors as a text, FastAPI's
    `detail`, and flat `{"type": "error", "message": ...}`.
    """
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict) and error:
        return _facts(error)
    if isinstance(error, str) and error:
        return ErrorFacts(message=_text(document.get("message")) or error)
    detail = document.get("detail")
    if detail:
        return ErrorFacts(message=_detail_text(detail))
    if document.get("type") == "error" or document.get("object") == "error":
        return _facts(document)
    return None


def _facts(error: Mapping[str, object]) -> ErrorFacts:
    inner = error.get("inner_error") or error.get("innererror")
    details = error.get("moderation_details")
    kind = _text(error.get("type"))
    return ErrorFacts(
        code=_text(error.get("code")),
        inner_code=_text(inner.get("code")) if isinstance(inner, dict) else "",
        type="" if kind == "error" else kind,
        message=_text(error.get("message")),
        param=_text(error.get("param")),
        moderation_details=details if isinstance(details, dict) else None,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _detail_text(detail: object) -> str:
    """Return FastAPI's validation messages as one text."""
    if isinstance(detail, list):
        found = (item.get("msg") for item in detail if isinstance(item, dict))
        return "; ".join(text for text in found if isinstance(text, str))
    return _text(detail)


def classify(
    status: int,
    headers: Mapping[str, str],
    document: object,
    *,
    now_ms: int,
    known: Sequence[str] = (),
) -> UpstreamError:
    """Return the error that an answer without a picture amounts to.

    Args:
        status: the answer's HTTP status; 200 for an error inside a good answer or a stream.
        headers: the answer's headers, case-insensitive.
        document: the parsed body, or None if it was no JSON.
        now_ms: wall-clock milliseconds, for Retry-After dates.
        known: this account's secrets, removed from any text by value.
    """
    facts = read_error(document)
    if facts is None:
        plain = document.get("message") if isinstance(document, dict) else None
        facts = ErrorFacts(message=_text(plain))
    kind = _kind(status, facts, is_json=document is not None)
    wait = retry_after_s(headers, facts.message, now_ms=now_ms)
    error = _build(kind, status, facts, wait, known)
    error.upstream_request_id = headers.get("x-request-id")
    return error


def _kind(status: int, facts: ErrorFacts, *, is_json: bool) -> _Kind:
    for code in (facts.inner_code.lower(), facts.code.lower()):
        if code in _CODES or _SPENT_CODE.fullmatch(code):
            kind = _CODES.get(code, _Kind.QUOTA)
            # "The model 'x' does not exist" is a bad value of a parameter that we chose.
            return _Kind.CAPABILITY if kind is _Kind.CALLER and facts.param == "model" else kind
    if facts.type == "insufficient_quota":
        return _Kind.QUOTA
    for pattern, kind in _MESSAGES:
        if pattern.search(facts.message):
            return kind
    if not is_json and status in _NEEDS_JSON:
        return _Kind.NOT_JSON
    if status in _STATUSES:
        named = _STATUSES[status]
        return _Kind.CAPABILITY if named is _Kind.CALLER and facts.param == "model" else named
    return _TYPES.get(facts.type, _Kind.SERVER) if status < 300 else _Kind.SERVER


def _build(
    kind: _Kind, status: int, facts: ErrorFacts, wait: float | None, known: Sequence[str]
) -> UpstreamError:
    """Return the error for a kind; only CLIENT faults carry the upstream's own words."""
    match kind:
        case _Kind.MODERATION:
            return _moderation(status, facts, known)
        case _Kind.CALLER:
            return _caller(status, facts, known)
        case _Kind.QUOTA:
            what = (FaultClass.QUOTA, "upstream_quota_exhausted", "has no quota left", 503)
        case _Kind.AUTH:
            what = (FaultClass.AUTH, "upstream_auth_failed", "refused its credential", 502)
        case _Kind.CAPABILITY:
            what = (FaultClass.CAPABILITY, "model_unavailable", "does not serve this model", 503)
        case _Kind.THROTTLED:
            what = (FaultClass.THROTTLED, "rate_limit_exceeded", "is at its rate limit", 429)
        case _Kind.CUT:
            what = (FaultClass.SLOW, "upstream_timeout", "took too long", 504)
        case _Kind.NOT_JSON:
            what = (FaultClass.FAST, "upstream_not_json", "answered something unreadable", 502)
        case _Kind.SERVER:
            final = status if status in (503, 504) else 502
            what = (FaultClass.FAST, "upstream_error", "failed to make the image", final)
    fault, code, words, final = what
    return UpstreamError(
        fault,
        code,
        f"The upstream {words}.",
        status=status,
        retry_after_s=wait,
        sold=kind is _Kind.CUT,
        final_status=final,
    )


def _moderation(status: int, facts: ErrorFacts, known: Sequence[str]) -> UpstreamError:
    details = scrub_tree(facts.moderation_details, known) if facts.moderation_details else None
    message = _CONTACT.sub("", facts.message[:_MESSAGE_READ]).strip()
    return UpstreamError(
        FaultClass.CLIENT,
        "moderation_blocked",
        scrub(message, known) or "The request was rejected by the safety system.",
        status=status,
        final_status=400,
        moderation_details=details if isinstance(details, dict) else None,
    )


def _caller(status: int, facts: ErrorFacts, known: Sequence[str]) -> UpstreamError:
    param = _name(facts.param, known)
    fallback = "request_too_large" if status == 413 else "invalid_value" if param else ""
    return UpstreamError(
        FaultClass.CLIENT,
        _name(facts.code, known) or fallback or "invalid_request",
        scrub(facts.message, known) or "The upstream refused the request.",
        status=status,
        param=param,
        final_status=400,
    )


def _name(text: str, known: Sequence[str]) -> str | None:
    """Return a code or parameter name if it is one and hides nothing."""
    fine = re.fullmatch(r"[\w.\[\]-]{1,64}", text) and scrub(text, known) == text
    return text if fine else None


# ---- waiting times ----------------------------------------------------------------------------

_UNIT_S: Final = {
    "d": 86_400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_IN_TEXT = re.compile(
    rf"(?:try again|retry) (?:in|after) (?:({_DURATION.pattern})\b|(\d{{1,9}}(?:\.\d{{1,9}})?) ?"
    r"(milliseconds?|seconds?|minutes?|hours?))",
    re.IGNORECASE,
)


def retry_after_s(headers: Mapping[str, str], message: str = "", *, now_ms: int) -> float | None:
    """Return the longest wait in seconds that an answer asks for, or None if it names none.

    Reads `retry-after` (seconds or an HTTP date, RFC 9110 section 10.2.3), `retry-after-ms`,
    `x-ratelimit-reset-*` (durations such as `6m0s`; a bucket whose `remaining` is above zero is not
    the one that ran out) and "try again in 12s" in the text.
    """
    waits = [
        _after(headers.get("retry-after", ""), now_ms),
        _milliseconds(headers.get("retry-after-ms", "")),
        _wait_in_text(message),
    ]
    for name, value in headers.items():
        bucket = name.lower().removeprefix("x-ratelimit-reset-")
        if bucket != name.lower() and not _has_left(headers, bucket):
            waits.append(duration_s(value))
    known = [wait for wait in waits if wait is not None]
    return min(max(known), RETRY_AFTER_MAX_S) if known else None


def duration_s(text: str) -> float | None:
    """Return a duration such as `1s`, `6m0s`, `534ms` or `12` in seconds, or None."""
    text = text.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return math.fsum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def _after(text: str, now_ms: int) -> float | None:
    text = text.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now_ms / 1000)


def _milliseconds(text: str) -> float | None:
    text = text.strip()
    return float(text) / 1000 if _NUMBER.fullmatch(text) else None


def _has_left(headers: Mapping[str, str], bucket: str) -> bool:
    left = headers.get(f"x-ratelimit-remaining-{bucket}", "").strip()
    return bool(_NUMBER.fullmatch(left)) and float(left) > 0


def _wait_in_text(message: str) -> float | None:
    found = _IN_TEXT.search(message)
    if found is None:
        return None
    if found.group(1):
        return duration_s(found.group(1))
    number, unit = found.group(found.re.groups - 1), found.group(found.re.groups).lower()
    return float(number) * _UNIT_S["ms" if unit.startswith("milli") else unit[0]]
