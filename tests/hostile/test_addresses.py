"""No address of a stranger leads to anything inside: a canary listens there and hears nothing."""

from __future__ import annotations

import ast
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from hostile.corpus import KEY, request
from hostile.vectors import vectors
from hostile.wire import ask
from safelight.config import WebhooksConfig
from safelight.guarded import GuardedClient
from safelight.strangers import CallFailed, Refused, Rules

ROOT = Path(__file__).parents[2]
LOOSE = Rules(WebhooksConfig(allow_http=True))
CALLERS = {
    "guarded.py": "addresses of strangers",
    "upstreams/http_transport.py": "the operator's vendors",
    "upstreams/inflow.py": "the same connections, once they stand",
    "upstreams/openai_request.py": "bodies for the transport",
    "upstreams/openai_batches.py": "bodies for the transport",
    "upstreams/uploading.py": "bodies for the transport",
    "gateway/probing.py": "the operator's own public address",
    "storage/bucket.py": "the operator's buckets",
    "cli/http.py": "the gateway that its user names",
}
"""Who may speak to an address, and to whose. The client and the instruments are no server."""
NETWORK = {"aiohttp", "httpx", "requests", "urllib3", "obstore", "websockets.asyncio.client"}
NETWORK |= {"http.client", "urllib.request", "ftplib", "smtplib", "telnetlib", "socketserver"}
APART = ("client", "bench", "doctor")


class Canary:
    """A listener on loopback, on IPv4 and IPv6, that counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    def _met(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@asynccontextmanager
async def canary() -> AsyncIterator[Canary]:
    found = Canary()
    server = await asyncio.start_server(found._met, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def test_there_are_over_two_hundred_vectors() -> None:
    assert len(vectors()) >= 200


async def test_no_vector_is_called() -> None:
    """Where names lead nowhere; the operator even allows http and high ports."""

    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError(f"{host}:{port} is nowhere")

    async with canary() as bird:
        client = GuardedClient(LOOSE, nowhere)
        for vector in vectors():
            url = vector.replace("PORT", str(bird.port))
            with pytest.raises((Refused, CallFailed)):
                await client.check(url)
            with pytest.raises((Refused, CallFailed)):
                await client.post(url, b"x", {}, timeout_s=2)
        assert bird.visits == 0


@pytest.mark.parametrize("inside", ["127.0.0.1", "::ffff:127.0.0.1", "::1", "10.0.0.1"])
async def test_a_name_with_one_address_inside_is_not_called(inside: str) -> None:
    """Whatever stands beside it, and in whichever order."""
    async with canary() as bird:
        for answers in ([inside], ["93.184.216.34", inside], [inside, "93.184.216.34"]):

            async def find(host: str, port: int, found: list[str] = answers) -> list[str]:
                assert (host, port) == ("rebind.example", bird.port)
                return found

            client = GuardedClient(LOOSE, find)
            with pytest.raises(Refused):
                await client.post(f"http://rebind.example:{bird.port}/", b"", {}, timeout_s=2)
        assert bird.visits == 0


async def test_a_name_that_leads_inside_and_one_that_does_not_exist_are_one_answer() -> None:
    """Else asking would tell which names exist inside."""

    async def find(host: str, port: int) -> list[str]:
        if host == "missing.example":
            raise OSError(f"{host}:{port}")
        return ["10.0.0.1"]

    said = []
    for host in ("missing.example", "inside.example"):
        with pytest.raises((Refused, CallFailed)) as caught:
            await GuardedClient(LOOSE, find).check(f"http://{host}/")
        said.append(str(caught.value))
    assert said[0] == said[1]


async def test_a_name_that_changes_its_mind_is_asked_once_for_each_call() -> None:
    """Judged and dialled is the same answer: the second, which leads inside, is never dialled."""
    asked: list[str] = []

    async def turning(host: str, port: int) -> list[str]:
        assert port
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    async with canary() as bird:
        rules = Rules(WebhooksConfig(allow_http=True, allow_networks=("192.0.2.0/24",)))
        with pytest.raises(CallFailed):
            await GuardedClient(rules, turning).post(
                f"http://rebind.example:{bird.port}/", b"", {}, timeout_s=0.3
            )
        assert asked == ["rebind.example"]
        assert bird.visits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """To nowhere: what would be behind it is answered to nobody."""
    async with canary() as bird:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            where = f"http://127.0.0.1:{bird.port}/".encode()
            writer.write(b"HTTP/1.1 %d Go\r\nLocation: " % status + where)
            writer.write(b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        receiver = await asyncio.start_server(redirect, "127.0.0.1", 0)
        port = receiver.sockets[0].getsockname()[1]
        rules = Rules(WebhooksConfig(allow_http=True, allow_hosts=("receiver.example",)))

        async def find(host: str, port: int) -> list[str]:
            assert (host, port) == ("receiver.example", receiver.sockets[0].getsockname()[1])
            return ["127.0.0.1"]

        async with receiver:
            reply = await GuardedClient(rules, find).post(
                f"http://receiver.example:{port}/", b"x", {}, timeout_s=5
            )
        assert reply.status == status
        assert bird.visits == 0


# ---- through the front door ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("addresses")
    with GatewayProcess(folder, "[webhooks]\nallow_http = true") as one:
        yield one


def test_a_picture_by_address_is_one_answer_for_every_reason(gateway: GatewayProcess) -> None:
    """The same code and words, and no connection: what is inside cannot be told by asking."""
    key = gateway.key("edits", "1.00").encode()
    told = set()
    with socket.create_server(("127.0.0.1", 0)) as bird:
        bird.setblocking(False)
        for vector in vectors():
            url = vector.replace("PORT", str(bird.getsockname()[1]))
            if url[:5].lower() == "data:" or "\0" in url:
                continue  # the picture itself, and what no JSON may hold
            body = {"model": "gpt-image-2", "prompt": "x", "images": [{"image_url": url}]}
            data = request("POST", "/v1/images/edits", json.dumps(body).encode())
            answer = ask(gateway.port, data.replace(KEY, key))
            error = json.loads(answer.body)["error"]
            told.add((answer.statuses[0], error["code"], error["message"]))
        with pytest.raises(BlockingIOError):
            bird.accept()
    assert len(told) == 1
    assert next(iter(told))[:2] == (400, "invalid_image_url")


def test_a_webhook_inside_is_refused_and_not_called(gateway: GatewayProcess) -> None:
    """Every address is a 400 when it is registered; nothing is sent to it, not even a look-up."""
    key = gateway.key("hooks", "1.00").encode()
    with socket.create_server(("127.0.0.1", 0)) as bird:
        bird.setblocking(False)
        for vector in vectors():
            url = vector.replace("PORT", str(bird.getsockname()[1]))
            data = request("POST", "/v1/webhooks", json.dumps({"url": url}).encode())
            assert ask(gateway.port, data.replace(KEY, key)).statuses == [400], url
        with pytest.raises(BlockingIOError):
            bird.accept()


# ---- one client for strangers' addresses --------------------------------------------------------


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _calls_out(path: Path) -> bool:
    names = _imported(path)
    return any(name == one or name.startswith(f"{one}.") for name in names for one in NETWORK)


def test_only_these_modules_speak_to_an_address() -> None:
    """A new way out of the gateway is a decision: it gets a row in the table, or it fails here."""
    source = ROOT / "src" / "safelight"
    found = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if path.relative_to(source).parts[0] not in APART and _calls_out(path)
    }
    assert found == set(CALLERS)


def test_only_the_guarded_client_takes_addresses_of_the_database() -> None:
    """Who knows the table of webhooks' addresses makes its calls through `guarded`."""
    source = ROOT / "src" / "safelight"
    users = [
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "safelight.guarded.GuardedClient" in _imported(path)
    ]
    assert sorted(users) == ["app.py", "gateway/alert_messages.py", "gateway/notifying.py"]
