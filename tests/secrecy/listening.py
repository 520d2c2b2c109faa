"""What clients of tests are told: errors and headers over HTTP, spans and alerts at a collector.

Owns the ears: urllib's own hook for every answer, the SDK's HTTP library, and a server on loopback
that takes what a gateway sends out by itself.
"""

from __future__ import annotations

import importlib
import io
import threading
import urllib.request
import urllib.response
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from secrecy.cage import Cage

SDK_LIBRARIES = ("httpx", "httpx2")
"""Of the official SDK, by its version."""


class Collector(ThreadingHTTPServer):
    """Takes POSTs of traces and alerts.

    Args:
        see: gets the path of each and what came, from any thread.
    """

    daemon_threads = True

    def __init__(self, see: Callable[[str, bytes], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.see = see
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        assert isinstance(self.server, Collector)
        self.server.see(self.path.strip("/"), str(self.headers).encode() + body)
        with suppress(OSError):
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing: pytest listens to standard error."""


class Answers(urllib.request.BaseHandler):
    """Shows the cage the headers of every answer that urllib gets, and the body of every error."""

    handler_order = 100
    """Before errors become exceptions."""

    def __init__(self, cage: Cage) -> None:
        self._cage = cage

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        """Look at an answer and pass it on."""
        body = response.read() if response.code >= 400 else b""
        route = f"{request.get_method()} {urlsplit(request.full_url).path}"
        self._cage.answer(route, response.code, dict(response.headers.items()), body)
        if response.code < 400:
            return response
        passed = urllib.response.addinfourl(
            io.BytesIO(body), response.headers, request.full_url, response.code
        )
        passed.msg = response.msg  # type: ignore[attr-defined]  # urllib itself does so
        return passed


def listen(cage: Cage) -> None:
    """Hear every answer that this process gets through urllib or the SDK from now on."""
    urllib.request.install_opener(urllib.request.build_opener(Answers(cage)))
    _hear_aiohttp(cage)
    for name in SDK_LIBRARIES:
        with suppress(ImportError):
            _hear_sdk(cage, importlib.import_module(name))


def _hear_aiohttp(cage: Cage) -> None:
    """Hear errors that are read as a whole, as customers' programs do and the gateway never."""
    read = aiohttp.ClientResponse.read

    async def heard(answer: aiohttp.ClientResponse) -> bytes:
        body = await read(answer)
        if answer.status >= 400:
            route = f"{answer.method} {answer.url.path}"
            cage.answer(route, answer.status, dict(answer.headers), body)
        return body

    setattr(aiohttp.ClientResponse, "read", heard)  # noqa: B010  (a third party's)


def _hear_sdk(cage: Cage, library: Any) -> None:
    blocking, waiting = library.Client.send, library.AsyncClient.send

    def note(answer: Any, body: bytes) -> None:
        route = f"{answer.request.method} {answer.request.url.path}"
        cage.answer(route, answer.status_code, dict(answer.headers), body)

    def send(client: Any, *more: Any, **named: Any) -> Any:
        answer = blocking(client, *more, **named)
        note(answer, answer.read() if answer.status_code >= 400 else b"")
        return answer

    async def send_async(client: Any, *more: Any, **named: Any) -> Any:
        answer = await waiting(client, *more, **named)
        note(answer, await answer.aread() if answer.status_code >= 400 else b"")
        return answer

    library.Client.send, library.AsyncClient.send = send, send_async
