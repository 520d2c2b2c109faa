"""Slow senders and readers lose their connections in time, and nobody beside them waits for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from hostile.corpus import KEY, request
from hostile.slow import TRIES, Door, beside, crowd
from hostile.texts import FORM_TYPE, part
from hostile.wire import ask, memory_kb, uploads

HUGE = 500 * 1000 * 1000
GROWTH_KB = 32 * 1024
CONFIG = "[server]\nheader_timeout_s = 2\nbody_timeout_s = 3\n"
MARGIN_S = 2.5
"""What a crowded machine may add to a deadline."""


@dataclass(frozen=True)
class Servers:
    """The server that is attacked, an equal one that is not, and their keys."""

    crowded: GatewayProcess
    alone: GatewayProcess
    attacker: bytes
    keys: tuple[bytes, bytes]

    def honest(self) -> tuple[Door, Door]:
        """Return what an honest caller asks of each."""
        crowded, alone = (request("GET", "/v1/models").replace(KEY, key) for key in self.keys)
        return Door(self.crowded.port, crowded), Door(self.alone.port, alone)


@contextmanager
def started(folder: Path, config: str) -> Iterator[Servers]:
    with (
        GatewayProcess(folder / "crowded", config) as crowded,
        GatewayProcess(folder / "alone", config) as alone,
    ):
        attacker = crowded.key("attacker", "5.00").encode()
        assert crowded.first_key is not None
        assert alone.first_key is not None
        keys = crowded.first_key.encode(), alone.first_key.encode()
        yield Servers(crowded, alone, attacker, keys)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that soon lose their patience."""
    with started(tmp_path_factory.mktemp("slow"), CONFIG) as servers:
        yield servers


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers with the deadlines that are the default."""
    with started(tmp_path_factory.mktemp("patient"), "") as servers:
        yield servers


KINDS = ("head", "body", "form", "chunks")


def slow_start(kind: str, key: bytes) -> bytes:
    """Return how a kind of slow sender begins."""
    if kind == "head":
        return b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: "
    if kind == "chunks":
        coding = (b"Transfer-Encoding", b"chunked")
        return request("POST", "/v1/quote", None, coding).replace(KEY, key) + b"1;"
    if kind == "form":
        form = request("POST", "/v1/images/edits", b"x" * 9000, kind=FORM_TYPE)
        head = form.replace(KEY, key).partition(b"\r\n\r\n")[0]
        return head + b"\r\n\r\n" + part("image", b"\x89PNG", filename="a.png")
    body = request("POST", "/v1/quote", b"x" * 5000).replace(KEY, key)
    return body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n{"


def play(
    servers: Servers, kinds: Sequence[str], count: int, *, deadlines_s: Mapping[str, float]
) -> None:
    """Attack with so many of each kind by turns, beside honest callers, and judge it."""
    starts = [slow_start(kind, servers.attacker) for kind in kinds]
    for _ in range(TRIES):
        attack = crowd(servers.crowded.port, starts, count)
        found, waits = asyncio.run(beside(attack, *servers.honest()))
        print(f"{count} x {', '.join(kinds)}: longest {max(found.seconds):.2f} s, {waits}")
        if waits.bearable:
            break
    assert len(found.seconds) == count
    for number, kind in enumerate(kinds):
        assert max(found.seconds[number :: len(kinds)]) < deadlines_s[kind] + MARGIN_S
    assert all(told.startswith(b"HTTP/1.1 408") for told in found.told if told)
    assert waits.bearable, str(waits)
    assert uploads(servers.crowded) == []


def test_slow_senders_are_cut_and_nobody_waits_for_them(servers: Servers) -> None:
    """Each is answered by a 408 or closed at its deadline; honest p95 is at most twice as long."""
    play(servers, KINDS, 60, deadlines_s={"head": 2, "body": 3, "form": 3, "chunks": 3})


@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
def test_five_hundred_of_a_kind_are_cut_and_nobody_waits_for_them(
    patient: Servers, kind: str
) -> None:
    """At the deadlines that a server has which nobody configured."""
    play(patient, [kind], 500, deadlines_s={"head": 10, "body": 5, "form": 5, "chunks": 5})


@pytest.mark.campaign
def test_slow_readers_are_cut_after_a_minute(patient: Servers) -> None:
    """Five hundred ask for 20 MB and read nothing: no memory, no wait, and no whole file."""
    path = _uploaded(patient.crowded, patient.attacker)
    start = request("GET", path).replace(KEY, patient.attacker)
    memory = memory_kb(patient.crowded)
    attack = crowd(patient.crowded.port, [start], 500, stare_s=75)
    found, waits = asyncio.run(beside(attack, *patient.honest()))
    grown = memory_kb(patient.crowded) - memory
    most = max(found.received)
    print(f"500 readers: {most / 1e3:.0f} kB read, memory +{grown / 1024:.0f} MB, {waits}")
    assert grown < 150 * 1024
    assert most < 20_000_000
    assert waits.bearable, str(waits)


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
def test_an_upload_of_500_mb_is_a_413(servers: Servers, route: str, way: str) -> None:
    """It costs no memory and leaves nothing on the disk."""
    gateway, key = servers.crowded, servers.attacker
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
