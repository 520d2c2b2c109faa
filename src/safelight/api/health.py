"""What a worker answers over HTTP: whether it runs, whether it takes queued jobs, what it counts.

Owns GET /healthz, /readyz and /metrics of a process that serves nothing else, in the words of the
full skin.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from safelight.api.scrapes import PATH, Scrapes, answer_scrape


def make_health(accepting: Callable[[], bool], scrapes: Scrapes) -> ASGIApp:
    """Return an application with the routes; `accepting` is false while starting, draining."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == PATH:
            await answer_scrape(scrapes, scope, send)
            return
        status, body = _answer(scope["path"], accepting())
        data = msgspec.json.encode(body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        rest = b"" if scope["method"] == "HEAD" else data
        await send({"type": "http.response.body", "body": rest})

    return answer


def _answer(path: str, accepting: bool) -> tuple[int, dict[str, object]]:
    if path == "/healthz":
        return 200, {"status": "ok"}
    if path == "/readyz" and accepting:
        return 200, {"status": "ready"}
    if path == "/readyz":
        return 503, _error("service_unavailable_error", "not_ready", "It takes no jobs now.")
    message = (
        "A worker answers /healthz, /readyz and /metrics alone; ask a server of the same gateway."
    )
    return 404, _error("invalid_request_error", "not_found", message)


def _error(kind: str, code: str, message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
