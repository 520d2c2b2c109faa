"""The memory that JSON bodies may take together."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
from typing import Any

import aiohttp
import msgspec
import pytest

from api.asking import BODY, MODEL, error_of, status_of
from api.conftest import Server
from api.fake_gateway import KEY
from api.pictures import png
from safelight.api.budget import FREE_BYTES, ByteBudget
from safelight.api.context import Services
from safelight.errors import Unavailable


async def test_bytes_are_counted_beyond_the_free_ones_and_given_back() -> None:
    """Growing takes only the difference; leaving gives all of it back."""
    budget = ByteBudget(100, patience_s=0)
    with budget.hold() as first, budget.hold() as second:
        await first.cover(FREE_BYTES)
        assert budget.held == 0
        await first.cover(FREE_BYTES + 60)
        await first.cover(FREE_BYTES + 50)
        await first.cover(FREE_BYTES + 70)
        assert budget.held == 70
        with pytest.raises(Unavailable) as caught:
            await second.cover(FREE_BYTES + 31)
        await second.cover(FREE_BYTES + 30)
        assert budget.held == 100
    assert budget.held == 0
    assert (caught.value.code, caught.value.should_retry) == ("too_many_bytes_in_flight", True)
    assert caught.value.retry_after_s


async def test_waiting_ends_when_there_is_room() -> None:
    """All who wait look again each time something is given back."""
    budget = ByteBudget(100, patience_s=60)
    with budget.hold() as first:
        await first.cover(FREE_BYTES + 90)
        waiting = [asyncio.create_task(budget.take(50)) for _ in range(2)]
        await asyncio.sleep(0)
        assert budget.held == 90
    await asyncio.gather(*waiting)
    assert budget.held == 100


def chat(text_bytes: int) -> dict[str, Any]:
    """Return a chat with a long earlier turn."""
    history = {"role": "assistant", "content": "x" * text_bytes}
    return {"model": MODEL, "messages": [history, {"role": "user", "content": "a lamp"}]}


class TestSmall:
    """A server with room for little more than one large body."""

    @pytest.fixture
    def services(self, services: Services) -> Services:
        server = msgspec.structs.replace(services.config.server, max_buffered_bytes=400_000)
        config = msgspec.structs.replace(services.config, server=server)
        return dataclasses.replace(services, config=config, buffer_patience_s=0.05)

    async def upload(self, server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin a chat of 390 kB, and leave its last byte away."""
        body = msgspec.json.encode(chat(390_000))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
            % (KEY.encode(), len(body), body[:-1])
        )
        await writer.drain()
        return reader, writer

    async def test_a_body_without_room_is_a_503_and_small_ones_pass(
        self, http: aiohttp.ClientSession, server: Server
    ) -> None:
        """While one large body is read a second waits, is refused, and may be sent again."""
        reader, writer = await self.upload(server)
        # The first one's bytes are counted once its head was read.
        async with asyncio.timeout(5):
            while await status_of(http, "/v1/chat/completions", chat(200_000)) != 503:
                pass
        async with http.post("/v1/chat/completions", json=chat(200_000)) as answer:
            assert answer.status == 503
            assert (await error_of(answer))["code"] == "too_many_bytes_in_flight"
            assert answer.headers["x-should-retry"] == "true"
            assert int(answer.headers["retry-after"]) >= 1
        assert await status_of(http, "/v1/images/generations", BODY) == 200
        assert await status_of(http, "/v1/chat/completions", chat(10)) == 200
        writer.write(b"}")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert await status_of(http, "/v1/chat/completions", chat(200_000)) == 200

    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/images/edits"])
    async def test_a_running_job_holds_no_body(
        self, http: aiohttp.ClientSession, server: Server, path: str
    ) -> None:
        """Room is given back before the picture is made, however long that takes."""
        image = base64.b64encode(png() + b"x" * 17_000).decode()
        pictures = [f"data:image/png;base64,{image}"] * 16
        body = chat(390_000) if "chat" in path else {**BODY, "images": pictures}
        server.gateway.hold = asyncio.Event()
        asking = []
        for _ in range(2):
            server.gateway.waiting.clear()
            asking.append(asyncio.create_task(status_of(http, path, body)))
            await asyncio.wait_for(server.gateway.waiting.wait(), 5)
        server.gateway.hold.set()
        assert await asyncio.gather(*asking) == [200, 200]


class TestLarge:
    """A server that takes pictures of several megabytes."""

    @pytest.fixture
    def services(self, services: Services) -> Services:
        server = msgspec.structs.replace(
            services.config.server, max_request_bytes=8_000_000, max_file_bytes=3_000_000
        )
        return dataclasses.replace(
            services, config=msgspec.structs.replace(services.config, server=server)
        )

    @pytest.mark.parametrize("form", [False, True])
    async def test_base64_is_decoded_in_slices(
        self, http: aiohttp.ClientSession, server: Server, *, form: bool
    ) -> None:
        """A picture of several slices is kept byte for byte; padding between them is refused."""
        data = png() + bytes(range(256)) * 9000
        text = base64.b64encode(data).decode()
        spoiled = text[: 2**20 - 2] + "==" + text[2**20 :]
        answers = [await self.edit(http, code, form=form) for code in (text, spoiled, text[:-1])]
        assert answers == [
            (200, None, None),
            (400, "invalid_image_url", "image"),
            (400, "invalid_image_url", "image"),
        ]
        blob = server.gateway.requests[0].inputs[0]
        # Compared by hand: a difference of megabytes is nothing to print.
        same = server.gateway.storage.blobs[blob.digest] == data
        assert same
        too_large = await self.edit(http, "A" * 4_100_000, form=form)
        assert too_large == (413, "request_too_large", "image")

    async def edit(
        self, http: aiohttp.ClientSession, code: str, *, form: bool
    ) -> tuple[int, str | None, str | None]:
        """Send an edit with a data: URL; return status, code and parameter of the answer."""
        fields = {**BODY, "image": f"data:image/png;base64,{code}"}
        parts = [
            f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        body = "".join(parts).encode() + b"--XX--\r\n" if form else msgspec.json.encode(fields)
        kind = "multipart/form-data; boundary=XX" if form else "application/json"
        async with http.post(
            "/v1/images/edits", data=io.BytesIO(body), headers={"content-type": kind}
        ) as answer:
            if answer.status == 200:
                return 200, None, None
            error = await error_of(answer)
            return answer.status, error["code"], error["param"]
