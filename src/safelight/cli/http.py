"""A small HTTP client for the client commands: one gateway, one key, one deadline, careful retries.

Owns addresses, the connection, foreign exceptions and the retry policy. The standard library's
client is enough: one request at a time, and it starts without an event loop. Knows no routes.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from safelight import __version__
from safelight.cli.errors import (
    AnswerError,
    CliError,
    ExitCode,
    GatewayError,
    OutOfTimeError,
    UnreachableError,
)
from safelight.cli.forms import Body
from safelight.clock import Clock, SystemClock
from safelight.types import Secret

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 10.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 8.0
_RETRIES_MAX = 5
"""Further tries without a Retry-After; those with one are bounded by the deadline alone."""

Notice = Callable[[str, float], None]
"""Told why another try follows and after how many seconds."""


@dataclass(frozen=True)
class Endpoint:
    """A gateway's address, without the `/v1`."""

    secure: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Return the gateway at `url`, written with or without a final `/v1`.

        Raises:
            CliError: not an http(s) address (exit code 2).
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise _bad_address(url) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise _bad_address(url)
        secure = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(secure, parts.hostname, port or (443 if secure else 80), prefix)

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return an open connection."""
        connection = (
            http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout_s, context=ssl.create_default_context()
            )
            if self.secure
            else http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        )
        connection.connect()
        return connection


def _bad_address(url: str) -> CliError:
    return CliError(
        f"{url!r} is no gateway address",
        exit_code=ExitCode.USAGE,
        hint="Write it like http://127.0.0.1:8080/v1",
    )


@dataclass
class Patience:
    """The time a command has: one deadline over all its tries.

    `sleep` waits that many seconds; tests pass one that moves their clock.
    """

    timeout_s: float
    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._ends = self.clock.monotonic() + self.timeout_s

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            OutOfTimeError: none.
        """
        left = self._ends - self.clock.monotonic()
        if left <= 0:
            raise OutOfTimeError(f"no answer within {self.timeout_s:g} s")
        return left


class Reply:
    """An answer whose body is still to be read. Use as a context manager."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        sock: socket.socket,
        response: http.client.HTTPResponse,
        patience: Patience,
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self._connection = connection
        self._response = response
        self._patience = patience
        self._socket = sock

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            UnreachableError: it broke off.
            OutOfTimeError: the deadline passed.
        """
        length = self.headers.get("content-length")
        missing = int(length) if length is not None and length.isdecimal() else None
        while missing != 0:
            with _translated(self._patience, self._socket):
                wanted = _CHUNK_BYTES if missing is None else min(_CHUNK_BYTES, missing)
                chunk = self._response.read1(wanted)
            if not chunk:
                break
            missing = None if missing is None else missing - len(chunk)
            yield chunk
        if missing:
            raise UnreachableError("the answer broke off before its end")

    def json(self) -> Any:
        """Return the whole body, decoded.

        Raises:
            AnswerError: it is not JSON.
        """
        raw = b"".join(self.chunks())
        try:
            return msgspec.json.decode(raw)
        except msgspec.DecodeError:
            kind = self.headers.get_content_type()
            message = (
                f"the address answered {self.status} with {kind}, which is no gateway's answer"
            )
            raise AnswerError({"message": message}, status=self.status) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._response.close()
        self._connection.close()


class Gateway:
    """One gateway as one customer sees it."""

    def __init__(self, url: str, api_key: str, patience: Patience) -> None:
        if not api_key.isascii() or not api_key.isprintable() or " " in api_key.strip():
            raise CliError("the API key holds characters no key has", exit_code=ExitCode.USAGE)
        self.patience = patience
        self._endpoint = Endpoint.parse(url)
        self._key = Secret(api_key.strip())

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Return the JSON that `path` answers; retried.

        Raises:
            GatewayError: no good answer in time.
        """
        present = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(present)}" if present else path

        def attempt() -> Any:
            with self.send("GET", target) as reply:
                return reply.json()

        return self.persist(attempt)

    def send(
        self,
        method: str,
        target: str,
        body: Body | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request, once, and return its answer if its status is good.

        Raises:
            UnreachableError, OutOfTimeError, AnswerError: see `errors.py`.
        """
        sent = {
            "Authorization": f"Bearer {self._key.reveal()}",
            "User-Agent": f"safelight-cli/{__version__}",
            "Connection": "close",
            **({"Content-Type": body.content_type} if body else {}),
            **(headers or {}),
        }
        with contextlib.ExitStack() as undo:
            with _translated(self.patience):
                connection = self._endpoint.connect(min(_CONNECT_TIMEOUT_S, self.patience.left()))
            undo.callback(connection.close)
            # Kept aside: a closing answer makes the connection forget its socket, whose timeout
            # must still follow the deadline from read to read.
            sock = connection.sock
            with (
                _translated(self.patience, sock),
                # A gateway may answer (413, 401) before it has read a long body.
                contextlib.suppress(BrokenPipeError, ConnectionResetError),
            ):
                data = body.data if body else None
                connection.request(method, self._endpoint.prefix + target, data, sent)
            with _translated(self.patience, sock):
                response = connection.getresponse()
            undo.pop_all()
        reply = Reply(connection, sock, response, self.patience)
        if not 200 <= reply.status < 300:
            with reply:
                raise _answered(reply)
        return reply

    def persist(self, attempt: Callable[[], T], notice: Notice | None = None) -> T:
        """Call `attempt` until it succeeds, fails for good, or time and tries run out.

        Only for requests that may be repeated: reads, and orders that carry an Idempotency-Key.

        Raises:
            GatewayError: the last one.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except GatewayError as problem:
                if not problem.retryable:
                    raise
                wait_s = problem.retry_after_s
                if wait_s is None:
                    wait_s = _backoff(failures)
                    failures += 1
                if failures > _RETRIES_MAX or wait_s >= self.patience.left():
                    raise
                if notice:
                    notice(problem.message, wait_s)
                self.patience.sleep(wait_s)


def in_path(name: str) -> str:
    """Return an id as one part of a path.

    Raises:
        CliError: it is empty, which would name all of a kind (exit code 2).
    """
    if not name.strip():
        raise CliError("the id is empty", exit_code=ExitCode.USAGE)
    return quote(name, safe="")


def _backoff(failures: int) -> float:
    """Return the pause before the next try: doubling, capped, with up to a quarter taken off."""
    full = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * 2.0**failures)
    return full * random.uniform(0.75, 1.0)  # noqa: S311 - spreads load, guards nothing


@contextlib.contextmanager
def _translated(patience: Patience, sock: socket.socket | None = None) -> Iterator[None]:
    """Give the socket the time that is left, and turn foreign exceptions into ours."""
    if sock is not None:
        sock.settimeout(patience.left())
    try:
        yield
    except TimeoutError as error:
        patience.left()
        raise UnreachableError("the connection timed out") from error
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(
            f"its certificate is not trusted: {error.verify_message}", retryable=False
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"no connection: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _answered(reply: Reply) -> AnswerError:
    """Read an error answer. An unreadable body still gives a status."""
    try:
        body = msgspec.json.decode(b"".join(reply.chunks()))
    except (msgspec.DecodeError, UnreachableError):
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        kind = reply.headers.get_content_type()
        error = {"message": f"the address answered {reply.status} with {kind}"}
    advice = reply.headers.get("x-should-retry", "").lower()
    by_status = reply.status in (408, 409, 429) or reply.status >= 500
    return AnswerError(
        error,
        status=reply.status,
        retryable=advice == "true" or (by_status and advice != "false"),
        retry_after_s=_retry_after(reply, now=time.time()),
        request_id=reply.headers.get("x-request-id"),
    )


def _retry_after(reply: Reply, now: float) -> float | None:
    """Return the answer's own wait in seconds (RFC 9110 section 10.2.3), at least half a second."""
    raw = reply.headers.get("retry-after")
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        moment: datetime | None = None
        with contextlib.suppress(ValueError):
            moment = email.utils.parsedate_to_datetime(raw)
        if moment is None:
            return None
        seconds = moment.timestamp() - now
    return max(_BACKOFF_FIRST_S, seconds)
