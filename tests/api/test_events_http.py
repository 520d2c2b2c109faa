"""What happens to a job, as server-sent events and over WebSockets: the same JSON in both."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from api.asking import BODY, error_of
from api.conftest import Server
from api.fake_gateway import KEY, OTHER_KEY
from api.pictures import png
from safelight.api import sockets
from safelight.errors import ShuttingDown, Unavailable
from safelight.types import JobState

TYPES = ["job.queued", "job.completed"]


async def ordered(http: aiohttp.ClientSession) -> str:
    headers = {"prefer": "respond-async"}
    async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
        assert answer.status == 202
        return str((await answer.json())["id"])


async def frames(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """Yield the frames of a stream, comments under the name of none."""
    text = ""
    async for chunk in answer.content.iter_any():
        text += chunk.decode()
        while "\n\n" in text:
            block, _, text = text.partition("\n\n")
            yield dict(re.split(r": ?", line, maxsplit=1) for line in block.split("\n"))


async def streamed(http: aiohttp.ClientSession, job_id: str, **more: Any) -> list[dict[str, Any]]:
    async with http.get(f"/v1/jobs/{job_id}/events", **more) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        found = [frame async for frame in frames(answer)]
    events = []
    for frame in found:
        if "data" in frame:
            event = json.loads(frame["data"])
            assert frame["event"] == event["type"]
            assert frame.get("id") == event.get("id")
            events.append(event)
    return events


def address(server: Server, job_id: str) -> str:
    return f"ws://127.0.0.1:{server.port}/v1/jobs/{job_id}"


async def events_of(connection: websockets.ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Yield what comes until the connection closes, however it does."""
    with contextlib.suppress(websockets.ConnectionClosedError):
        async for message in connection:
            yield json.loads(message)


async def socketed(
    server: Server, job_id: str, query: str = ""
) -> tuple[list[dict[str, Any]], int]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with websockets.connect(
        address(server, job_id) + query, additional_headers=headers
    ) as connection:
        found = [event async for event in events_of(connection)]
        assert connection.close_code is not None
        return found, connection.close_code


async def test_both_ways_tell_the_same_and_the_first_and_last_event_show_the_job(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    told, code = await socketed(server, job_id)
    assert [event["type"] for event in told] == TYPES
    assert code == 1000
    first, last = told
    assert (first["id"], first["status"], first["queue_position"]) == ("queued", "queued", 3)
    assert first["job"]["status"] == "queued"
    assert (last["id"], last["status"]) == ("ended", "completed")
    assert last["job"]["image"]["url"].startswith(f"http://127.0.0.1:{server.port}/i/")
    assert {event["job_id"] for event in told} == {job_id}
    again = await streamed(http, job_id)
    for event in (*told, *again):
        event.pop("job")
        # Where a job stands is of the moment, not of the step.
        event.pop("queue_position", None)
        event.pop("expected_finish_at", None)
    assert again == told


async def test_a_stream_goes_on_after_the_last_event_and_a_browser_is_told_to_stop(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    headers = {"last-event-id": "queued"}
    assert [one["type"] for one in await streamed(http, job_id, headers=headers)] == TYPES[1:]
    assert [one["type"] for one in (await socketed(server, job_id, "?after=queued"))[0]] == TYPES[
        1:
    ]
    async with http.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "ended"}) as answer:
        assert answer.status == 204
        assert await answer.read() == b""
    told, code = await socketed(server, job_id, "?after=ended")
    assert (told, code) == ([], 1000)


async def test_a_silent_stream_begins_at_once_and_is_kept_alive(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    server.gateway.hold = asyncio.Event()
    async with http.get(f"/v1/jobs/{job_id}/events") as answer:
        told = frames(answer)
        assert (await anext(told)) == {"retry": "1000"}
        assert (await anext(told))["event"] == "job.queued"
        assert (await anext(told)) == {"": "keep-alive"}
        server.gateway.hold.set()
        rest = [frame.get("event") async for frame in told]
    assert rest[-1] == "job.completed"


async def test_partial_pictures_are_sent_and_one_that_is_gone_is_left_out(
    http: aiohttp.ClientSession, server: Server, tmp_path: Path
) -> None:
    coarse = tmp_path / "coarse"
    coarse.write_bytes(png())
    server.gateway.partials = [coarse, tmp_path / "gone"]
    job_id = await ordered(http)
    told, _ = await socketed(server, job_id)
    (partial,) = [event for event in told if event["type"] == "job.partial_image"]
    assert base64.b64decode(partial["b64_json"]) == png()
    assert (partial["partial_image_index"], partial["output_format"]) == (0, "png")
    assert "id" not in partial


@pytest.mark.parametrize(
    ("refusal", "code"), [(ShuttingDown(), 1012), (Unavailable("No database."), 1013)]
)
async def test_who_must_connect_again_is_told_so(
    http: aiohttp.ClientSession, server: Server, refusal: Exception, code: int
) -> None:
    """A stream just ends before its last event: a browser then comes back with Last-Event-ID."""
    job_id = await ordered(http)
    server.gateway.refusal = refusal
    told, found = await socketed(server, job_id)
    assert ([event["type"] for event in told], found) == (["job.queued"], code)
    assert [event["type"] for event in await streamed(http, job_id)] == ["job.queued"]


# --- the handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "job_id", "status", "code"),
    [
        (None, "job_1", 401, "invalid_api_key"),
        ("sl_live_wrong", "job_1", 401, "invalid_api_key"),
        (OTHER_KEY, "job_1", 404, "not_found"),
        (KEY, "job_of_nobody", 404, "not_found"),
        (KEY, "a%00b", 404, "not_found"),
        (KEY, "job_1?key=x", 400, "unknown_parameter"),
    ],
)
async def test_a_handshake_is_refused_like_a_get(
    http: aiohttp.ClientSession,
    server: Server,
    key: str | None,
    job_id: str,
    status: int,
    code: str,
) -> None:
    await ordered(http)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(address(server, job_id), additional_headers=headers)
    response = refused.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"]["code"] == code
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_browser_sends_its_key_as_a_subprotocol_that_no_answer_repeats(
    http: aiohttp.ClientSession, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await ordered(http)
    caplog.set_level("INFO")
    names = [sockets.PROTOCOL, sockets.KEY_PROTOCOL + KEY]
    async with (
        aiohttp.ClientSession() as browser,
        browser.ws_connect(address(server, job_id), protocols=names) as connection,
    ):
        assert connection.protocol == sockets.PROTOCOL
        told = [json.loads(message.data)["type"] async for message in connection]
        assert KEY not in repr(connection._response.headers)
    assert (told, connection.close_code) == (TYPES, 1000)
    assert KEY not in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/v1/images/generations"])
async def test_other_paths_have_no_websocket(server: Server, path: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://127.0.0.1:{server.port}{path}")
    assert refused.value.response.status_code in (200, 401, 405)


async def test_a_handshake_without_its_key_is_a_get(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    headers = {"connection": "upgrade", "upgrade": "websocket"}
    async with http.get(f"/v1/jobs/{job_id}", headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.json())["id"] == job_id


# --- clients that mean harm ----------------------------------------------------------------------


async def test_what_a_client_sends_is_thrown_away_unless_it_is_too_large(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    server.gateway.hold = asyncio.Event()
    headers = {"authorization": f"Bearer {KEY}"}
    async with websockets.connect(
        address(server, job_id), additional_headers=headers
    ) as connection:
        assert json.loads(await connection.recv())["type"] == "job.queued"
        for _ in range(50):
            await connection.send("x" * 4000)
        await (await connection.ping())
        await connection.send("x" * 5000)
        await connection.wait_closed()
    assert connection.close_code == 1009


async def deaf_client(server: Server, job_id: str, tmp_path: Path) -> socket.socket:
    """Watch a job whose events are larger than all buffers, and read nothing of them."""
    large = tmp_path / "large"
    large.write_bytes(png() + bytes(7_000_000))
    server.gateway.partials = [large, large]
    server.gateway.hold = asyncio.Event()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = (
        f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    )

    def begin() -> bytes:
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(head.encode())
        return deaf.recv(12)

    assert await asyncio.to_thread(begin) == b"HTTP/1.1 101"
    return deaf


async def test_a_client_that_pings_and_does_not_read_is_cut(
    http: aiohttp.ClientSession, server: Server, tmp_path: Path
) -> None:
    deaf = await deaf_client(server, await ordered(http), tmp_path)
    ping = b"\x89\x80\0\0\0\0"

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                deaf.sendall(ping * 100)

    flooding = asyncio.create_task(asyncio.to_thread(flood))
    await asyncio.wait_for(server.gateway.unwatched.wait(), 20)
    await flooding
    deaf.close()


class TestStalled:
    """A client may leave a full buffer unread for a moment only."""

    @pytest.fixture
    def stall_s(self) -> float:
        return 0.2

    async def test_a_client_that_does_not_read_is_cut(
        self, http: aiohttp.ClientSession, server: Server, tmp_path: Path
    ) -> None:
        deaf = await deaf_client(server, await ordered(http), tmp_path)
        await asyncio.wait_for(server.gateway.unwatched.wait(), 20)
        deaf.close()


async def test_who_goes_away_is_not_told_any_more(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job_id = await ordered(http)
    server.gateway.hold = asyncio.Event()
    headers = {"authorization": f"Bearer {KEY}"}
    async with websockets.connect(address(server, job_id), additional_headers=headers) as one:
        await one.recv()
    assert one.close_code == 1000
    await asyncio.wait_for(server.gateway.unwatched.wait(), 5)
    assert server.gateway.jobs[job_id].state is JobState.QUEUED


async def test_an_error_of_the_stream_before_it_begins_is_a_plain_one(
    http: aiohttp.ClientSession,
) -> None:
    for query, status in (("?from=1", 400), (f"?after={'x' * 65}", 400)):
        async with http.get(f"/v1/jobs/job_1/events{query}") as answer:
            assert answer.status == status
            await error_of(answer)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_node_orders_with_fetch_and_watches_with_its_own_websocket(server: Server) -> None:
    """As a browser does; the WebSocket of node 20 is behind a flag."""
    script = Path(__file__).parents[1] / "clients" / "watch.mjs"
    process = await asyncio.create_subprocess_exec(
        "node",
        "--experimental-websocket",
        str(script),
        server.url,
        KEY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    if not out and b"WebSocket is not defined" in errors:
        pytest.skip("this node has no WebSocket")
    assert process.returncode == 0, errors.decode()
    found = json.loads(out)
    assert found == {"types": TYPES, "code": 1000, "protocol": "safelight.events.v1"}
