"""Callers who wait for pictures, and leave: what the server keeps of them, and how it notices."""

from __future__ import annotations

import asyncio
import base64

import msgspec
import pytest

from api.asking import BODY
from api.conftest import Server
from api.fake_gateway import KEY
from api.pictures import png
from safelight.api import make_asgi


def _request(path: str, body: bytes) -> bytes:
    return (
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (path.encode(), KEY.encode(), len(body), body)
    )


ORDER = _request("/v1/images/generations", msgspec.json.encode(BODY))
LONG = _request(
    "/v1/images/edits",
    msgspec.json.encode(
        {
            **BODY,
            "images": [{"image_url": f"data:image/png;base64,{base64.b64encode(png()).decode()}"}],
        }
    ).ljust(300_000),
)
"""Longer than what the server reads ahead of whoever takes it."""


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return int(head.split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("request_bytes", [ORDER, LONG], ids=["short", "long"])
async def test_a_hang_up_is_noticed_whatever_was_sent(server: Server, request_bytes: bytes) -> None:
    """Also when reading had stopped because much of a body came at once."""
    server.gateway.hold = asyncio.Event()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes)
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    assert not server.gateway.detached.is_set()
    writer.close()
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert [attachment.done for attachment in server.gateway.attachments] == [False]


async def test_a_connection_is_used_for_one_order_after_the_other(server: Server) -> None:
    """What reads requests is made anew after each wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(3):
        writer.write(ORDER)
        status, body = await asyncio.wait_for(_answer(reader), 5)
        assert status == 200
        assert b"b64_json" in body
    writer.close()


async def test_what_is_sent_behind_an_order_is_answered_after_it(server: Server) -> None:
    """HTTP pipelining (RFC 9112, section 9.3.2), in pieces, while the picture is waited for."""
    server.gateway.hold = asyncio.Event()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(ORDER)
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    for piece in (b"GET /v1/nowh", b"ere HTTP/1.1\r\nHo", b"st: x\r\n\r\n"):
        writer.write(piece)
        await writer.drain()
    server.gateway.hold.set()
    assert (await asyncio.wait_for(_answer(reader), 5))[0] == 200
    status, body = await asyncio.wait_for(_answer(reader), 5)
    assert status == 404
    assert b"no such path" in body
    writer.close()


async def test_what_is_no_http_behind_an_order_ends_the_connection(server: Server) -> None:
    server.gateway.hold = asyncio.Event()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(ORDER)
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    writer.write(b"\x00\x01\x02 nonsense\r\n\r\n")
    status, body = await asyncio.wait_for(_answer(reader), 5)
    assert status == 400
    assert b"invalid_http" in body
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    writer.close()


async def test_any_asgi_server_can_tell_of_a_hang_up(server: Server) -> None:
    """One that has no connection to ask sends `http.disconnect` (ASGI HTTP spec 2.3)."""
    server.gateway.hold = asyncio.Event()
    left = asyncio.Event()
    body = [{"type": "http.request", "body": msgspec.json.encode(BODY), "more_body": False}]
    sent = []

    async def receive() -> dict[str, object]:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/images/generations",
        "raw_path": b"/v1/images/generations",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"authorization", f"Bearer {KEY}".encode()),
            (b"content-length", b"1"),
            (b"content-type", b"application/json"),
        ],
    }
    asking = asyncio.ensure_future(make_asgi(server.services)(scope, receive, send))
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    assert not server.gateway.detached.is_set()
    left.set()
    await asyncio.wait_for(asking, 5)
    assert server.gateway.detached.is_set()
    assert not sent
