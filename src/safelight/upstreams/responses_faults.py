"""What goes wrong in a response, in the words of the Images API.

Owns the places where a response states an error (OpenAI Responses API: the response object, its
output items, stream events) and the translation of its codes and parameter names, so that
`faults.classify` judges both APIs alike and a caller reads the names that it sent. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

# Codes of `response.error` that faults.py does not know (openai SDK, types/responses).
_POLICY_CODES: Final = frozenset({"bio_policy", "misalignment_policy_violation"})
_CALLER_CODES: Final = frozenset(
    {
        "invalid_image_format",
        "invalid_base64_image",
        "image_too_small",
        "image_parse_error",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
    }
)
_ACCOUNT_CODES: Final = frozenset({"data_residency_mismatch"})

_TOOL_FIELD: Final = re.compile(r"tools(?:\[\d+\]|\.\d+)\.(\w+)")
_CONTENT: Final = re.compile(r"input\[0\]\.content\[(\d+)\]")
_CALLERS_FIELDS: Final = frozenset(
    [
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "moderation",
        "input_fidelity",
        "partial_images",
        "user",
    ]
)
_OURS: Final = "model"
"""Stands for every field that we chose: what refuses it cannot serve this account's model."""


def images_error(document: object) -> object:
    """Return an error body as the Images API would have written it.

    Takes `{"error": {...}}` and the flat `{"type": "error", ...}` of a stream event; anything else
    comes back as it is.
    """
    if not isinstance(document, dict):
        return document
    error = document.get("error")
    if isinstance(error, dict) and error:
        return {**document, "error": _translated(error)}
    if document.get("type") == "error" and not error:
        return {"error": _translated({**document, "type": ""})}
    return document


def stated_error(response: Mapping[str, object], items: Iterable[object]) -> object:
    """Return the error body that a response without a picture amounts to, None if it states none.

    Args:
        response: the response object.
        items: its output items, and those that a stream gave before it.

    The image call's own error says more than the response's, and any error more than a status.
    """
    found = [item for item in items if isinstance(item, dict)]
    calls = [item for item in found if item.get("type") == "image_generation_call"]
    errors = [call.get("error") for call in calls] + [response.get("error")]
    for error in errors:
        if error and isinstance(error, dict | str):
            return images_error({"error": error})
    refusals = [text for item in found for text in _refusals(item)]
    if refusals or _filtered(response):
        return {"error": {"code": "moderation_blocked", "message": " ".join(refusals)}}
    if any(call.get("status") == "failed" for call in calls) or response.get("status") in (
        "failed",
        "cancelled",
    ):
        return {"error": {"code": "image_generation_failed"}}
    return None


def _refusals(item: Mapping[str, object]) -> Iterable[str]:
    """Return the model's refusals; other text is talk, not a verdict on the request."""
    content = item.get("content")
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and part.get("type") == "refusal":
            text = part.get("refusal")
            yield text if isinstance(text, str) else ""


def _filtered(response: Mapping[str, object]) -> bool:
    details = response.get("incomplete_details")
    return isinstance(details, dict) and details.get("reason") == "content_filter"


def _translated(error: Mapping[str, object]) -> dict[str, object]:
    changed = dict(error)
    code = str(error.get("code")).lower()
    if code in _POLICY_CODES:
        changed["code"] = "moderation_blocked"
    elif code in _ACCOUNT_CODES:
        changed["code"] = "model_not_available"
    elif code in _CALLER_CODES:
        changed["type"] = "invalid_request_error"
    param = error.get("param")
    if isinstance(param, str) and param:
        changed["param"] = _param(param)
    return changed


def _param(param: str) -> str:
    """Return the caller's name for a field of ours."""
    tool = _TOOL_FIELD.match(param)
    name = tool.group(1) if tool else param
    if name == "input_image_mask":
        return "mask"
    if name in _CALLERS_FIELDS:
        return name
    part = _CONTENT.match(name)
    if part:
        return "prompt" if part.group(1) == "0" else "image"
    return "prompt" if name == "input" else _OURS
