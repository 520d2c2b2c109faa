"""What the HTTP tests ask, and what every error they get must look like."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec

from api.conftest import Server
from api.fake_gateway import KEY
from api.pictures import png

MODEL = "gpt-image-2-vip"
BODY = {"model": MODEL, "prompt": "a lamp"}


async def error_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Check the shape that every error has, and return the error object."""
    body = await answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] in ("true", "false")
    return error


async def status_of(http: aiohttp.ClientSession, path: str, body: Any) -> int:
    async with http.post(path, json=body) as answer:
        await answer.read()
        return answer.status


async def ask_for_much(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Order a picture larger than all buffers, and read only the first line of the answer."""
    server.gateway.picture = png() + b"x" * 8_000_000
    body = msgspec.json.encode(BODY)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer
