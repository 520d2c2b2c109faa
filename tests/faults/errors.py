"""The refusals of the fault upstream: status and body as the vendors and relays write them.

They carry the ids and addresses that real ones carry, so that tests can look for leaks.
"""

from __future__ import annotations

from typing import Any

from faults.script import Behaviour, Kind

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


def refusal(behaviour: Behaviour, *, model: str, key: str) -> Refusal:
    """Return status and body for a behaviour that is an error."""
    match behaviour.kind:
        case Kind.STATUS:
            return behaviour.status, behaviour.body or error(
                "The server had an error while processing your request (req_F4u1tRequest).",
                kind="server_error",
            )
        case Kind.THROTTLED:
            return 429, throttled(behaviour.retry_after)
        case Kind.MODERATION:
            return _moderation(behaviour.shape)
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


def throttled(wait: str | None) -> dict[str, Any]:
    """Return the body of a 429; its text names the wait in seconds, if one is known."""
    hint = f" Please try again in {wait}s." if wait is not None and wait.isdecimal() else ""
    return error(
        f"Rate limit reached for gpt-image-2 in organization {ORGANISATION} on images per min: "
        f"Limit 5, Used 5, Requested 1.{hint} "
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
        kind="images",
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


def _moderation(shape: str) -> Refusal:
    match shape:
        case "policy":
            return 400, error(
                "This request may contain content that is not allowed.",
                code="content_policy_violation",
            )
        case "azure":
            return 400, {
                "error": {
                    "code": "contentFilter",
                    "message": "Your task failed as a result of our safety system.",
                    "inner_error": {"code": "ResponsibleAIPolicyViolation"},
                }
            }
        case "relay_500":
            return 500, error(_REFUSED, kind="shell_api_error")
        case "relay_451":
            return 451, error("Unavailable.", kind="new_api_error")
        case "ok_200" | "stream":
            return 200, _BLOCKED
        case _:
            return 400, _BLOCKED
