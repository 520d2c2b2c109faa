"""Addresses that strangers give lead to no place inside, however they are written."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from ipaddress import ip_address

import pytest
from aiohttp import web

from safelight.config import WebhooksConfig
from safelight.guarded import GuardedClient
from safelight.strangers import DENIED, CallFailed, Refused, Rules

STRICT = Rules(WebhooksConfig())
HTTP = Rules(WebhooksConfig(allow_http=True))
LOOPBACK = Rules(WebhooksConfig(allow_http=True, allow_networks=("127.0.0.1/32",)))

INSIDE = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
ODD_FORMS = [
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://017700000001/",
    "http://127.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.1./",
    "http://[::1%25lo]/",
    "http://[::ffff:7f00:1]/",
    "http://user@example.com/",
    "http://user:word@example.com/",
    "http://@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com#@127.0.0.1/",
    "http://exa mple.com/",
    "http://example.com/\r\nx: y",
    "http://example.com/\x00",
    "http://ex%61mple.com/",
    "http://пример.example/",
    "http://example.com:25/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http:///path",
    "//example.com/",
    "example.com",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/",
    "data:text/plain,hello",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://intranet/",
    "http://db.internal/",
    "http://printer.local/",
    "http://metadata.google.internal/",
    "http://metadata/",
    "http://xn--/",
    "https://example.com/" + "a" * 2048,
    "",
]


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_refused_as_a_literal(text: str) -> None:
    with pytest.raises(Refused):
        HTTP.check_address(ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(Refused):
        HTTP.check_url(f"http://{host}/hook")


@pytest.mark.parametrize("network", DENIED, ids=str)
def test_each_row_of_the_table_is_refused_from_end_to_end(network: object) -> None:
    assert network in DENIED
    for address in (network[0], network[-1]):  # type: ignore[index]
        with pytest.raises(Refused):
            STRICT.check_address(address)


@pytest.mark.parametrize("url", ODD_FORMS)
def test_odd_forms_are_refused(url: str) -> None:
    with pytest.raises(Refused) as caught:
        HTTP.check_url(url)
    assert caught.value.reason.endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?a=%20b",
        "https://hooks.example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://xn--e1afmkfd.example/",
        "https://a_b.example.com/",
    ],
)
def test_public_addresses_are_taken_as_they_are(url: str) -> None:
    assert str(STRICT.check_url(url)) == url


def test_http_is_for_the_operator_to_allow() -> None:
    assert HTTP.check_url("http://example.com/").scheme == "http"
    with pytest.raises(Refused, match="https"):
        STRICT.check_url("http://example.com/")


def test_what_is_allowed_inside_allows_nothing_beside_it() -> None:
    LOOPBACK.check_address(ip_address("127.0.0.1"))
    LOOPBACK.check_url("http://127.0.0.1:5/")
    for other in ("127.0.0.2", "::1", "::ffff:127.0.0.1", "10.0.0.1"):
        with pytest.raises(Refused):
            LOOPBACK.check_address(ip_address(other))
    by_name = Rules(WebhooksConfig(allow_hosts=("hooks.internal",)))
    by_name.check_url("https://HOOKS.internal/")
    with pytest.raises(Refused):
        by_name.check_url("https://x.hooks.internal/")


# --- calls ---------------------------------------------------------------------------------------

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Names:
    """A resolver that gives other addresses each time it is asked."""

    def __init__(self, *answers: Iterable[str]) -> None:
        self.answers = [list(answer) for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        assert port
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Server:
    """A web server on loopback."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.answer: Answer = self.fine
        self.port = 0

    async def fine(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="thanks", headers={"Set-Cookie": "a=b", "X-Y": request.method})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        return await self.answer(request)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/hook?x=1"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    await web.SockSite(runner, listener).start()
    yield made
    await runner.cleanup()


async def test_a_post_carries_its_headers_and_nothing_from_before(server: Server) -> None:
    client = GuardedClient(LOOPBACK)
    for _ in range(2):
        reply = await client.post(server.url(), b"{}", {"webhook-id": "m"}, timeout_s=5)
        assert (reply.status, reply.headers["x-y"]) == (200, "POST")
    for request in server.seen:
        assert request.headers["webhook-id"] == "m"
        assert "cookie" not in request.headers
        assert request.query_string == "x=1"


async def test_the_connection_goes_to_the_address_that_was_judged(server: Server) -> None:
    """A name that leads outside when it is judged and inside when it is called is asked once."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    reply = await GuardedClient(LOOPBACK, names).post(
        server.url("hooks.example.com"), b"{}", {}, timeout_s=5
    )
    assert reply.status == 200
    assert names.asked == ["hooks.example.com"]
    assert server.seen[0].headers["host"] == f"hooks.example.com:{server.port}"


@pytest.mark.parametrize("found", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["fe80::1%eth0"]])
async def test_a_name_that_leads_inside_is_refused_and_not_called(
    server: Server, found: list[str]
) -> None:
    client = GuardedClient(LOOPBACK, Names(found))
    with pytest.raises(Refused, match="leads to no public address"):
        await client.check(server.url("hooks.example.com"))
    with pytest.raises(Refused, match="leads to no public address"):
        await client.post(server.url("hooks.example.com"), b"", {}, timeout_s=5)
    assert server.seen == []


async def test_a_name_that_leads_nowhere_says_so() -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror(f"{host}:{port}")

    client = GuardedClient(HTTP, nowhere)
    for call in (
        client.check("https://hooks.example.com/"),
        client.post("https://hooks.example.com/", b"", {}, timeout_s=5),
    ):
        with pytest.raises(CallFailed, match="leads to no public address"):
            await call


async def test_a_redirect_is_an_answer(server: Server) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://10.0.0.1/")

    server.answer = elsewhere
    reply = await GuardedClient(LOOPBACK).post(server.url(), b"", {}, timeout_s=5)
    assert reply.status == 302
    assert len(server.seen) == 1


async def test_a_silent_receiver_and_an_endless_one_take_their_time_and_no_more(
    server: Server,
) -> None:
    forever = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(1000):
            await answer.write(bytes(65_536))
        return answer

    client = GuardedClient(LOOPBACK)
    server.answer = endless
    assert (await client.post(server.url(), b"", {}, timeout_s=5)).status == 200
    server.answer = silent
    with pytest.raises(CallFailed, match=r"no answer within 0\.2 s"):
        await client.post(server.url(), b"", {}, timeout_s=0.2)
    forever.set()


async def test_nobody_there_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CallFailed, match="no connection"):
        await GuardedClient(LOOPBACK).post(f"http://127.0.0.1:{port}/", b"", {}, timeout_s=5)


async def test_a_proxy_of_the_environment_is_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    reply = await GuardedClient(LOOPBACK).post(server.url(), b"", {}, timeout_s=5)
    assert reply.status == 200
