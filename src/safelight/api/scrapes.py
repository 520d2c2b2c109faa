"""GET /metrics: who may read the counts, on the server's port or on one of its own.

Owns that decision and the HTTP of the answer; the text is given. A reader is local when the
connection comes from this machine and no proxy says that it speaks for somebody else: without the
second look, a proxy on the same machine would make everybody local.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from safelight.api.problems import error_body
from safelight.config_watch import WatchConfig
from safelight.errors import AuthenticationFailed, Conflict, NotFound, SafelightError

if TYPE_CHECKING:
    from safelight.api.exchange import Exchange

PATH = "/metrics"
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

WriteText = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Gives content type and text, for an Accept header."""


class Scrapes:
    """Gives the counts to those who may read them.

    Args:
        config: who may.
        text: writes them down.
        alone: whether this process is the whole server; else its port gives one of several.
    """

    def __init__(self, config: WatchConfig, text: WriteText, *, alone: bool = True) -> None:
        self._config = config
        self._text = text
        self._alone = alone

    async def read(
        self, headers: Mapping[str, str], client: str | None, *, shared_port: bool
    ) -> tuple[str, bytes]:
        """Return content type and text.

        Args:
            headers: by lower-case name.
            client: the address that the connection comes from.
            shared_port: whether it came to the port that all processes of the server share.

        Raises:
            NotFound: metrics are switched off.
            AuthenticationFailed: the reader is not local, or the token is missing or wrong.
            Conflict: there are several processes, and each has counts of its own.
        """
        if self._config.metrics.access == "off":
            raise NotFound("Metrics are switched off: [metrics] access.")
        if not self._may(headers, client):
            raise AuthenticationFailed(
                "Metrics are read from this machine, or with the token of [metrics] token_env "
                "in the header 'Authorization: Bearer <token>'.",
                code="invalid_token",
            )
        if shared_port and not self._alone:
            raise Conflict(
                "This server is several processes, and each has counts of its own: set "
                "[metrics] port and scrape that port and those that follow it, one a process."
            )
        return await self._text(headers.get("accept", ""))

    def _may(self, headers: Mapping[str, str], client: str | None) -> bool:
        access = self._config.metrics.access
        if access == "open" or (access == "local" and _is_local(headers, client)):
            return True
        token = self._config.metrics_token
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if token is None or scheme.lower() != "bearer":
            return False
        return token.matches(sent.strip())


def _is_local(headers: Mapping[str, str], client: str | None) -> bool:
    if any(name in headers for name in _PROXIED):
        return False
    try:
        return ip_address(client or "").is_loopback
    except ValueError:
        return False


async def metrics(exchange: Exchange) -> None:
    """Answer GET /metrics on the server's own port."""
    scrapes = exchange.services.scrapes
    if scrapes is None:
        raise NotFound("Metrics are not kept here.")
    kind, text = await scrapes.read(
        _headers(exchange.scope), _client(exchange.scope), shared_port=True
    )
    await exchange.respond(200, text, media_type=kind, headers=[(b"cache-control", b"no-store")])


def make_scrape_asgi(scrapes: Scrapes) -> ASGIApp:
    """Return an application that answers GET /metrics alone."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer_scrape(scrapes, scope, send)

    return answer


async def answer_scrape(scrapes: Scrapes, scope: Scope, send: Send) -> None:
    """Answer one request to a port that only this process has."""
    status, kind = 200, "application/json"
    try:
        if scope["path"] != PATH or scope["method"] not in ("GET", "HEAD"):
            raise NotFound("This port answers GET /metrics alone.")
        kind, body = await scrapes.read(_headers(scope), _client(scope), shared_port=False)
    except SafelightError as error:
        status, body = error.status, error_body(error)
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    rest = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": rest})


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _client(scope: Scope) -> str | None:
    client = scope.get("client")
    return None if client is None else str(client[0])
