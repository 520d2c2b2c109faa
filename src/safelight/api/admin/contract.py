"""The operators' routes in the OpenAPI document: what each takes and answers, and its least role.

Owns their entries under the tag `admin`. A route that is not described here fails the test that
compares both; the document itself is `api.openapi`'s.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from safelight.administration.system import SystemState
from safelight.api.admin import (
    ADMIN_ROUTES,
    accounts,
    asking,
    batches,
    customers,
    house,
    jobs,
    keys,
    pictures,
    series,
    sessions,
)
from safelight.api.billing import StatementList
from safelight.api.job_views import JobImage
from safelight.api.meta import SizeList
from safelight.api.retention import Deleted
from safelight.api.sessions import SessionView, SignIn
from safelight.types import Balance

TAG = "admin"
_BASE = "/admin/v1"
_STATEMENT_QUERY = ("format", "after", "limit", "from", "to", "month")


class AdminOperation(NamedTuple):
    """One route. `media` is what it answers with beside, or instead of, JSON; no answer: 204."""

    method: str
    path: str
    summary: str
    answer: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None = None
    query: tuple[str, ...] = ()
    status: str = "200"
    media: str = ""


_op = AdminOperation
_CUSTOMER, _KEY, _JOB, _IMAGE = "/customers/{id}", "/keys/{id}", "/jobs/{id}", "/images/{id}"

SESSION_OPERATIONS: tuple[AdminOperation, ...] = (
    _op("post", "/session", "Sign a browser in with an admin key.", SessionView, SignIn),
    _op("get", "/session", "Show who is signed in in this browser.", SessionView),
    _op("delete", "/session", "Sign this browser out.", None),
    _op("get", "/sessions", "List sessions that are not over, newest first.",
        sessions.SessionList, query=("after",)),
    _op("delete", "/sessions/{id}", "End a session.", None),
    _op("get", "/admin-keys", "List the operators' keys.", sessions.AdminKeyList),
    _op("post", "/admin-keys", "Make an operator's key; shows its text.",
        sessions.AdminKeyView, sessions.AdminKeyBody, status="201"),
    _op("post", "/admin-keys/{id}/revoke", "End an operator's key and its sessions.",
        sessions.AdminKeyView),
)  # fmt: skip
_DOOR = "Takes a key in the body, or the cookie that it gave."

ADMIN_OPERATIONS: tuple[AdminOperation, ...] = (
    _op("get", "/customers", "List customers by name.", customers.CustomerList,
        query=customers.QUERY),
    _op("post", "/customers", "Make a customer and its first key.", customers.CustomerView,
        customers.NewCustomer, status="201"),
    _op("get", _CUSTOMER, "Show a customer.", customers.CustomerView),
    _op("patch", _CUSTOMER, "Rename a customer.", customers.CustomerView,
        customers.CustomerChange),
    _op("post", _CUSTOMER + "/freeze", "Let a customer order nothing new.",
        customers.CustomerView, customers.Why),
    _op("post", _CUSTOMER + "/unfreeze", "Verify a customer's books and let it order again.",
        customers.Unfrozen, customers.Why),
    _op("post", _CUSTOMER + "/credit", "Top up, or correct downwards.", Balance,
        customers.Credit),
    _op("put", _CUSTOMER + "/credit-line", "Say how much a customer may owe.", Balance,
        customers.CreditLine),
    _op("post", _CUSTOMER + "/keys", "Make a key; shows its text.", keys.KeyView, keys.NewKey,
        status="201"),
    _op("get", _CUSTOMER + "/statement", "List a customer's lines.", StatementList,
        query=_STATEMENT_QUERY, media="text/csv"),
    _op("get", "/keys", "List keys, oldest first.", keys.KeyList, query=keys.QUERY),
    _op("patch", _KEY, "Change what a key may spend and how fast.", keys.KeyView,
        keys.KeyChange),
    _op("post", _KEY + "/revoke", "End a key.", keys.KeyView),
    _op("get", "/jobs", "List everybody's jobs, newest first.", jobs.AdminJobList,
        query=jobs.QUERY),
    _op("get", _JOB, "Show a job and its upstream calls.", jobs.AdminJobDetail),
    _op("get", _JOB + "/receipt", "Show a job's money, costs and attempts.", jobs.AdminReceipt),
    _op("post", _JOB + "/cancel", "Cancel a job that has not ended.", jobs.AdminJob),
    _op("post", "/refunds", "Give a job's charge back, once.", jobs.Refunded, jobs.Refund,
        status="201"),
    _op("get", "/batches", "List everybody's batches, newest first.", batches.AdminBatchList,
        query=batches.QUERY),
    _op("get", "/batches/{id}", "Show a batch.", batches.AdminBatch),
    _op("get", "/images", "Search everybody's pictures, newest first.", pictures.AdminImageList,
        query=pictures.QUERY),
    _op("post", _IMAGE + "/pin", "Keep a picture.", JobImage),
    _op("post", _IMAGE + "/unpin", "Let a picture expire again.", JobImage),
    _op("delete", _IMAGE, "Delete a picture; its line stays.", Deleted),
    _op("get", "/accounts", "Show how each account does.", accounts.AccountList,
        query=("since_s",)),
    _op("post", "/accounts/{name}/pause", "Give an account no new attempt.",
        accounts.AccountView, customers.Why),
    _op("post", "/accounts/{name}/resume", "Let an account go on.", accounts.AccountView),
    _op("get", "/channels", "List the channels' policies.", accounts.AdminChannelList),
    _op("get", "/sizes", "List sizes, plans and prices.", SizeList, query=("model",)),
    _op("get", "/audit", "List what operators did, newest first.", house.ActList,
        query=("subject", *asking.PAGE)),
    _op("get", "/alerts", "List alerts, newest first.", house.AlertList,
        query=("standing", *asking.PAGE)),
    _op("get", "/verification", "Show what the last verification found.",
        house.VerificationView),
    _op("post", "/verification", "Verify all books now; 202 where that takes long.",
        house.VerificationView),
    _op("get", "/system", "Show what runs here.", SystemState),
    _op("get", "/series", "Tell what happened in each minute, hour or day.", series.Series,
        query=("step", "from", "to")),
    _op("get", "/events", "Tell what changes, as server-sent events.", series.AdminEvent,
        media="text/event-stream"),
)  # fmt: skip

_NO_NAME = re.compile(r"[^A-Za-z0-9]+")
_READING = {
    "400": "The request is wrong; `error.param` names the parameter.",
    "401": "No valid admin key, and no session.",
    "403": "The role does not go so far, or a browser's call does not prove where it comes from.",
    "404": "There is no such thing.",
    "429": "Too many wrong keys came from this address.",
    "431": "The request line and headers are too long.",
    "500": "A fault of the gateway; `x-request-id` finds it in its log.",
    "503": "The database is away for a moment.",
}
_CHANGING = {
    "408": "The request arrived too slowly.",
    "409": "It does not fit how the thing stands; nothing was changed.",
    "413": "The request is too large.",
    "415": "The body has a form that is not read here.",
}


def structs() -> set[type[msgspec.Struct]]:
    """Return every shape that an operator's route takes or answers with."""
    every = (*SESSION_OPERATIONS, *ADMIN_OPERATIONS)
    return {kind for one in every for kind in (one.answer, one.body) if kind is not None}


def paths(error: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries by path and method; `error` refers to the body of every failure."""
    routes = (*sessions.SESSION_ROUTES, *ADMIN_ROUTES)
    roles = {(method.lower(), path): role for method, path, role, _ in routes}
    found: dict[str, dict[str, Any]] = {}
    for one in (*SESSION_OPERATIONS, *ADMIN_OPERATIONS):
        path = _BASE + one.path
        found.setdefault(path, {})[one.method] = _describe(one, roles[one.method, path], error)
    return found


def _describe(one: AdminOperation, role: str | None, error: dict[str, Any]) -> dict[str, Any]:
    failures = _READING if one.method == "get" else {**_READING, **_CHANGING}
    content = {"application/json": {"schema": error}}
    described: dict[str, Any] = {
        "operationId": _NO_NAME.sub("_", f"{one.method}{_BASE}{one.path}").strip("_"),
        "tags": [TAG],
        "summary": one.summary,
        "description": _DOOR if role is None else f"Takes the role {role}.",
        "responses": {
            **_success(one),
            **{
                status: {"description": words, "content": content}
                for status, words in sorted(failures.items())
            },
        },
    }
    if role is None:
        described["security"] = []
    names = re.findall(r"\{(\w+)\}", one.path)
    params = [_param(name, "path") for name in names] + [_param(name) for name in one.query]
    if params:
        described["parameters"] = params
    if one.body is not None:
        body = {"application/json": {"schema": _ref(one.body)}}
        described["requestBody"] = {"required": True, "content": body}
    return described


def _success(one: AdminOperation) -> dict[str, Any]:
    if one.answer is None:
        return {"204": {"description": "Done."}}
    content: dict[str, Any] = {"application/json": {"schema": _ref(one.answer)}}
    if one.media == "text/event-stream":
        content = {one.media: {"schema": _ref(one.answer)}}
    elif one.media:
        content[one.media] = {"schema": {"type": "string"}}
    found = {one.status: {"description": "Success.", "content": content}}
    if (one.method, one.path) == ("post", "/verification"):
        found["202"] = {"description": "It goes on; ask again.", "content": content}
    return found


def _param(name: str, place: str = "query") -> dict[str, Any]:
    required = place == "path"
    return {"name": name, "in": place, "required": required, "schema": {"type": "string"}}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
