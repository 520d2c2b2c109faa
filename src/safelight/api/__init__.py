"""The HTTP skin: parse, call the gateway, render. No SQL, no retry, no money.

Owns the routes and the last word on errors: every failure leaves as OpenAI's envelope, and text
of an unexpected exception never reaches a caller. Pure ASGI throughout: a wrapping middleware
would hide callers that hang up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from safelight.api import (
    batches,
    billing,
    chat,
    console,
    diagnostics,
    events,
    files,
    galleries,
    images,
    jobs,
    links,
    meta,
    openapi,
    receipts,
    retention,
    scrapes,
    sessions,
    webhooks,
)
from safelight.api.admin import ADMIN_ROUTES
from safelight.api.admin.sessions import SESSION_ROUTES, checked
from safelight.api.budget import ByteBudget
from safelight.api.context import Services
from safelight.api.exchange import ClientGone, Exchange
from safelight.api.problems import Headers, Problem
from safelight.api.route_classes import route_class
from safelight.api.routing import Handler, Routes
from safelight.api.sockets import SOCKET_PATH, JobSocket
from safelight.errors import (
    InternalError,
    MethodNotAllowed,
    NotFound,
    SafelightError,
    StorageError,
    storage_code,
    storage_refusal,
)
from safelight.metrics import status_class

log = logging.getLogger("safelight.api")

HUNG_UP = "hung_up"
"""The class of status of a caller who left before an answer began."""

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/v1/images/generations", images.generations),
    ("POST", "/v1/images/edits", images.edits),
    ("POST", "/v1/chat/completions", chat.completions),
    ("GET", "/v1/models", meta.models),
    ("GET", "/v1/models/{id}", meta.model),
    ("GET", "/v1/sizes", meta.sizes),
    ("POST", "/v1/quote", meta.quote),
    ("GET", "/v1/jobs", jobs.jobs),
    ("GET", "/v1/jobs/{id}", jobs.job),
    ("POST", "/v1/jobs/{id}/cancel", jobs.cancel),
    ("GET", "/v1/jobs/{id}/events", events.stream),
    ("GET", "/v1/jobs/{id}/receipt", receipts.receipt),
    ("POST", "/v1/files", files.create),
    ("GET", "/v1/files", files.listing),
    ("GET", "/v1/files/{id}", files.file),
    ("DELETE", "/v1/files/{id}", files.delete),
    ("GET", "/v1/files/{id}/content", files.content),
    ("POST", "/v1/batches", batches.create),
    ("GET", "/v1/batches", batches.listing),
    ("GET", "/v1/batches/{id}", batches.batch),
    ("POST", "/v1/batches/{id}/cancel", batches.cancel),
    ("GET", "/v1/images", galleries.images),
    ("GET", "/v1/images/{id}", links.stable_link),
    ("GET", "/v1/images/{id}/original", links.original),
    ("DELETE", "/v1/images/{id}", retention.delete),
    ("POST", "/v1/images/{id}/pin", retention.pin),
    ("POST", "/v1/images/{id}/unpin", retention.unpin),
    ("POST", "/v1/images/links/end", retention.end_links),
    ("GET", "/i/{file}", links.signed_link),
    ("GET", "/v1/webhooks", webhooks.webhooks),
    ("POST", "/v1/webhooks", webhooks.create),
    ("GET", "/v1/webhooks/secret", webhooks.secret),
    ("POST", "/v1/webhooks/secret/rotate", webhooks.rotate_secret),
    ("GET", "/v1/webhooks/deliveries", webhooks.all_deliveries),
    ("POST", "/v1/webhooks/deliveries/{id}/redeliver", webhooks.redeliver),
    ("GET", "/v1/webhooks/{id}", webhooks.webhook),
    ("PATCH", "/v1/webhooks/{id}", webhooks.change),
    ("DELETE", "/v1/webhooks/{id}", webhooks.remove),
    ("POST", "/v1/webhooks/{id}/rotate", webhooks.rotate),
    ("POST", "/v1/webhooks/{id}/test", webhooks.test),
    ("GET", "/v1/webhooks/{id}/deliveries", webhooks.deliveries),
    ("GET", "/v1/billing/balance", billing.balance),
    ("GET", "/v1/billing/statement", billing.statement),
    ("POST", "/v1/session", sessions.sign_in),
    ("GET", "/v1/session", sessions.show),
    ("DELETE", "/v1/session", sessions.sign_out),
    ("GET", "/v1/diagnostics/silence", diagnostics.silence),
    ("POST", "/v1/diagnostics/body", diagnostics.body),
    ("GET", "/healthz", meta.healthz),
    ("GET", "/readyz", meta.readyz),
    ("GET", "/metrics", scrapes.metrics),
    ("GET", "/openapi.json", openapi.document),
)
CONSOLE: tuple[tuple[str, Handler], ...] = (
    ("/", console.page),
    ("/console", console.page),
    ("/console/{version}/{path:path}", console.asset),
)
"""What browsers read; it is no part of the contract in /openapi.json."""
ADMIN: tuple[tuple[str, str, Handler], ...] = tuple(
    (method, path, checked(role, handler))
    for method, path, role, handler in (*ADMIN_ROUTES, *SESSION_ROUTES)
)
ALL_ROUTES = (*ROUTES, *ADMIN)
"""Operators' routes come last: looking for a route goes through those before it."""


def make_asgi(services: Services) -> ASGIApp:
    """Return the application over `services`."""
    return _Application(services)


def _not_allowed(method: str) -> Handler:
    """Return what answers every method at a path that takes only one."""

    async def refuse(_exchange: Exchange) -> None:
        raise HTTPException(405, headers={"Allow": method})

    return refuse


def _routes() -> Iterator[tuple[list[str] | None, str, Handler]]:
    """Yield what is looked through for a request, in this order."""
    yield None, "/v1/images/variations", images.variations
    last = {path: at for at, (_, path, _) in enumerate(ALL_ROUTES) if "{" not in path}
    for at, (method, path, handler) in enumerate(ALL_ROUTES):
        yield [method], path, handler
        if last.get(path) == at:
            # Before those with parameters: GET /v1/images/generations asks for no picture.
            yield None, path, _not_allowed(_methods_of(path))
    for path, handler in CONSOLE:
        yield ["GET"], path, handler


class _Application:
    """Makes an `Exchange` of each request and an error answer of each exception."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._budget = ByteBudget(
            services.config.server.max_buffered_bytes, patience_s=services.buffer_patience_s
        )
        self._routes = Routes(_routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"only HTTP is served here, not {scope['type']}")
        exchange = Exchange(scope, receive, send, self._services, self._budget)
        try:
            await self._routes.find(scope)(exchange)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  (the last resort: a caller gets an answer)
            await _answer_failure(exchange, error)
        finally:
            path = getattr(scope.get("route"), "path", None)
            status = HUNG_UP if exchange.status is None else status_class(exchange.status)
            self._services.metrics.answered(route_class(path), status)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The server upgrades nothing else; there is one kind of socket.
        match = SOCKET_PATH.fullmatch(scope["path"])
        scope["path_params"] = {"id": match["id"] if match else ""}
        await JobSocket(scope, receive, send, self._services, self._budget).serve()


async def _answer_failure(exchange: Exchange, error: Exception) -> None:
    """Answer with what went wrong, if no answer has begun."""
    headers: Headers = []
    what: str | None = None
    problem: Problem
    if isinstance(error, SafelightError):
        problem = error
    elif isinstance(error, HTTPException):
        problem, headers = _routing_problem(exchange.scope, error)
    elif isinstance(error, StorageError):
        what, problem = "the blob store failed", storage_refusal(error.code)
    elif isinstance(error, OSError):
        what, problem = "the disk failed", storage_refusal(storage_code(error))
    else:
        what = "a request failed inside the gateway"
        problem = InternalError("The gateway failed; the request id finds the cause in its log.")
    if what is not None:
        log.error(what, exc_info=error, extra=_log_fields(exchange))
    if not exchange.started:
        with suppress(ClientGone):
            await exchange.fail(problem, headers=headers)
    # Otherwise the answer stays short of its end, and the server closes the connection.


def _log_fields(exchange: Exchange) -> dict[str, object]:
    return {
        "request_id": exchange.request_id,
        "route": getattr(exchange.scope.get("route"), "path", None),
    }


def _routing_problem(scope: Scope, error: HTTPException) -> tuple[SafelightError, Headers]:
    method = scope["method"]
    if error.status_code == 405:
        found = getattr(scope.get("route"), "path", "")
        allowed = _methods_of(found) or (error.headers or {}).get("Allow", "")
        message = f"{method[:16]} is not allowed here; this path takes {allowed}."
        return MethodNotAllowed(message), [(b"allow", allowed.encode())]
    return NotFound(f"There is no such path here.{_hint(scope['path'])}"), []


def _methods_of(path: str) -> str:
    """Return the methods that a route's path takes, as the header `Allow` lists them."""
    methods = {method for method, known, _ in ALL_ROUTES if known == path}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _hint(path: str) -> str:
    """Return what is probably wrong with a path, as a sentence, or nothing."""
    known = {known for _, known, _ in ALL_ROUTES}
    for changed, hint in (
        (f"/v1{path}", "Let the base URL of your client end in /v1"),
        (path.removeprefix("/v1"), "The base URL of your client has one /v1 too many"),
        (path.rstrip("/"), "Leave out the slash at the end"),
    ):
        if changed != path and changed in known:
            return f" {hint}: {changed} is one."
    return ""
