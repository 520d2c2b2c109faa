"""The bench's client and mock: whole requests, answers of every form, failures counted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from safelight.bench import load
from safelight.bench.mock import MockProtocol, Shop
from safelight.bench.orders import Orders, Refused
from safelight.bench.picture import Replies, weight
from safelight.bench.relay import FrontPipe
from safelight.bench.workloads import EDIT_INPUT, EDIT_INPUTS, WORKLOADS, Workload, workload

KEY = ("authorization: Bearer sk-key",)


def split(request: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    head, _, body = b"".join(request).partition(b"\r\n\r\n")
    return head, body


# --- orders ---


def test_orders_are_whole_requests_with_prompts_of_their_own() -> None:
    orders = Orders(workload("2mb"), KEY)
    parts = [split(orders.next()) for _ in range(3)]
    bodies = [json.loads(body) for _, body in parts]
    assert len({body["prompt"] for body in bodies}) == 3
    assert {body["size"] for body in bodies} == {"2048x1152"}
    for head, body in parts:
        assert f"content-length: {len(body)}".encode() in head
        assert b"authorization: Bearer sk-key" in head


def test_an_edit_carries_four_pictures_of_4_mb() -> None:
    head, body = split(Orders(workload("edits"), KEY).next())
    assert f"content-length: {len(body)}".encode() in head
    assert body.count(b'name="image[]"') == EDIT_INPUTS == 4
    assert 2**22 - 8 <= EDIT_INPUT.picture_bytes <= 2**22
    assert len(body) > EDIT_INPUTS * EDIT_INPUT.picture_bytes


def test_a_link_is_followed_once() -> None:
    orders = Orders(workload("url"), KEY)
    _, body = split(orders.next())
    assert json.loads(body)["response_format"] == "url"
    answer = json.dumps({"data": [{"url": "http://127.0.0.1:9/i/image.png?expires=1&sig=a"}]})
    (request,) = orders.follow(200, answer.encode()) or ()
    assert request.startswith(b"GET /i/image.png?expires=1&sig=a HTTP/1.1\r\n")
    assert orders.follow(200, b"\x89PNG") is None


def test_a_job_is_looked_at_until_it_has_ended() -> None:
    orders = Orders(workload("jobs"), KEY)
    assert b"prefer: respond-async\r\n" in orders.next()[0]

    def job(status: str) -> bytes:
        return json.dumps({"id": "job_1", "status": status}).encode()

    for status in ("queued", "in_progress"):
        (request,) = orders.follow(202, job(status)) or ()
        assert request.startswith(b"GET /v1/jobs/job_1?wait=")
    assert orders.follow(200, job("completed")) is None
    with pytest.raises(Refused, match="job failed"):
        orders.follow(200, job("failed"))


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [(0, b"", "broken connection"), (503, b"{}", "503"), (200, b"{}", "another answer")],
)
def test_an_answer_that_is_no_success_is_named(status: int, body: bytes, word: str) -> None:
    with pytest.raises(Refused, match=word):
        Orders(workload("url"), KEY).follow(status, body)


# --- workloads ---


def test_workloads_are_found_by_name_and_any_weight_is_one() -> None:
    assert [workload(one.name) for one in WORKLOADS] == list(WORKLOADS)
    assert (workload("6MB").kind, workload("6MB").weight) == ("load", weight("6mb"))
    with pytest.raises(ValueError, match="waiting"):
        workload("huge")


def test_heavy_pictures_are_ordered_less_often() -> None:
    loads = [workload(name).load for name in ("1kb", "2mb", "12mb")]
    assert loads == sorted(loads, reverse=True)
    assert workload("edits").load < workload("2mb").load


def test_the_short_form_is_a_tenth_of_the_crowd_and_never_nobody() -> None:
    short = workload("waiting").shortened()
    assert (short.at_once, short.delay_s) == (500, 3.0)
    tiny = Workload(name="x", shows="", kind="burst", weight=weight("1kb"), at_once=3)
    assert tiny.shortened().at_once == 1


# --- client and mock, over sockets ---


@asynccontextmanager
async def listening(protocol: Callable[[], asyncio.BaseProtocol]) -> AsyncIterator[int]:
    """Serve on a port of loopback; afterwards no connection is left, on either side."""
    loop = asyncio.get_running_loop()
    served: list[asyncio.BaseProtocol] = []

    def serve() -> asyncio.BaseProtocol:
        served.append(protocol())
        return served[-1]

    server = await loop.create_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in served:
            transport = getattr(one, "_transport", None) or getattr(one, "transport", None)
            if transport is not None:
                transport.abort()
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def mock(name: str) -> AsyncIterator[tuple[Shop, int]]:
    shop = Shop(Replies(weight(name)))
    async with listening(lambda: MockProtocol(shop)) as port:
        yield shop, port


class Canned(asyncio.Protocol):
    """Answers every request with the same pieces, each in a packet of its own turn."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        del data
        loop = asyncio.get_running_loop()
        self._write(loop, list(self._pieces))

    def _write(self, loop: asyncio.AbstractEventLoop, left: list[bytes]) -> None:
        assert self._transport is not None
        if not left:
            return
        piece = left.pop(0)
        if piece:
            self._transport.write(piece)
        else:
            self._transport.close()
        loop.call_soon(self._write, loop, left)


async def test_orders_over_many_connections_are_all_answered() -> None:
    async with mock("1kb") as (shop, port), listening(lambda: FrontPipe(port)) as relay:
        connections = await load.connect(relay, 3)
        phase = await load.drive(connections, Orders(workload("1kb"), KEY), 10, 60)
        for connection in connections:
            connection.close()
    assert (phase.asked, phase.answered, phase.failures) == (10, 10, {})
    assert phase.seconds > 0
    assert shop.sold == {"v1": 10}


async def test_a_stretch_without_time_sends_one_order_over_each_connection() -> None:
    async with mock("1kb") as (_, port):
        connections = await load.connect(port, 3)
        phase = await load.drive(connections, Orders(workload("1kb"), KEY), 1000, 0.0)
        for connection in connections:
            connection.close()
    assert phase.answered == 3


async def test_the_mock_answers_at_one_instant_when_all_are_there() -> None:
    """Five wait for each other; their number at most is known afterwards."""
    async with mock("1kb") as (shop, port):
        shop.play(0.0, 5)
        phase = await load.crowd(port, Orders(workload("1kb"), KEY), 5, 0.0, 10.0)
    assert (phase.answered, shop.most, shop.waiting) == (5, 5, 0)


async def test_the_mock_takes_its_time_and_a_crowd_waits() -> None:
    async with mock("1kb") as (shop, port):
        shop.play(0.2, 1)
        phase = await load.crowd(port, Orders(workload("1kb"), KEY), 20, 0.05, 10.0)
    assert (phase.answered, shop.most) == (20, 20)
    assert min(phase.latencies_ms) >= 190


async def test_who_has_no_answer_in_time_is_unanswered() -> None:
    async with listening(Canned) as port:
        phase = await load.crowd(port, Orders(workload("1kb"), KEY), 3, 0.0, 0.2)
    assert (phase.asked, phase.failures) == (3, {load.UNANSWERED: 3})


async def test_nobody_listening_is_counted() -> None:
    async with listening(Canned) as port:
        pass
    phase = await load.crowd(port, Orders(workload("1kb"), KEY), 2, 0.0, 10.0)
    assert phase.failures == {"no connection (ConnectionRefusedError)": 2}


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED + b"4\r\nabc0\r\n3;x=y\r\ndef\r\n0\r\n\r\n",),
        (CHUNKED[:20], CHUNKED[20:], b"4\r\nabc0\r\n3\r\nd", b"ef\r\n0\r", b"\n\r", b"\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r", b"\nabc0", b"def"),
    ],
)
async def test_answers_are_whole_however_they_come(pieces: tuple[bytes, ...]) -> None:
    """With a length or in chunks, in one packet or in many."""
    async with listening(lambda: Canned(*pieces)) as port:
        (connection,) = await load.connect(port, 1)
        for _ in range(2):
            answer = await connection.ask((b"x",), keep=True)
            assert (answer.status, answer.body) == (200, b"abc0def")
        connection.close()


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b""), "broken connection"),
        ((b"no protocol\r\n\r\n",), "broken connection"),
        ((b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}",), "503"),
    ],
)
async def test_failures_are_counted_by_what_they_are(pieces: tuple[bytes, ...], word: str) -> None:
    async with listening(lambda: Canned(*pieces)) as port:
        connections = await load.connect(port, 2)
        phase = await load.drive(connections, Orders(workload("1kb"), KEY), 2, 0.0)
        for connection in connections:
            connection.close()
    assert (phase.answered, phase.failures) == (0, {word: 2})


def test_chunks_have_lengths_in_hexadecimal() -> None:
    body = b"A\r\n0123456789\r\n1\r\n" + b"\r" + b"\r\n0\r\ntrailer: x\r\n\r\n"
    assert re.fullmatch(rb"0123456789\r", load.unchunked(body))
