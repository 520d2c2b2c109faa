"""The guarded HTTP client: for addresses that strangers give, which must not lead inside.

Owns the one connection to each of them; the rules are `strangers`'. A name is resolved once, all
its addresses are judged, and the connection goes to one of those: there is no second look-up in
which a name could change its mind. Redirects are not followed, proxies and credentials of the
environment are not used, nothing is remembered from one call to the next. Knows no webhooks.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from safelight.strangers import (
    CallFailed,
    Resolve,
    Rules,
    host_of,
    judged,
    literal_of,
    resolve,
)

CONNECT_S = 5.0
ANSWER_MAX = 4096
"""Bytes of an answer's body that are read; they are thrown away."""


@dataclass(frozen=True)
class Reply:
    """The status and headers of an answer, and how long it took."""

    status: int
    headers: Mapping[str, str]
    seconds: float


class _Judged(AbstractResolver):
    """Gives the connector addresses that were judged, and nothing else."""

    def __init__(self, rules: Rules, find: Resolve) -> None:
        self._rules = rules
        self._find = find

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # both are tried
        found = await judged(self._rules, self._find, host, port)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Hold nothing."""


class GuardedClient:
    """Calls addresses that strangers gave.

    Args:
        rules: what may be called.
        find: resolves names.
    """

    def __init__(self, rules: Rules, find: Resolve = resolve) -> None:
        self.rules = rules
        self._find = find

    async def check(self, url: str) -> None:
        """Judge an address as a call would, without calling it.

        Raises:
            Refused: its form, its name or one of its IP addresses is not for us.
            CallFailed: its name cannot be resolved.
        """
        parsed = self.rules.check_url(url)
        if literal_of(host_of(parsed)) is None:
            await judged(self.rules, self._find, parsed.raw_host or "", parsed.port or 0)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> Reply:
        """Post a body and return the answer's status, whatever it is; no redirect is followed.

        Args:
            url: as it was given.
            body: sent as it is.
            headers: all that describe it.
            timeout_s: for everything: names, connection, answer.

        Raises:
            Refused: the address may not be called; nothing was sent.
            CallFailed: no answer came, in neutral words.
        """
        parsed = self.rules.check_url(url)
        loop = asyncio.get_running_loop()
        began = loop.time()
        connector = aiohttp.TCPConnector(
            resolver=_Judged(self.rules, self._find), use_dns_cache=False, force_close=True
        )
        # A session for each call: a connection that is kept is one whose address nobody looks at.
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
        ) as session:
            try:
                async with session.post(
                    parsed, data=body, headers=headers, allow_redirects=False
                ) as answer:
                    # Enough that a polite receiver may finish its sentence.
                    await answer.content.read(ANSWER_MAX)
                    return Reply(answer.status, answer.headers, loop.time() - began)
            except TimeoutError:
                raise CallFailed(f"no answer within {timeout_s:g} s") from None
            except aiohttp.ClientSSLError:
                raise CallFailed("no trusted TLS connection") from None
            except aiohttp.ClientConnectorError:
                raise CallFailed("no connection") from None
            except (aiohttp.ClientError, OSError, ValueError):
                raise CallFailed("the connection broke before an answer came") from None
