"""Recorded answers, and a server that plays them back.

A recording (`recordings/<name>/<file>.json`) holds what one kind of server is asked and what it
answers: `generation` and `edit` with the request that must arrive (`subset`: at least these
fields), `models` for the probe, and `refusals` with the error that each must become. `account` is
whose they are (`base_path` follows the server's address), `$KEY` stands for its key. The good
answers hold a picture in base64; docs/adding-an-upstream.md lists every key.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from aiohttp import BodyPartReader, web

KEY = "sk-proj-testkey0123456789"
_FOLDER = Path(__file__).parent / "recordings"

Manner = Literal["whole", "cut", "silent", "stalling"]
"""How an answer is sent: as it is; half and broken off; not at all; half, and then nothing."""


def recording(name: str) -> dict[str, Any]:
    """Return the recording `<folder>/<file>`."""
    text = (_FOLDER / f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.replace("$KEY", KEY))
    return found


def recorded_names() -> list[str]:
    """Return the names of all recordings that the contract test plays: those with an account."""
    names = (
        path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.glob("*/*.json")
    )
    return sorted(name for name in names if "account" in recording(name))


@dataclass
class SeenFile:
    """One file of a form."""

    name: str
    filename: str
    content_type: str
    data: bytes


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)
    files: list[SeenFile] = field(default_factory=list)


class Playback:
    """A server on loopback that gives one answer to every request."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.arrived = asyncio.Event()
        self._answer: dict[str, Any] = {}
        self._manner: Manner = "whole"
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self.url = ""

    def play(self, answer: dict[str, Any], manner: Manner = "whole") -> None:
        """Answer with this from now on."""
        self._answer, self._manner = answer, manner

    async def __aenter__(self) -> Playback:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        _, port = self._runner.addresses[0]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await _read(request))
        self.arrived.set()
        if self._manner == "silent":
            await self._closing.wait()
        body = _body(self._answer)
        response = web.StreamResponse(
            status=self._answer["status"], headers=self._answer["headers"]
        )
        if self._manner == "whole":
            response.content_length = len(body)
        else:
            body = body[: len(body) // 2]
            response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        if self._manner == "stalling":
            await self._closing.wait()
        if self._manner == "cut" and request.transport is not None:
            request.transport.close()
        return response


def _body(answer: dict[str, Any]) -> bytes:
    body = answer["body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


async def _read(request: web.Request) -> Seen:
    seen = Seen(
        request.method, request.raw_path, {k.lower(): v for k, v in request.headers.items()}
    )
    if request.method == "GET":
        return seen
    if request.content_type == "application/json":
        seen.fields = await request.json()
    elif request.content_type == "multipart/form-data":
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            data = bytes(await part.read())
            if part.filename is None:
                seen.fields[part.name or ""] = data.decode()
            else:
                kind = part.headers.get("content-type", "")
                seen.files.append(SeenFile(part.name or "", part.filename, kind, data))
    return seen


def picture_in(answer: dict[str, Any]) -> bytes:
    """Return the picture that a recorded good answer holds: the longest text in it, in base64."""
    return base64.b64decode(max(_texts(answer["body"]), key=len).rpartition(",")[2])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
