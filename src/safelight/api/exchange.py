"""One HTTP exchange: the request as it arrives, the answer, and whether the caller is there.

Owns the ASGI messages (ASGI HTTP spec 2.3): nobody else calls receive or send. Adds the headers
that every answer has. Knows nothing of images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Message, Receive, Scope, Send

from safelight.api.budget import ByteBudget
from safelight.api.context import Services
from safelight.api.problems import (
    GUARDS,
    Headers,
    Problem,
    error_body,
    error_headers,
    wire_status,
)
from safelight.entropy import ENTROPY
from safelight.errors import InvalidValue, NotFound
from safelight.storage import Chunk
from safelight.waiting import Wait

T = TypeVar("T")

_LINGER_S = 5.0
_SMALL_BODY = 64 * 1024
_MAX_QUERY_FIELDS = 32


CONNECTION = "safelight.connection"
"""Where our own server puts the `Connection` of a request in its scope."""


class ClientGone(Exception):
    """The caller hung up; there is nobody to answer."""


class Connection(Protocol):
    """What tells that a caller hung up; ASGI alone tells it only to who waits for a message."""

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Have `on_lost` called when the caller hangs up; at once if it has."""

    def unwatch(self) -> None:
        """Call nobody any more."""


class Exchange:
    """One request and its answer; `budget` is what bodies in memory share."""

    __slots__ = (
        "_began_s",
        "_body_coming",
        "_body_complete",
        "_by_name",
        "_metrics",
        "_receive",
        "_send",
        "_wait",
        "_watcher",
        "budget",
        "gone",
        "request_id",
        "scope",
        "services",
        "started",
        "status",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, services: Services, budget: ByteBudget
    ) -> None:
        self.scope = scope
        self.services = services
        self.budget = budget
        self.request_id = f"req_{ENTROPY.token_hex(16)}"
        self.started = False
        self.status: int | None = None
        """Of the answer; None until it has begun."""
        self.gone = False
        """Whether the caller is known to have hung up."""
        self._metrics = services.metrics
        self._receive = receive
        self._send = send
        self._by_name: dict[bytes, bytes] | None = None
        self._began_s = services.clock.monotonic()
        self._body_complete = not self._has_body()
        # Nothing is under way yet when the caller waits for leave to send (RFC 9110, 10.1.1).
        self._body_coming = not self._body_complete and b"expect" not in self._headers()
        self._watcher: asyncio.Task[None] | None = None
        self._wait: Wait | None = None

    def _headers(self) -> dict[bytes, bytes]:
        """Return the first header of each name; forgotten while a picture is waited for."""
        if self._by_name is None:
            self._by_name = {}
            for name, value in self.scope["headers"]:
                self._by_name.setdefault(name, value)
        return self._by_name

    def _has_body(self) -> bool:
        headers = self._headers()
        return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    def header(self, name: str) -> str | None:
        """Return the first header of that lower-case name, or None."""
        value = self._headers().get(name.encode())
        return None if value is None else value.decode("latin-1").strip()

    def path_param(self, name: str) -> str:
        """Return a parameter of the route's path.

        Raises:
            NotFound: it has a NUL in it, which no database takes in a text, and so no name has.
        """
        value = str(self.scope["path_params"][name])
        if "\0" in value:
            raise NotFound("Nothing has such a name.", param=name)
        return value

    def query(self) -> Mapping[str, str]:
        """Return the query's parameters; of equal names the last one counts.

        Raises:
            InvalidValue: it is no query string, has far too many fields, or a NUL in one.
        """
        raw = self.scope.get("query_string", b"").decode("latin-1")
        try:
            pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
        except ValueError as error:
            raise InvalidValue("The query string cannot be read.") from error
        for name, value in pairs:
            if "\0" in value:
                raise InvalidValue(f"{name[:64]!r} has a NUL in it.", param=name[:64])
        return dict(pairs)

    async def receive(self) -> Message:
        """Return the next ASGI message; notes the end of the body and a hang-up."""
        self._body_coming = True
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._note_gone()
        else:
            if not message.get("more_body", False):
                self._body_complete = True
            self._metrics.received.add(by=len(message.get("body", b"")))
        return message

    async def next_chunk(self) -> bytes | None:
        """Return the body's next bytes, or None after its end.

        Raises:
            ClientGone: the caller hung up in the middle.
        """
        if self._body_complete:
            return None
        message = await self.receive()
        if self.gone:
            raise ClientGone
        return bytes(message.get("body", b""))

    def watched(self) -> _Watched:
        """Return a context in which a hang-up is noticed; enter after the body was read."""
        return _Watched(self)

    def _note_gone(self) -> None:
        self.gone = True
        if self._wait is not None:
            self._wait()

    async def _watch(self) -> None:
        while not self.gone:
            await self.receive()

    async def until_gone(self, work: Awaitable[T]) -> T:
        """Await `work` for as long as the caller stays.

        Raises:
            ClientGone: the caller hung up first; `work` was cancelled.
        """
        task = asyncio.ensure_future(work)
        try:
            await self.either(task)
            return task.result()
        finally:
            await settled(task)

    async def either(self, task: asyncio.Future[Any], /, *, timeout_s: float | None = None) -> None:
        """Wait until `task` is done or the time is over; one caller of this at a time.

        Raises:
            ClientGone: the caller hung up first; the task goes on.
        """
        if not (task.done() or self.gone):
            # Not until_done(): one coroutine less for each caller who waits.
            wait = self._wait = Wait(self.services.alarms, timeout_s)
            wait.on(task)
            try:
                await wait
            finally:
                self._wait = None
                wait.close()
                task.remove_done_callback(wait)
        if not task.done() and self.gone:
            raise ClientGone

    async def start(self, status: int, headers: Headers) -> None:
        """Send the answer's head: `headers` and those that every answer has."""
        self.started = True
        self.status = status
        elapsed_ms = round((self.services.clock.monotonic() - self._began_s) * 1000)
        always = [
            (b"x-request-id", self.request_id.encode()),
            (b"openai-processing-ms", str(elapsed_ms).encode()),
            *_guarding(headers),
        ]
        if not self._body_complete or self.services.gateway.leaving:
            always.append((b"connection", b"close"))
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *always]}
        )

    def failed_late(self, problem: Problem) -> None:
        """Say that an answer which has begun ends as an error: so it counts, whatever its head."""
        self.status = wire_status(problem)

    async def write(self, data: Chunk) -> None:
        """Send bytes of the body; waits for a slow reader.

        Raises:
            ClientGone: the caller has hung up.
        """
        if self.gone:
            raise ClientGone
        self._metrics.sent.add(by=len(data))
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """End the body, once the caller has read all but the last buffer of it.

        Raises:
            ClientGone: the caller hung up before the end.
        """
        await self.write(b"")
        # One turn of the loop for the watcher: a hang-up during the write above wakes both.
        await asyncio.sleep(0)
        if self.gone:
            raise ClientGone
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def respond(
        self,
        status: int,
        body: bytes,
        *,
        media_type: str = "application/json",
        headers: Headers | None = None,
    ) -> None:
        """Send a whole answer."""
        await self.start(status, _entity_headers(media_type, len(body)) + (headers or []))
        self._metrics.sent.add(by=len(body))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def respond_json(
        self, payload: Any, *, status: int = 200, headers: Headers | None = None
    ) -> None:
        """Send `payload` as JSON."""
        await self.respond(status, msgspec.json.encode(payload), headers=headers)

    async def fail(
        self, problem: Problem, *, headers: Headers | None = None, job_id: str | None = None
    ) -> None:
        """Send an error; where the body was not read to its end, let the caller finish sending it.

        Closing a socket with unread bytes resets it, and the reset can overtake the answer; so the
        rest of the body is thrown away for a few seconds before the connection closes. A caller
        who was too slow already is not waited for.
        """
        patient = problem.status != 408
        if patient:
            await self._skip_small_body()
        body = error_body(problem, job_id=job_id)
        head = _entity_headers("application/json", len(body)) + error_headers(problem)
        await self.start(wire_status(problem), head + (headers or []))
        self._metrics.sent.add(by=len(body))
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if patient:
            await self._skip_body(_LINGER_S)
        await self.finish()

    async def _skip_small_body(self) -> None:
        length = self.header("content-length") or ""
        if length.isdecimal() and int(length) <= _SMALL_BODY:
            await self._skip_body(1.0)

    async def _skip_body(self, seconds: float) -> None:
        if self._body_complete or not self._body_coming:
            return
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(seconds):
                while await self.next_chunk() is not None:
                    pass


class _Watched:
    """The time in which a hang-up is noticed, as a context."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aenter__(self) -> None:
        exchange = self._exchange
        connection: Connection | None = exchange.scope.get(CONNECTION)
        exchange._by_name = None
        if connection is None:
            exchange._watcher = asyncio.create_task(exchange._watch())
        else:
            connection.watch(exchange._note_gone)

    async def __aexit__(self, *_: object) -> None:
        exchange = self._exchange
        connection: Connection | None = exchange.scope.get(CONNECTION)
        if connection is not None:
            connection.unwatch()
        if exchange._watcher is not None:
            await settled(exchange._watcher)
            exchange._watcher = None


async def settled(task: asyncio.Future[Any]) -> None:
    """Cancel `task` if it still runs, and wait until it has ended; its outcome is not looked at."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _guarding(headers: Headers) -> Headers:
    """Return what every answer says to browsers and caches, but for what it says itself.

    Nothing is guessed to be of another type (`nosniff`), kept by a cache, or embedded by a page of
    another origin; pictures, which are for that, say so.
    """
    given = {name for name, _ in headers}
    return [header for header in GUARDS if header[0] not in given]


def _entity_headers(media_type: str, length: int) -> Headers:
    return [
        (b"content-type", media_type.encode()),
        (b"content-length", str(length).encode()),
    ]
