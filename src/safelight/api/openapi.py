"""GET /openapi.json: the contract, made from the structs that parse and render it.

Owns the OpenAPI 3.1 document. A route that is not described here fails the test that compares
both.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

import safelight
from safelight.api.admin import contract
from safelight.api.answer_shapes import (
    ChatCompletion,
    ErrorBody,
    Health,
    ImagesResponse,
)
from safelight.api.batches import BatchBody, BatchList, BatchView
from safelight.api.billing import StatementList
from safelight.api.browsers import CUSTOMER
from safelight.api.chat_wire import ChatBody
from safelight.api.diagnostics import QUERY as SILENCE_QUERY
from safelight.api.diagnostics import BodyView, SilenceView
from safelight.api.events import JobEvent
from safelight.api.exchange import Exchange
from safelight.api.files import FileDeleted, FileForm, FileList, FileView
from safelight.api.galleries import QUERY as IMAGES_QUERY
from safelight.api.galleries import PictureList
from safelight.api.job_views import JobImage, JobList, JobView, RequestView
from safelight.api.jobs import QUERY as JOBS_QUERY
from safelight.api.meta import ModelList, ModelView, QuoteView, SizeList
from safelight.api.receipts import ReceiptView
from safelight.api.retention import Deleted, LinksEnded
from safelight.api.sessions import SessionView, SignIn
from safelight.api.timing import DEADLINE_FORMS, DEADLINE_HEADER
from safelight.api.webhooks import QUERY as DELIVERIES_QUERY
from safelight.api.webhooks import (
    DeliveryList,
    DeliveryView,
    RotateBody,
    SecretView,
    WebhookBody,
    WebhookChange,
    WebhookDeleted,
    WebhookList,
    WebhookView,
)
from safelight.api.wire import EditBody, GenerationBody, QuoteBody
from safelight.types import KeyBalance


class _Operation(NamedTuple):
    method: str
    path: str
    summary: str
    answer: type[msgspec.Struct] | str
    body: type[msgspec.Struct] | None = None
    public: bool = False
    query: tuple[str, ...] = ()
    status: str = "200"
    streams: bool = False
    """Makes pictures: answers as a stream, too, and can be retried under an Idempotency-Key."""


_IMAGE = "image/*"
_REDIRECT = "redirect"
_DOCUMENT = "document"
_BYTES = "bytes"
_TEXT = "text/plain"
_NOTHING = "nothing"

OPERATIONS: tuple[_Operation, ...] = (
    _Operation(
        "post", "/v1/images/generations", "Make pictures.", ImagesResponse, GenerationBody,
        streams=True,
    ),
    _Operation(
        "post", "/v1/images/edits", "Make pictures from pictures.", ImagesResponse, EditBody,
        streams=True,
    ),
    _Operation(
        "post", "/v1/chat/completions", "Make pictures in a chat.", ChatCompletion, ChatBody,
        streams=True,
    ),
    _Operation("get", "/v1/models", "List the channels.", ModelList),
    _Operation("get", "/v1/models/{id}", "Show a channel.", ModelView),
    _Operation("get", "/v1/sizes", "List sizes, plans and prices.", SizeList, query=("model",)),
    _Operation("post", "/v1/quote", "Tell price and size plan; free.", QuoteView, QuoteBody),
    _Operation("get", "/v1/jobs", "List your jobs, newest first.", JobList, query=JOBS_QUERY),
    _Operation(
        "get", "/v1/jobs/{id}",
        "Show a job, at once or when it has ended; as a WebSocket, tell what happens to it.",
        JobView, query=("wait",),
    ),
    _Operation("post", "/v1/jobs/{id}/cancel", "Cancel a job that has not ended.", JobView),
    _Operation(
        "get", "/v1/jobs/{id}/events", "Tell what happens to a job until it ends.", JobEvent,
        query=("after",),
    ),
    _Operation(
        "get", "/v1/jobs/{id}/receipt", "Show a job's money, picture and attempts.", ReceiptView
    ),
    _Operation("post", "/v1/files", "Upload a file.", FileView, FileForm),
    _Operation(
        "get", "/v1/files", "List your files.", FileList,
        query=("purpose", "order", "after", "limit"),
    ),
    _Operation("get", "/v1/files/{id}", "Show a file.", FileView),
    _Operation("delete", "/v1/files/{id}", "Delete a file.", FileDeleted),
    _Operation("get", "/v1/files/{id}/content", "Fetch what is in a file.", _BYTES),
    _Operation("post", "/v1/batches", "Order what a file says.", BatchView, BatchBody),
    _Operation(
        "get", "/v1/batches", "List your batches, newest first.", BatchList,
        query=("after", "limit"),
    ),
    _Operation("get", "/v1/batches/{id}", "Show a batch.", BatchView),
    _Operation("post", "/v1/batches/{id}/cancel", "Let nothing more of it begin.", BatchView),
    _Operation(
        "get", "/v1/images", "List your pictures, newest first.", PictureList, query=IMAGES_QUERY
    ),
    _Operation("get", "/v1/images/{id}", "Go to a fresh link of your picture.", _REDIRECT),
    _Operation(
        "get", "/v1/images/{id}/original", "Fetch the vendor's file that it was made of.", _IMAGE
    ),
    _Operation("delete", "/v1/images/{id}", "Delete your picture; its line stays.", Deleted),
    _Operation("post", "/v1/images/{id}/pin", "Keep your picture.", JobImage),
    _Operation("post", "/v1/images/{id}/unpin", "Let your picture expire again.", JobImage),
    _Operation("post", "/v1/images/links/end", "End all links given out before.", LinksEnded),
    _Operation("get", "/i/{file}", "Fetch a picture by its signed link.", _IMAGE, public=True),
    _Operation("get", "/v1/webhooks", "List the webhooks that the key may see.", WebhookList),
    _Operation(
        "post", "/v1/webhooks", "Register an address; shows its secret.", WebhookView, WebhookBody,
        status="201",
    ),
    _Operation(
        "get", "/v1/webhooks/secret", "Show what signs to addresses in orders.", SecretView
    ),
    _Operation(
        "post", "/v1/webhooks/secret/rotate", "Let a new one sign.", SecretView, RotateBody,
    ),
    _Operation(
        "get", "/v1/webhooks/deliveries", "List all messages, newest first.", DeliveryList,
        query=DELIVERIES_QUERY,
    ),
    _Operation(
        "post", "/v1/webhooks/deliveries/{id}/redeliver", "Send a message again.", DeliveryView,
        status="202",
    ),
    _Operation("get", "/v1/webhooks/{id}", "Show a webhook.", WebhookView),
    _Operation("patch", "/v1/webhooks/{id}", "Change a webhook.", WebhookView, WebhookChange),
    _Operation("delete", "/v1/webhooks/{id}", "Remove a webhook.", WebhookDeleted),
    _Operation(
        "post", "/v1/webhooks/{id}/rotate", "Let a new secret sign.", WebhookView, RotateBody
    ),
    _Operation("post", "/v1/webhooks/{id}/test", "Send a test and tell how it went.", DeliveryView),
    _Operation(
        "get", "/v1/webhooks/{id}/deliveries", "List a webhook's messages.", DeliveryList,
        query=DELIVERIES_QUERY,
    ),
    _Operation("get", "/v1/billing/balance", "Show the balance and the key's budgets.", KeyBalance),
    _Operation(
        "get", "/v1/billing/statement", "List every charge and every free failure.", StatementList,
        query=("format", "after", "limit", "from", "to", "month"),
    ),
    _Operation(
        "post", "/v1/session", "Sign a browser in with a key.", SessionView, SignIn, public=True
    ),
    _Operation(
        "get", "/v1/session", "Show who is signed in in this browser.", SessionView, public=True
    ),
    _Operation("delete", "/v1/session", "Sign this browser out.", _NOTHING, public=True),
    _Operation(
        "get", "/v1/diagnostics/silence", "Answer after a silence, to test the proxies between.",
        SilenceView, query=SILENCE_QUERY,
    ),
    _Operation(
        "post", "/v1/diagnostics/body", "Count the bytes of any body, to test the proxies.",
        BodyView,
    ),
    _Operation("get", "/healthz", "Tell that the process runs.", Health, public=True),
    _Operation("get", "/readyz", "Tell that orders are taken.", Health, public=True),
    _Operation("get", "/metrics", "Show the counts of this process.", _TEXT, public=True),
    _Operation("get", "/openapi.json", "Show this document.", _DOCUMENT, public=True),
)  # fmt: skip

_NO_NAME = re.compile(r"[^A-Za-z0-9]+")
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A retry with the same key and body joins the first order and is charged once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_DEADLINE = {
    "name": DEADLINE_HEADER,
    "in": "header",
    "required": False,
    "description": f"Until when the picture is of use: {DEADLINE_FORMS}. Later the job ends free.",
    "schema": {"type": "string", "examples": ["30", "1.5s", "500ms", "2027-01-15T08:00:00Z"]},
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "respond-async: answer 202 with the job at once (RFC 7240).",
    "schema": {"type": "string", "examples": ["respond-async"]},
}
_FILE = {"type": "string", "format": "binary"}
_ERRORS = {
    "400": "The request is wrong; `error.param` names the parameter.",
    "401": "No valid key.",
    "402": "The balance, or a budget of the key, does not cover the price.",
    "403": "The customer is stopped, or a browser's call does not prove that our page sends it.",
    "404": "There is no such thing for this customer.",
    "405": "The path takes other methods; see Allow.",
    "408": "The request arrived too slowly.",
    "413": "The request is too large.",
    "415": "The body has a form that is not read here.",
    "422": "The Idempotency-Key belongs to another body.",
    "429": "Nothing is free now, or the key asks faster than it may; see Retry-After.",
    "431": "The request line and headers are too long.",
    "500": "A fault of the gateway; `x-request-id` finds it in its log.",
    "503": "All attempts failed, nobody serves this now, or out of time; a retry joins a live job.",
}


async def document(exchange: Exchange) -> None:
    """Answer GET /openapi.json."""
    await exchange.respond(200, openapi_json())


@lru_cache(maxsize=1)
def openapi_json() -> bytes:
    """Return the document, made once."""
    structs = {
        kind
        for operation in OPERATIONS
        for kind in (operation.answer, operation.body, ErrorBody, RequestView)
        if isinstance(kind, type)
    }
    ordered = sorted(structs | contract.structs(), key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(
        ordered, ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    paths |= contract.paths(_ref(ErrorBody))
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "safelight",
                "version": safelight.__version__,
                "description": "An OpenAI-compatible image gateway.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "security": [{"bearer": []}, {"session": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "session": {"type": "apiKey", "in": "cookie", "name": CUSTOMER},
                },
            },
        }
    )


def _describe(operation: _Operation) -> dict[str, Any]:
    names = operation.path.replace("{", "/{").split("/")
    params = [
        {"name": name.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
        if name.startswith("{")
    ]
    params += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in operation.query
    ]
    if operation.streams:
        params += [_IDEMPOTENCY_KEY, _DEADLINE, _PREFER]
    if operation.answer == _IMAGE:
        params += [
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
            for name in ("Range", "If-Range", "If-None-Match")
        ]
    found: dict[str, Any] = {
        "operationId": _NO_NAME.sub("_", f"{operation.method}{operation.path}").strip("_"),
        "summary": operation.summary,
        "responses": {**_success(operation), **_failures(operation)},
    }
    if params:
        found["parameters"] = params
    if operation.public:
        found["security"] = []
    if operation.body is not None:
        needed = operation.body is not RotateBody  # all of it has defaults
        found["requestBody"] = {"required": needed, "content": _body_content(operation.body)}
    return found


def _body_content(body: type[msgspec.Struct]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref(body)}}
    if body is FileForm:
        return {"multipart/form-data": {"schema": _ref(body)}}
    if body is EditBody:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "required": ["model", "prompt", "image"],
                "properties": {
                    "model": {"type": "string"},
                    "prompt": {"type": "string"},
                    "image": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 16},
                    "mask": _FILE,
                },
                "additionalProperties": {"type": "string"},
            }
        }
    return content


_PICTURE = {_IMAGE: {"schema": _FILE}}
_PLAIN: dict[str, dict[str, Any]] = {
    _REDIRECT: {"302": {"description": "Location is a signed link that expires."}},
    _NOTHING: {"204": {"description": "Done."}},
    _IMAGE: {
        "200": {"description": "The picture.", "content": _PICTURE},
        "206": {"description": "The range of it that was asked for.", "content": _PICTURE},
        "304": {"description": "The picture has not changed."},
    },
    _BYTES: {
        "200": {
            "description": "The file.",
            "content": {"application/octet-stream": {"schema": _FILE}},
        }
    },
    _TEXT: {
        "200": {
            "description": "Prometheus' text format.",
            "content": {_TEXT: {"schema": {"type": "string"}}},
        }
    },
}
"""Successes without a JSON body of their own."""


def _success(operation: _Operation) -> dict[str, Any]:
    if isinstance(operation.answer, str) and operation.answer in _PLAIN:
        return _PLAIN[operation.answer]
    if isinstance(operation.answer, str):
        schema: dict[str, Any] = {"type": "object"}
    else:
        schema = _ref(operation.answer)
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    if operation.answer is StatementList:
        content["text/csv"] = {"schema": {"type": "string"}}
    if operation.answer is JobEvent:
        content = {"text/event-stream": {"schema": _ref(JobEvent)}}
        done = {"description": "The event named in Last-Event-ID was the last one."}
        return {"200": {"description": "Success.", "content": content}, "204": done}
    found = {operation.status: {"description": "Success.", "content": content}}
    return {**found, **_ACCEPTED} if operation.streams else found


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


_ACCEPTED = {
    "202": {
        "description": "Nobody waits: the job, or with n above 1 the request with its jobs.",
        "content": {"application/json": {"schema": {"anyOf": [_ref(JobView), _ref(RequestView)]}}},
        "headers": {
            name: {"schema": {"type": "string"}}
            for name in ("Location", "Retry-After", "Preference-Applied")
        },
    }
}


def _failures(operation: _Operation) -> dict[str, Any]:
    """Return the error answers: all of them where work is ordered, few where it is only read."""
    ordering = operation.body is not None
    statuses = _ERRORS if ordering else {key: _ERRORS[key] for key in ("400", "404", "431", "500")}
    if not ordering and (not operation.public or operation.path == "/v1/session"):
        statuses = {**statuses, "401": _ERRORS["401"], "403": _ERRORS["403"]}
    if operation.answer == _IMAGE:
        statuses = {**statuses, "416": "The range starts behind the end; see Content-Range."}
    if operation.path.endswith("/cancel"):
        statuses = {**statuses, "409": "It has ended already."}
    if operation.path == "/metrics":
        statuses = {**statuses, "401": _ERRORS["401"], "409": "Several processes share the port."}
    if operation.path.startswith("/v1/diagnostics/"):
        statuses = {
            **statuses,
            **{key: _ERRORS[key] for key in ("408", "413", "415", "429", "503")},
        }
    if operation.path == "/readyz":
        statuses = {**statuses, "503": _ERRORS["503"]}
    content = {"application/json": {"schema": _ref(ErrorBody)}}
    return {
        status: {"description": text, "content": content}
        for status, text in sorted(statuses.items())
    }
