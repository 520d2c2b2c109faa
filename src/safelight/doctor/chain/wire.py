"""One HTTP/1.1 request on a connection of its own, and exactly how and when its answer ended.

Owns what an ordinary client hides: whether a connection was closed (FIN), reset (RST) or left
silent, and when each byte came. Times are seconds since the request was sent whole. Judges nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

import httptools

from safelight.types import Secret

KEPT_BODY = 16 * 1024
"""So many first bytes of a body are kept: pages of proxies are short."""
CONNECT_TIMEOUT_S = 10.0
_CHUNK = 256 * 1024
_SLICE = 64 * 1024


class BadAddress(ValueError):
    """No http(s) address."""


class Ending(StrEnum):
    """How an exchange ended."""

    COMPLETE = "complete"
    CLOSED = "closed"
    """The connection was closed before the answer was whole (TCP FIN, or a TLS close)."""
    RESET = "reset"
    """The connection was reset (TCP RST)."""
    SILENT = "silent"
    """Nothing came until our own time was over."""
    LEFT = "left"
    """We hung up, having seen enough."""
    UNREACHABLE = "unreachable"
    """There was no connection."""
    TLS = "tls"
    """The certificate or the handshake was no good."""
    GARBAGE = "garbage"
    """What came was no HTTP."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a gateway is, without `/v1`; `key` is sent to it, and to nobody else."""

    secure: bool
    host: str
    port: int
    prefix: str
    key: Secret | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, key: Secret | None = None) -> Origin:
        """Return the gateway at `url`, written with or without a final `/v1`.

        Raises:
            BadAddress: it is no http(s) address.
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise BadAddress(f"{url!r} is no address") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise BadAddress(f"{url!r} is no address such as https://images.example.com")
        secure = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(secure, parts.hostname, port or (443 if secure else 80), prefix, key)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.secure else 80)
        port = "" if usual else f":{self.port}"
        return f"http{'s' if self.secure else ''}://{host}{port}{self.prefix}"

    def tls(self, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext | None:
        """Return how to speak TLS with it, None in clear; `protocols` are offered by ALPN."""
        if not self.secure:
            return None
        context = ssl.create_default_context()
        context.set_alpn_protocols(list(protocols))
        return context


@dataclass(slots=True)
class Answer:
    """What came back; filled in while it comes."""

    ending: Ending = Ending.LEFT
    status: int | None = None
    version: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    head_s: float | None = None
    """When the head of the answer was whole."""
    arrivals: list[float] = field(default_factory=list)
    """When pieces of the body came."""
    ended_s: float = 0.0
    detail: str = ""

    @property
    def from_gateway(self) -> bool:
        """Whether safelight itself answered: every answer of it has a request id."""
        return self.headers.get("x-request-id", "").startswith("req_")


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `announced`: a Content-Length whose body never comes."""

    method: str = "GET"
    path: str = "/healthz"
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    announced: int | None = None


async def ask(
    origin: Origin, request: Request, *, timeout_s: float, answer: Answer | None = None
) -> Answer:
    """Send a request and return how it was answered; no failure of the network is an exception.

    Args:
        origin: whom to ask.
        request: what.
        timeout_s: for everything after the connection.
        answer: filled in, so that whoever cancels this still has what came.
    """
    found = answer or Answer()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                origin.host, origin.port, ssl=origin.tls()
            )
    except ssl.SSLError as error:
        found.ending, found.detail = Ending.TLS, _words(error)
        return found
    except OSError as error:  # TimeoutError is one
        found.ending, found.detail = Ending.UNREACHABLE, _words(error)
        return found
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(timeout_s):
            writing = asyncio.create_task(_write(writer, origin, request))
            try:
                await _Reading(found, began).run(reader)
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
    except TimeoutError:
        found.ending = Ending.SILENT
    except (ConnectionResetError, BrokenPipeError) as error:
        found.ending, found.detail = Ending.RESET, _words(error)
    except OSError as error:
        found.ending, found.detail = Ending.CLOSED, _words(error)
    except httptools.HttpParserError as error:
        found.ending, found.detail = Ending.GARBAGE, _words(error)
    finally:
        found.ended_s = loop.time() - began
        # No farewell: what is left of the answer is of no interest.
        writer.transport.abort()
    return found


async def _write(writer: asyncio.StreamWriter, origin: Origin, request: Request) -> None:
    length = request.announced if request.announced is not None else request.body_bytes
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    lines = [
        f"{request.method} {origin.prefix}{request.path} HTTP/1.1",
        f"Host: {host}:{origin.port}",
        "User-Agent: safelight-doctor",
        "Accept: */*",
        *(f"{name}: {value}" for name, value in request.headers),
    ]
    if origin.key is not None:
        lines.append(f"Authorization: Bearer {origin.key.reveal()}")
    if request.method != "GET":
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {length}"]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    left = request.body_bytes
    while left > 0:
        writer.write(bytes(min(left, _SLICE)))
        left -= _SLICE
        await writer.drain()
    await writer.drain()


class _Reading:
    """Feeds the parser and notes what it says; the callbacks have httptools' names."""

    def __init__(self, answer: Answer, began: float) -> None:
        self._answer = answer
        self._began = began
        self._parser = httptools.HttpResponseParser(self)
        self._whole = False
        self._bounded = False

    async def run(self, reader: asyncio.StreamReader) -> None:
        while not self._whole:
            data = await reader.read(_CHUNK)
            if not data:
                # Without a length the end of the connection is the end of the body (RFC 9112, 6.3).
                headed = self._answer.head_s is not None
                unbounded = headed and not self._bounded
                self._answer.ending = Ending.COMPLETE if unbounded else Ending.CLOSED
                return
            self._parser.feed_data(data)
        self._answer.ending = Ending.COMPLETE

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._answer.headers.get(key)
        self._answer.headers[key] = text if known is None else f"{known}, {text}"
        if key in ("content-length", "transfer-encoding"):
            self._bounded = True

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._answer.version = self._parser.get_http_version()
        self._answer.head_s = self._now()

    def on_body(self, data: bytes) -> None:
        self._answer.arrivals.append(self._now())
        room = KEPT_BODY - len(self._answer.body)
        self._answer.body += data[: max(room, 0)]

    def on_message_complete(self) -> None:
        if (self._answer.status or 0) >= 200:
            self._whole = True


def _words(error: BaseException) -> str:
    """Return a system's error in a few words."""
    if isinstance(error, TimeoutError):
        return "no connection within 10 s"
    strerror = getattr(error, "strerror", None)
    text = getattr(error, "verify_message", None) or strerror or str(error)
    return " ".join(str(text or type(error).__name__).split())[:200]
