"""A server that answers what a test says, in order, and remembers what it was asked.

What the fault upstream does not play: headers of a gateway's answers, broken downloads, events that
are cut. Pauses between tries are noted, not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from safelight.client.transport import Patience

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)
"""One grey pixel."""


@dataclass
class Pauses:
    """Pauses that a client wanted, seconds."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def patience(self, *, retries: int = 3, timeout_s: float = 20.0) -> Patience:
        """Return a patience that waits for nothing."""
        return Patience(timeout_s=timeout_s, retries=retries, sleep=self)


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body's fields."""
        return msgspec.json.decode(self.body, type=dict[str, Any])


@dataclass(frozen=True)
class Play:
    """One answer: with `cut`, the connection breaks after the body; `hang`: nothing ever comes."""

    status: int = 200
    body: bytes | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


class Scripted:
    """The server; `play` says what the next requests to a path are answered."""

    def __init__(self, *, safelight: bool = True) -> None:
        self.asked: list[Asked] = []
        self.url = ""
        self.hanging = asyncio.Event()
        """Set when a request is waiting for an answer that does not come."""
        owner = "safelight" if safelight else "somebody"
        models = {"object": "list", "data": [{"id": "gpt-image-2-vip", "owned_by": owner}]}
        self._plays: dict[str, list[Play]] = {}
        self.play("/v1/models", Play(body=models))

    def play(self, path: str, *plays: Play) -> None:
        """Answer requests to a path so, one after another; the last one for ever."""
        self._plays[path] = list(plays)

    def to(self, path: str) -> list[Asked]:
        """Return the requests to a path."""
        return [one for one in self.asked if one.path == path]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Scripted]:
        """Listen while inside."""
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.asked.append(Asked(request.method, request.path, dict(request.query), headers, body))
        waiting = self._plays.get(request.path, [Play(404)])
        play = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if play.hang:
            self.hanging.set()
            await asyncio.Event().wait()
        data = play.body if isinstance(play.body, bytes) else msgspec.json.encode(play.body)
        response = web.StreamResponse(status=play.status, headers=dict(play.headers))
        if not play.cut:
            response.content_length = len(data)
        await response.prepare(request)
        await response.write(data)
        if play.cut:
            assert request.transport is not None
            request.transport.abort()
        return response


def image_answer(link: str, **headers: str) -> Play:
    """Return the answer of an image route with a link in it."""
    return Play(body={"created": 1, "data": [{"url": link}]}, headers=headers)


def error(status: int, code: str = "some_code", **headers: str) -> Play:
    """Return an error in OpenAI's envelope."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": f"It was {code}.", "type": "t", "param": None, "code": code}}
    return Play(status, body, named)
