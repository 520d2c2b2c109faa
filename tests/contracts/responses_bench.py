"""The bench for the `responses` adapter: recorded answers and a server that plays them back.

The recordings were written by hand from the documented wire forms. Each file of
`recordings/responses` holds a table of them: `status`, `headers`, and `body` (JSON), `events` (of a
stream; `bare`: without their `event:` lines) or `text`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from safelight.clock import SystemClock
from safelight.errors import UpstreamError
from safelight.types import Account, Operation, Received, Secret, UpstreamCall
from safelight.upstreams.responses import ResponsesUpstream

KEY = "sk-proj-testkey0123456789"
LEAKS = (KEY, KEY[-4:], "127.0.0.1", "req_7f3a9c0d1e2b4a5f", "org-abc123", "openai.com")
_FOLDER = Path(__file__).parent / "recordings" / "responses"
_ODD_SIZES = (1, 7, 3, 61, 2, 997, 13, 4093)


def recordings(name: str) -> dict[str, Any]:
    """Return the table of recordings of one file."""
    table: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text())
    return table


def ignore(index: int, path: Path) -> None:
    """Look at a partial image and do nothing."""
    del index, path


def body_of(recording: dict[str, Any]) -> bytes:
    """Return a recording's body as it was on the wire."""
    if "events" in recording:
        bare = recording.get("bare", False)
        return b"".join(_event(event, bare=bare) for event in recording["events"])
    if "body" in recording:
        return json.dumps(recording["body"]).encode()
    return str(recording["text"]).encode()


def _event(event: dict[str, Any], *, bare: bool) -> bytes:
    name = "" if bare else f"event: {event['type']}\n"
    return f"{name}data: {json.dumps(event)}\n\n".encode()


@dataclass
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON of its body."""
        fields: dict[str, Any] = json.loads(self.body)
        return fields


@dataclass
class Playback:
    """A server on loopback that answers every request with one recording, in pieces of odd sizes.

    `cut_at` bytes of the body are sent and the connection is broken off; with `held` set it is kept
    open there instead, in silence.
    """

    base_url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_at: int | None = None
    held: bool = False
    sizes: tuple[int, ...] = _ODD_SIZES
    requests: list[Seen] = field(default_factory=list)

    def play(self, recording: dict[str, Any]) -> None:
        """Answer with this from now on."""
        self.status, self.headers = recording["status"], recording["headers"]
        self.body = body_of(recording)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await _read(reader))
            await self._answer(writer)
            if self.held:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the adapter may hang up whenever it has seen enough
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        head = {**self.headers, "transfer-encoding": "chunked", "connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"HTTP/1.1 {self.status} Played\r\n{lines}\r\n".encode())
        position = 0
        end = len(self.body) if self.cut_at is None else self.cut_at
        for size in cycle(self.sizes):
            piece = self.body[position : min(end, position + size)]
            if not piece:
                break
            position += len(piece)
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if self.cut_at is None:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(method, path, headers, body)


@dataclass
class Bench:
    """An adapter, a server to call and a folder for the spool."""

    server: Playback
    adapter: ResponsesUpstream
    folder: Path

    @property
    def spool(self) -> Path:
        return self.folder / "job"

    def account(self, **changes: Any) -> Account:
        given: dict[str, Any] = {
            "name": "a",
            "upstream": "responses",
            "group": "g",
            "channels": ("gpt-image-2",),
            "base_url": self.server.base_url,
            "api_key": Secret(KEY),
            "idle_timeout_s": 5.0,
            **changes,
        }
        return Account(**given)

    def call(self, **changes: Any) -> UpstreamCall:
        given: dict[str, Any] = {
            "job_id": "job",
            "operation": Operation.GENERATION,
            "prompt": "a lamp",
            "size": "1024x1024",
            "output_format": "png",
            **changes,
        }
        return UpstreamCall(**given)

    async def generate(
        self,
        *,
        account: Account | None = None,
        within_s: float = 20.0,
        on_partial: Any = None,
        **changes: Any,
    ) -> Received:
        return await self.adapter.generate(
            account or self.account(),
            self.call(**changes),
            spool=self.spool,
            deadline=SystemClock().monotonic() + within_s,
            on_partial=on_partial,
        )

    async def fail(self, recording: dict[str, Any], **options: Any) -> UpstreamError:
        """Play a recording and return its error; no picture is left behind and nothing leaks."""
        self.server.play(recording)
        try:
            await self.generate(**options)
        except UpstreamError as error:
            left = [path.name for path in self.folder.iterdir()]
            assert [name for name in left if not name.startswith(("job.partial", "in"))] == []
            shown = f"{error.message} {error.code} {error.param} {error.moderation_details}"
            assert [leak for leak in LEAKS if leak in shown] == []
            return error
        raise AssertionError("a picture came where none was")


@asynccontextmanager
async def opened_bench(folder: Path) -> AsyncIterator[Bench]:
    """Give a bench with its server running."""
    playback = Playback()
    server = await asyncio.start_server(playback.serve, "127.0.0.1", 0)
    adapter = ResponsesUpstream(SystemClock())
    async with server:
        playback.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield Bench(playback, adapter, folder)
        await adapter.close()
