"""Slow senders and readers lose their connections in time, and nobody beside them waits for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from e2e.process import GatewayProcess
from hostile.corpus import KEY, request
from hostile.slow import Crowd, beside, p95, pause, stare, trickle, waits
from hostile.texts import FORM_TYPE, part
from hostile.wire import ask, memory_kb, uploads

HUGE = 500 * 1000 * 1000
GROWTH_KB = 32 * 1024
HONEST = 200
CONFIG = "[server]\nheader_timeout_s = 2\nbody_timeout_s = 3\n"
MARGIN_S = 2.5
"""What a crowded machine may add to a deadline."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("slow"), CONFIG) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(gateway: GatewayProcess) -> bytes:
    return gateway.key("attacker", "5.00").encode()


def crowds(count: int) -> list[object]:
    return [count, pytest.param(500, marks=pytest.mark.campaign)]


def slow_starts(key: bytes) -> dict[str, tuple[bytes, float]]:
    """Return how each kind of slow sender begins, and after how many seconds it is cut."""
    body = request("POST", "/v1/quote", b"x" * 5000).replace(KEY, key)
    form = request("POST", "/v1/images/edits", b"x" * 9000, kind=FORM_TYPE).replace(KEY, key)
    image = part("image", b"\x89PNG", filename="a.png")
    return {
        "head": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ", 2.0),
        "body": (body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n{", 3.0),
        "form": (form.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + image, 3.0),
        "chunks": (
            request("POST", "/v1/quote", None, (b"Transfer-Encoding", b"chunked")).replace(KEY, key)
            + b"1;",
            3.0,
        ),
    }


@pytest.mark.parametrize("count", crowds(50))
@pytest.mark.parametrize("kind", ["head", "body", "form", "chunks"])
def test_slow_senders_are_cut_and_nobody_waits_for_them(
    gateway: GatewayProcess, key: bytes, kind: str, count: int
) -> None:
    """Each is answered by a 408 or closed at its deadline; honest p95 is at most twice as long."""
    start, deadline_s = slow_starts(key)[kind]
    honest = request("GET", "/v1/models").replace(KEY, key)

    async def play() -> tuple[Crowd, float, float]:
        before = await waits(gateway.port, honest, HONEST)
        async with beside(lambda crowd: trickle(gateway.port, start, crowd), count) as crowd:
            during = await waits(gateway.port, honest, HONEST)
        # The machine has other work, which comes and goes: the worse of both is what is usual.
        after = await waits(gateway.port, honest, HONEST)
        return crowd, max(p95(before), p95(after)), p95(during)

    crowd, before_s, during_s = asyncio.run(play())
    print(
        f"{kind} x {count}: longest {crowd.longest_s:.2f} s, p95 {before_s * 1e3:.2f} ms"
        f" before, {during_s * 1e3:.2f} ms beside"
    )
    assert len(crowd.seconds) == count
    assert crowd.longest_s < deadline_s + MARGIN_S
    assert all(told.startswith(b"HTTP/1.1 4") for told in crowd.data if told)
    assert during_s <= 2 * before_s + 0.005
    assert uploads(gateway) == []


@pytest.mark.campaign
def test_slow_readers_are_cut_after_a_minute(gateway: GatewayProcess, key: bytes) -> None:
    """Five hundred ask for 20 MB and read nothing: no memory, no wait, and no whole file."""
    path = _uploaded(gateway, key)
    start = request("GET", path).replace(KEY, key)
    honest = request("GET", "/v1/models").replace(KEY, key)
    memory = memory_kb(gateway)

    async def play() -> tuple[Crowd, float, float]:
        before = await waits(gateway.port, honest, HONEST)
        over = asyncio.Event()
        one = partial(stare, gateway.port, start, until=over)
        async with beside(lambda crowd: one(crowd=crowd), 500) as crowd:
            during = await waits(gateway.port, honest, HONEST)
            assert memory_kb(gateway) - memory < 150 * 1024
            await pause(75)
            over.set()
        return crowd, p95(before), p95(during)

    crowd, before_s, during_s = asyncio.run(play())
    assert during_s <= 2 * before_s + 0.005
    assert all(len(told) < 20_000_000 for told in crowd.data)


def _uploaded(gateway: GatewayProcess, key: bytes) -> str:
    """Upload 20 MB and return the path at which it can be read."""
    body = part("purpose", b"vision") + part("file", b"x" * 20_000_000, filename="a.bin")
    data = request("POST", "/v1/files", body + b"--edge--\r\n", kind=FORM_TYPE).replace(KEY, key)
    told = ask(gateway.port, data, limit_s=30)
    return f"/v1/files/{json.loads(told.body)['id']}/content"


# ---- uploads of 500 MB --------------------------------------------------------------------------


def upload(port: int, head: bytes, start: bytes, *, chunked: bool) -> tuple[bytes, int]:
    """Send up to 500 MB; return the answer and how many bytes the server let us send."""
    block = b"x" * 65_536
    piece = b"10000\r\n" + block + b"\r\n" if chunked else block
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(head + start)
        wire.settimeout(20)
        try:
            while sent < HUGE:
                wire.sendall(piece)
                sent += len(block)
        except OSError:  # it has closed; its answer may wait to be read
            pass
        told = b""
        try:
            while part := wire.recv(65_536):
                told += part
        except OSError:
            pass
    return told, sent


ROUTES = [
    "/v1/images/generations",
    "/v1/images/edits",
    pytest.param("/v1/quote", marks=pytest.mark.campaign),
    pytest.param("/v1/files", marks=pytest.mark.campaign),
]


def opening(route: str) -> tuple[bytes, bytes]:
    """Return the media type of an upload to a route, and how its body begins."""
    if route in ("/v1/images/edits", "/v1/files"):
        name = "file" if route == "/v1/files" else "image"
        return FORM_TYPE, part(name, b"", filename="a.png")[:-2]
    return b"application/json", b'{"prompt": "'


@pytest.mark.parametrize("way", ["declared", "chunked"])
@pytest.mark.parametrize("route", ROUTES)
def test_an_upload_of_500_mb_is_a_413(
    gateway: GatewayProcess, key: bytes, route: str, way: str
) -> None:
    """It costs no memory and leaves nothing on the disk."""
    kind, start = opening(route)
    length = (b"Content-Length", b"%d" % HUGE)
    coding = (b"Transfer-Encoding", b"chunked")
    head = request(
        "POST", route, None, (b"Content-Type", kind), coding if way == "chunked" else length
    ).replace(KEY, key)
    if way == "chunked":
        start = b"%x\r\n" % len(start) + start + b"\r\n"
    memory = memory_kb(gateway)
    told, sent = upload(gateway.port, head, start, chunked=way == "chunked")
    grown = memory_kb(gateway) - memory
    print(f"{route} {way}: {sent / 1e6:.0f} MB sent, memory +{grown / 1024:.1f} MB")
    assert told.startswith(b"HTTP/1.1 413") or (not told and sent < HUGE)
    assert grown < GROWTH_KB
    assert uploads(gateway) == []
