"""What uvicorn lacks: deadlines and caps on requests, callers that stall, callers that hang up."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import aiohttp
import msgspec
import pytest
from uvicorn.server import ServerState

from api.asking import BODY, ask_for_much, status_of
from api.conftest import Server
from api.fake_gateway import KEY
from safelight.api import make_asgi
from safelight.api.body import allowed_s
from safelight.api.context import Services
from safelight.api.server import uvicorn_config
from safelight.config import ServerConfig


def test_a_slow_body_is_cut_by_rate_and_by_time() -> None:
    """After the grace the minimum rate counts, and the total in any case."""
    server = ServerConfig(body_timeout_s=100, body_min_bytes_per_s=1000)
    assert allowed_s(0, server) == 5
    assert allowed_s(4000, server) == 5
    assert allowed_s(20_000, server) == 20
    assert allowed_s(10**9, server) == 100
    assert allowed_s(0, ServerConfig(body_timeout_s=100, body_min_bytes_per_s=0)) == 100


class Wire(asyncio.Transport):
    """A connection that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        """There is nothing more to read."""

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def one_read(services: Services, data: bytes) -> bytes:
    """Return what is answered at once to `data` that comes in one read."""
    config = uvicorn_config(make_asgi(services), services.config)
    config.load()
    protocol = config.http_protocol_class(  # type: ignore[call-arg]
        config=config, server_state=ServerState(), app_state={}
    )
    wire = Wire()
    protocol.connection_made(wire)
    protocol.data_received(data)
    protocol.connection_lost(None)
    return wire.written


class TestImpatient:
    """A server with short deadlines."""

    @pytest.fixture
    def services(self, services: Services) -> Services:
        server = msgspec.structs.replace(
            services.config.server, header_timeout_s=0.1, body_timeout_s=0.1
        )
        config = msgspec.structs.replace(services.config, server=server)
        return dataclasses.replace(services, config=config)

    async def test_a_slow_body_is_a_408(self, server: Server) -> None:
        """A caller that stops sending gets an answer and loses the connection."""
        answer = await server.raw(
            b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{" % KEY.encode()
        )
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in answer
        assert b'"request_timeout"' in answer

    async def test_slow_headers_are_a_408(self, server: Server) -> None:
        """The deadline counts from the connection, however the bytes trickle."""
        answer = await server.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"x-should-retry: true" in answer
        assert b"x-request-id: req_" in answer

    async def test_a_silent_connection_is_closed(self, server: Server) -> None:
        """Nothing was asked, so nothing is answered."""
        assert await server.raw(b"") == b""

    async def test_the_second_head_has_a_deadline_too(self, server: Server) -> None:
        """On a connection that is kept, empty lines do not buy time."""
        answer = await server.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /he")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in answer

    async def test_a_long_job_is_not_cut_by_the_head_deadline(self, server: Server) -> None:
        """The deadlines are about requests, not about answers."""
        server.gateway.hold = asyncio.Event()
        async with aiohttp.ClientSession(
            server.url, headers={"authorization": f"Bearer {KEY}"}
        ) as http:
            asking = asyncio.create_task(status_of(http, "/v1/images/generations", BODY))
            await server.gateway.waiting.wait()
            done, _ = await asyncio.wait({asking}, timeout=0.3)
            assert not done
            server.gateway.hold.set()
            assert await asking == 200


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_malformed_http_is_a_400(server: Server, head: bytes) -> None:
    """In the shape of every error, and the connection closes (failure catalogue C11)."""
    answer = await server.raw(head)
    assert answer.startswith(b"HTTP/1.1 400")
    body = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == "invalid_http"
    assert b"connection: close" in answer


async def test_an_endless_head_is_a_431(server: Server) -> None:
    """Headers are capped before they fill the memory."""
    answer = await server.raw(b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 100_000)
    assert answer.startswith(b"HTTP/1.1 431")


async def test_a_long_head_is_a_431_however_it_arrives(server: Server) -> None:
    """Also when all of it comes in one read; a body in the same read does not count."""
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"
    assert one_read(server.services, head).startswith(b"HTTP/1.1 431")
    small = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
    assert one_read(server.services, small + b"y" * 90_000) == b""


async def test_a_request_for_a_websocket_is_answered_without_advice(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says nothing of packages to install."""
    with caplog.at_level(logging.INFO):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert "install" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_is_noticed(
    http: aiohttp.ClientSession, server: Server, *, stream: bool
) -> None:
    """The order is left undelivered at once, while its job runs on."""
    server.gateway.hold = asyncio.Event()
    asking = asyncio.create_task(
        status_of(http, "/v1/images/generations", {**BODY, "stream": stream})
    )
    await server.gateway.waiting.wait()
    asking.cancel()
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert [attachment.done for attachment in server.gateway.attachments] == [False]


async def test_a_hang_up_during_the_answer_is_not_a_delivery(server: Server) -> None:
    """A caller that reads the head and leaves did not get the picture."""
    _, writer = await ask_for_much(server)
    writer.transport.abort()
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert not server.gateway.attachments[0].done


class TestStalled:
    """A server that does not wait long for callers who stop reading."""

    @pytest.fixture
    def stall_s(self) -> float:
        return 0.1

    async def test_a_caller_that_stops_reading_is_cut(self, server: Server) -> None:
        """The connection ends, and the picture does not count as delivered."""
        reader, writer = await ask_for_much(server)
        await asyncio.wait_for(server.gateway.detached.wait(), 5)
        assert not server.gateway.attachments[0].done
        assert len(await reader.read()) < 8_000_000
        writer.close()
