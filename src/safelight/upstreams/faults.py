"""What an upstream's refusal means: from status, headers and body to one `UpstreamError`.

Owns the reading of error bodies in the shapes seen in the wild (OpenAI, Azure, relays, FastAPI
servers) and the classification. Pure; faults of the transport (timeouts, resets) are `wire_faults`'
business.

The order of evidence is: the error's code, then its text, and the HTTP status last. Relays hide
refusals behind 500 and money problems behind 400 and 429; a status taken at its word would retry
the one and never notice the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from safelight.errors import FaultClass, Lack, UpstreamError
from safelight.upstreams.limits import limit_notices, retry_after_s, spent_unit
from safelight.upstreams.scrub import request_id, scrub, scrub_tree

_MESSAGE_READ: Final = 4000
"""Characters of a message that are looked through."""


class ErrorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an error body says, unscrubbed; empty strings where it says nothing."""

    code: str = ""
    inner_code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    status: int = 0
    """The HTTP status that the body states: a relay's note of what it was told itself."""
    moderation_details: dict[str, object] | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of which kind of server; some refusals cannot be judged without."""

    edit: bool = False
    """An edit was asked for: a missing route means that the server has none."""
    any_size: bool = False
    """The server draws any size: refusing one states its own cap, not the caller's mistake."""
    closes_accounts: bool = False
    """The server answers 403 when it has shut the whole account out (Azure)."""


_ANY: Final = Setting()


class _Kind(Enum):
    """What went wrong, before it is turned into blame."""

    MODERATION = auto()
    QUOTA = auto()
    AUTH = auto()
    CAPABILITY = auto()
    SIZE = auto()
    EDITS = auto()
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
                r"not have access to (?:the )?model|deployment.{0,80}does not exist|model mismatch"
            ),
            _Kind.CAPABILITY,
        ),
        (r"rate limit (?:reached|exceeded)|too many requests", _Kind.THROTTLED),
    )
)
_NO_EDITS: Final = re.compile(
    r"not support (?:image )?(?:edit|inpaint|image inputs?)|"
    r"(?:edit|inpaint)\w*\b.{0,40}\bnot (?:supported|available|enabled|implemented)",
    re.IGNORECASE,
)
_OF_SIZE: Final = re.compile(
    r"\b(?:size|width|height|resolution|pixels?|dimensions?)\b", re.IGNORECASE
)
_OF_FILE: Final = re.compile(r"\b(?:mask|file|upload)", re.IGNORECASE)
_OF_MODEL: Final = re.compile(r"model|deployment", re.IGNORECASE)
_NO_ROUTE: Final = frozenset({404, 405, 501})

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
# Relays add the number of their own request; proxies say whose error they repeat.
_RELAYED: Final = re.compile(
    r"\s*\(request id:? ?[\w-]{1,80}\)|^(?:litellm\.\w{1,60}: )?(?:\w{1,60}Exception - )?",
    re.IGNORECASE,
)
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
        message = _text(document.get("message"))
        return ErrorFacts(message=message or error, code=error if message else "")
    if document.get("detail"):
        return _detail(document["detail"])
    stated = document.get("type") == "error" or document.get("object") == "error"
    return _facts(document) if stated else None


def _facts(error: Mapping[str, object]) -> ErrorFacts:
    inner = error.get("inner_error") or error.get("innererror")
    details = error.get("moderation_details") or _filtered(inner)
    kind = _text(error.get("type"))
    status = error.get("status_code", error.get("code"))
    return ErrorFacts(
        code=_text(error.get("code")),
        inner_code=_text(inner.get("code")) if isinstance(inner, dict) else "",
        type="" if kind == "error" else kind,
        message=_text(error.get("message")),
        param=_text(error.get("param")),
        status=status if isinstance(status, int) and 400 <= status < 600 else 0,
        moderation_details=details if isinstance(details, dict) else None,
    )


def _filtered(inner: object) -> dict[str, object] | None:
    """Return Azure's filter results as OpenAI's moderation details."""
    results = inner.get("content_filter_results") if isinstance(inner, dict) else None
    if not isinstance(results, dict):
        return None
    found = [
        name
        for name, result in results.items()
        if isinstance(result, dict) and (result.get("filtered") or result.get("detected"))
    ]
    return {"moderation_stage": "unknown", "categories": sorted(found)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _detail(detail: object) -> ErrorFacts:
    """Read FastAPI's `detail`: a text, a list of validation messages, or an error of the server."""
    if isinstance(detail, dict):
        inside = detail.get("error")
        return _facts(inside if isinstance(inside, dict) else detail)
    if isinstance(detail, list):
        found = (item.get("msg") for item in detail if isinstance(item, dict))
        return ErrorFacts(message="; ".join(text for text in found if isinstance(text, str)))
    return ErrorFacts(message=_text(detail))


def classify(
    status: int,
    headers: Mapping[str, str],
    document: object,
    *,
    now_ms: int,
    known: Sequence[str] = (),
    setting: Setting = _ANY,
) -> UpstreamError:
    """Return the error that an answer without a picture amounts to.

    Args:
        status: the answer's HTTP status; 200 for an error inside a good answer or a stream.
        headers: the answer's headers, case-insensitive.
        document: the parsed body, or None if it was no JSON.
        now_ms: wall-clock milliseconds, for Retry-After dates.
        known: this account's secrets, removed from any text by value.
        setting: what was asked of which kind of server.
    """
    facts = read_error(document)
    if facts is None:
        plain = document.get("message") if isinstance(document, dict) else None
        facts = ErrorFacts(message=_text(plain))
    judged = facts.status or status if status < 300 else status
    kind = _kind(judged, facts, is_json=document is not None)
    kind = _in_setting(kind, status, facts, headers, setting)
    wait = retry_after_s(headers, facts.message, now_ms=now_ms)
    error = _build(kind, status, facts, wait, known)
    error.limits = limit_notices(headers)
    if kind is _Kind.THROTTLED:
        error.unit = spent_unit(headers, facts.message, facts.type)
    error.upstream_request_id = request_id(headers)
    return error


def _in_setting(
    kind: _Kind, status: int, facts: ErrorFacts, headers: Mapping[str, str], setting: Setting
) -> _Kind:
    """Return what a kind of fault comes down to, given what was asked of whom."""
    said = f"{facts.code} {facts.param} {facts.message}"
    server_s_own = setting.any_size and (400 <= status < 500 or status == 501)
    if setting.edit and server_s_own and _NO_EDITS.search(facts.message):
        return _Kind.EDITS if kind in (_Kind.CAPABILITY, _Kind.CALLER, _Kind.SERVER) else kind
    if (
        kind is _Kind.CALLER
        and server_s_own
        and _OF_SIZE.search(said)
        and not _OF_FILE.search(said)
    ):
        return _Kind.SIZE
    shut = setting.closes_accounts and status == 403 and facts.code.lower() not in _CODES
    # The text of a shut account speaks of content policies too.
    if shut and kind in (_Kind.CAPABILITY, _Kind.MODERATION):
        return _Kind.AUTH
    routed = setting.edit and kind in (_Kind.CAPABILITY, _Kind.SERVER, _Kind.NOT_JSON)
    # A web page is a proxy's; a route that is not there is answered in JSON or plain text.
    page = kind is _Kind.NOT_JSON and "html" in headers.get("content-type", "").lower()
    if status in _NO_ROUTE and routed and not page and not _OF_MODEL.search(said):
        return _Kind.EDITS
    return kind


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


_LACKS: Final[Mapping[_Kind, Lack]] = {_Kind.SIZE: "size", _Kind.EDITS: "edits"}


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
            what = (FaultClass.QUOTA, "upstream_quota_exhausted", "has no quota left")
        case _Kind.AUTH:
            what = (FaultClass.AUTH, "upstream_auth_failed", "refused its credential")
        case _Kind.CAPABILITY:
            what = (FaultClass.CAPABILITY, "model_unavailable", "does not serve this model")
        case _Kind.SIZE:
            what = (FaultClass.CAPABILITY, "size_unavailable", "does not make this size")
        case _Kind.EDITS:
            what = (FaultClass.CAPABILITY, "edits_unavailable", "does not make this edit")
        case _Kind.THROTTLED:
            what = (FaultClass.THROTTLED, "rate_limit_exceeded", "is at its rate limit")
        case _Kind.CUT:
            what = (FaultClass.SLOW, "upstream_timeout", "took too long")
        case _Kind.NOT_JSON:
            what = (FaultClass.FAST, "upstream_not_json", "answered something unreadable")
        case _Kind.SERVER:
            what = (FaultClass.FAST, "upstream_error", "failed to make the image")
    fault, code, words = what
    return UpstreamError(
        fault,
        code,
        f"The upstream {words}.",
        status=status,
        retry_after_s=wait,
        sold=kind is _Kind.CUT,
        final_status=429 if kind is _Kind.THROTTLED else 503,
        lacks=_LACKS.get(kind, "model"),
    )


def _moderation(status: int, facts: ErrorFacts, known: Sequence[str]) -> UpstreamError:
    details = scrub_tree(facts.moderation_details, known) if facts.moderation_details else None
    message = _CONTACT.sub("", _told(facts)).strip()
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
        scrub(_told(facts), known) or "The upstream refused the request.",
        status=status,
        param=param,
        final_status=400,
    )


def _told(facts: ErrorFacts) -> str:
    """Return the vendor's own words, without what relays put around them."""
    return _RELAYED.sub("", facts.message[:_MESSAGE_READ])


def _name(text: str, known: Sequence[str]) -> str | None:
    """Return a code or parameter name if it is one and hides nothing."""
    fine = re.fullmatch(r"[\w.\[\]-]{1,64}", text) and scrub(text, known) == text
    return text if fine else None
