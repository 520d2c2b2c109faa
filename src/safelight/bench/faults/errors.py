"""The refusals of the fault upstream: status and body as the vendors and relays write them.

They carry the ids and addresses that real ones carry, so that tests can look for leaks.
"""

from __future__ import annotations

from typing import Any

from safelight.bench.faults.script import Behaviour, Kind

ORGANISATION = "org-F4u1tUpstream0123"
LEAKS = (ORGANISATION, "proj_F4u1tProject", "req_F4u1tRequest", "platform.openai.com", "https://")
"""What must never reach a caller."""

Refusal = tuple[int, dict[str, Any]]


def error(
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return an OpenAI error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def refusal(behaviour: Behaviour, *, model: str, key: str, prompt: str = "") -> Refusal:
    """Return status and body for a behaviour that is an error."""
    match behaviour.kind:
        case Kind.STATUS:
            return behaviour.status, behaviour.body or error(
                "The server had an error while processing your request (req_F4u1tRequest).",
                kind="server_error",
            )
        case Kind.THROTTLED:
            return 429, behaviour.body or throttled(behaviour.retry_after)
        case Kind.MODERATION:
            return _REFUSALS[behaviour.shape_for(prompt)]
        case Kind.AUTH:
            shown = f"{key[:3]}***{key[-4:]}"
            text = f"Incorrect API key provided: sk-{shown}. See https://platform.openai.com/keys."
            return 401, error(text, code="invalid_api_key")
        case Kind.MODEL_MISSING | Kind.MODEL_GONE:
            return _no_model(behaviour.kind, model)
        case _:
            return _FIXED[behaviour.kind]


def _no_model(kind: Kind, model: str) -> Refusal:
    if kind is Kind.MODEL_MISSING:
        text = f"The model `{model}` does not exist or you do not have access to it."
        return 404, error(text, code="model_not_found")
    return 400, error(
        f"The model '{model}' does not exist.",
        kind="image_generation_user_error",
        code="invalid_value",
        param="model",
    )


def throttled(
    wait: str | None, *, what: str = "images", limit: float = 5, used: float = 5, requested: int = 1
) -> dict[str, Any]:
    """Return the body of a 429; its text names the wait in seconds, if one is known."""
    hint = f" Please try again in {wait}s." if wait is not None and wait.isdecimal() else ""
    return error(
        f"Rate limit reached for gpt-image-2 in organization {ORGANISATION} on {what} per min: "
        f"Limit {limit:g}, Used {used:g}, Requested {requested}.{hint} "
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
        kind=what,
        code="rate_limit_exceeded",
    )


_FIXED: dict[Kind, Refusal] = {
    Kind.QUOTA: (
        429,
        error(
            f"You exceeded your current quota ({ORGANISATION}), please check your plan.",
            kind="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    Kind.BILLING_LIMIT: (
        400,
        error(
            "Billing hard limit has been reached",
            kind="image_generation_user_error",
            code="billing_hard_limit_reached",
        ),
    ),
    Kind.PAYMENT: (402, error("Insufficient Balance")),
    Kind.FORBIDDEN: (
        403,
        error(f"Your organization {ORGANISATION} must be verified to use the model `gpt-image-2`."),
    ),
    Kind.BAD_PARAM: (
        400,
        error(
            "Invalid value: 'purple'. Supported values are: 'low', 'medium' and 'high'. "
            "See https://platform.openai.com/docs (req_F4u1tRequest, proj_F4u1tProject).",
            kind="image_generation_user_error",
            code="invalid_value",
            param="quality",
        ),
    ),
    Kind.ERROR_200: (
        200,
        error(
            "Image generation failed (req_F4u1tRequest).",
            kind="image_generation_server_error",
            code="image_generation_failed",
        ),
    ),
    Kind.EMPTY: (200, {"created": 1_800_000_000, "data": []}),
}

_REFUSED = (
    "Your request was rejected by the safety system. If you believe this is an error, contact us "
    "at help.openai.com and include the request ID req_F4u1tRequest."
)
DETAILS = {"moderation_stage": "input", "categories": ["violence"]}
_BLOCKED = error(
    _REFUSED,
    kind="image_generation_user_error",
    code="moderation_blocked",
    moderation_details=DETAILS,
)


_REFUSALS: dict[str, Refusal] = {
    "openai": (400, _BLOCKED),
    "no_code": (400, error(_REFUSED, kind="image_generation_user_error")),
    "policy": (
        400,
        error(
            "This request may contain content that is not allowed.",
            code="content_policy_violation",
        ),
    ),
    "azure": (
        400,
        {
            "error": {
                "code": "contentFilter",
                "message": "Your task failed as a result of our safety system.",
                "inner_error": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
    ),
    "content_filter": (
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "The prompt triggered the content management policy (filter).",
                "param": "prompt",
                "type": None,
                "inner_error": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_results": {"violence": {"filtered": True}},
                },
            }
        },
    ),
    "relay_500": (500, error(_REFUSED, kind="shell_api_error")),
    "relay_451": (451, error("Unavailable.", kind="new_api_error")),
    "ok_200": (200, _BLOCKED),
    "stream": (200, _BLOCKED),
}
