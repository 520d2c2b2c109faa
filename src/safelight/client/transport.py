"""Requests over HTTP: one session, one way to try again, foreign exceptions made ours.

Owns connections, time limits and repetition: 1, 2, 4 seconds with jitter, or what `Retry-After`
says. Knows no routes and no pictures. Only what may be repeated goes through `again`: reads, and
orders that carry an Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from safelight.client.address import Address
from safelight.client.errors import Answered, ServiceFailed, TimedOut, Unreachable
from safelight.client.figures import Tally
from safelight.client.refusals import error_of, refusal

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

CONNECT_TIMEOUT_S = 15.0
_USER_AGENT = "safelight-python"
_JITTER = (0.75, 1.25)
_PAUSE_MAX_S = 60.0
"""The longest `Retry-After` that is always waited for, seconds; a safelight names no longer one."""


@dataclass(frozen=True)
class Patience:
    """How long one try may take, how often it is made again, and after which pauses.

    Args:
        timeout_s: one try, seconds, from its connection to the last byte of its answer.
        retries: further tries after the first. Tries for which the server names a time
            (`Retry-After`) do not count while no more than `timeout_s` have passed in all.
        pause_s: before the second try, seconds; doubled for each further one.
        sleep: waits that many seconds.
        monotonic: tells the time that passes.
    """

    timeout_s: float = 300.0
    retries: int = 3
    pause_s: float = 1.0
    sleep: Callable[[float], Awaitable[object]] = field(default=asyncio.sleep, repr=False)
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    def pause(self, failures: int) -> float:
        """Return the seconds before the next try: doubling, a quarter more or less."""
        full = self.pause_s * 2.0**failures
        return full * random.uniform(*_JITTER)  # noqa: S311 - spreads load, guards nothing


@dataclass(frozen=True)
class Answer:
    """A good answer, read to its end; header names in lower case.

    `took_s` is how long its try took, `tries` how many there were.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float = 0.0
    tries: int = 1

    def as_(self, shape: type[T]) -> T:
        """Return the body as `shape`.

        Raises:
            ServiceFailed: it is none.
        """
        try:
            return msgspec.json.decode(self.body, type=shape)
        except msgspec.DecodeError as error:
            kind = self.headers.get("content-type", "nothing")
            raise ServiceFailed(
                f"the answer ({self.status}, {kind}) is not what the API would say: is the "
                "address right?",
                status=self.status,
                request_id=self.headers.get("x-request-id"),
            ) from error


class Deadline:
    """The time left for all tries of one call; without one there is always some."""

    def __init__(self, patience: Patience, seconds: float | None) -> None:
        self._patience = patience
        self.began = patience.monotonic()
        self._ends = None if seconds is None else self.began + seconds

    @property
    def passed_s(self) -> float:
        """Seconds since the call began."""
        return self._patience.monotonic() - self.began

    def left_s(self) -> float | None:
        """Return the seconds left, or None: no limit.

        Raises:
            TimedOut: none are left.
        """
        if self._ends is None:
            return None
        left = self._ends - self._patience.monotonic()
        if left <= 0:
            raise TimedOut(f"not there within {self._ends - self.began:g} s")
        return left

    def allows(self, wait_s: float) -> bool:
        """Whether there is still time after a pause of `wait_s`."""
        return self._ends is None or self._patience.monotonic() + wait_s < self._ends


class Transport:
    """Connections to one address, as one customer; `tally` counts the tries of orders."""

    def __init__(self, address: Address, patience: Patience, version: str) -> None:
        self.address = address
        self.patience = patience
        self.tally = Tally()
        self._user_agent = f"{_USER_AGENT}/{version}"
        self._open: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        session, self._open = self._open, None
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            import aiohttp  # noqa: PLC0415 - a client that is never used loads none of it

            self._open = aiohttp.ClientSession(
                # Whoever orders bounds how many are under way; a hidden limit would be counted
                # as slowness of the service.
                connector=aiohttp.TCPConnector(limit=0),
                headers={"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=64 * 1024,
                max_field_size=64 * 1024,
            )
        return self._open

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        *,
        timeout_s: float,
        silence_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        foreign: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request, once, and yield its answer, good or not, with the body unread.

        Args:
            method: of HTTP.
            target: below the address, or a whole link where `foreign`.
            timeout_s: for everything; 0 means no limit.
            silence_s: longest silence while the answer is read.
            headers: beside the client's own.
            data: the body.
            foreign: a link, which is never given the key, and may lead elsewhere.

        Raises:
            Unreachable, TimedOut: see `errors`.
        """
        import aiohttp  # noqa: PLC0415 - loaded with the first request

        sent = dict(headers or {})
        if not foreign:
            sent["Authorization"] = f"Bearer {self.address.key}"
        limit = aiohttp.ClientTimeout(
            total=timeout_s or None,
            sock_connect=CONNECT_TIMEOUT_S,
            sock_read=silence_s,
        )
        url = target if foreign else self.address.url + target
        with translated(timeout_s):
            async with self._session().request(
                method, url, headers=sent, data=data, timeout=limit, allow_redirects=foreign
            ) as response:
                yield response

    async def ask(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        order: bool = False,
    ) -> Answer:
        """Send one request, once, and return its answer if it is good.

        Raises:
            Answered, Unreachable, TimedOut: see `errors`.
        """
        began = self.patience.monotonic()
        limit_s = self.patience.timeout_s if timeout_s is None else timeout_s
        status: int | None = None
        try:
            async with self.stream(
                method, path, timeout_s=limit_s, headers=headers, data=data
            ) as response:
                status = response.status
                body = await response.read()
        finally:
            if order:
                self.tally.tried(status)
        known = lower(response.headers)
        if not 200 <= response.status < 300:
            raise _moved(response.status, known) or refusal(response.status, known, body)
        if order and error_of(body) is not None:
            # Behind white space that kept proxies awake an error has the status 200.
            raise refusal(response.status, known, body)
        return Answer(response.status, known, body, self.patience.monotonic() - began)

    async def get(self, path: str, shape: type[T], *, deadline: Deadline | None = None) -> T:
        """Return what `path` answers, as `shape`; tried again.

        Raises:
            ClientError: no good answer.
        """

        async def attempt(left_s: float) -> T:
            return (await self.ask("GET", path, timeout_s=left_s)).as_(shape)

        return await self.again(attempt, deadline)

    async def again(
        self,
        attempt: Callable[[float], Awaitable[T]],
        deadline: Deadline | None = None,
    ) -> T:
        """Call `attempt` with the seconds it has until it succeeds or there is no sense in more.

        Raises:
            ClientError: the last one.
        """
        deadline = deadline or Deadline(self.patience, None)
        failures = 0
        while True:
            left_s = deadline.left_s()
            limit_s = self.patience.timeout_s
            try:
                return await attempt(limit_s if left_s is None else min(left_s, limit_s))
            except (Answered, Unreachable, TimedOut) as problem:
                named_s = problem.retry_after_s if isinstance(problem, Answered) else None
                wait_s = self.patience.pause(failures) if named_s is None else named_s
                free = named_s is not None and deadline.passed_s + wait_s < limit_s
                failures += 0 if free else 1
                if not _repeatable(problem) or failures > self.patience.retries:
                    raise
                # Who is told to come back in an hour had better hear it than sit still.
                if wait_s > max(limit_s, _PAUSE_MAX_S) or not deadline.allows(wait_s):
                    raise
                await self.patience.sleep(wait_s)


def _repeatable(problem: Answered | Unreachable | TimedOut) -> bool:
    return isinstance(problem, TimedOut) or problem.retryable


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def _moved(status: int, headers: Mapping[str, str]) -> Answered | None:
    """Return the error for a redirect: a repeated POST elsewhere is nothing to do unasked."""
    if not 300 <= status < 400 or "location" not in headers:
        return None
    return ServiceFailed(
        f"the address leads elsewhere, to {headers['location']}: use that one as base_url",
        status=status,
    )


@contextlib.contextmanager
def translated(timeout_s: float) -> Any:
    """Turn aiohttp's exceptions into the client's."""
    import aiohttp  # noqa: PLC0415 - loaded with the first request

    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError) as error:
        raise Unreachable("the server is silent: is the address right?") from error
    except TimeoutError as error:
        raise TimedOut(f"no answer within {timeout_s:g} s") from error
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise Unreachable(f"no trusted connection: {_reason(error)}", retryable=False) from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise Unreachable(f"this leads nowhere: {error}", retryable=False) from error
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise Unreachable(f"no connection, or it broke: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
