"""Large replies, taken straight from their connections, over real sockets and both event loops."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from safelight.clock import SystemClock
from safelight.errors import UpstreamError
from safelight.types import Account, Operation, Received, Secret, UpstreamCall
from safelight.upstreams import flow
from safelight.upstreams.openai import OpenAIUpstream

PICTURE = random.Random(1).randbytes(3_000_001)
TEXT = base64.b64encode(PICTURE)
HEAD = b'{"created":1,"data":[{"b64_json":"'
TAIL = b'"}],"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}'
WHOLE = HEAD + TEXT + TAIL

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Vendor:
    """A server that answers each request with the bytes that `reply` gives it."""

    def __init__(self, *bodies: bytes, sent: int | None = None) -> None:
        self.connections = 0
        self.requests = 0
        self.leave = asyncio.Event()
        """Set: a reply that is not sent whole is broken off."""
        self._bodies = bodies
        self._sent = sent

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        body = self._bodies[self.requests % len(self._bodies)]
        self.requests += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        writer.write(body[: self._sent])
        await writer.drain()
        if self._sent is not None:
            await self.leave.wait()
            raise ConnectionError


@asynccontextmanager
async def served(vendor: Vendor, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a vendor; give its base address."""
    server = await asyncio.start_server(vendor.serve, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if context else ''}://localhost:{port}/v1"
    finally:
        server.close()
        vendor.leave.set()


async def generate(
    adapter: OpenAIUpstream, base_url: str, spool: Path, *, idle_s: float = 5.0
) -> Received:
    """Buy one picture."""
    account = Account(
        name="a",
        upstream="openai",
        group="g",
        channels=("gpt-image-2",),
        base_url=base_url,
        api_key=Secret("sk-of-a-test"),
        idle_timeout_s=idle_s,
    )
    call = UpstreamCall(
        job_id="job",
        operation=Operation.GENERATION,
        prompt="a lamp",
        size="1024x1024",
        output_format="png",
    )
    return await adapter.generate(
        account, call, spool=spool, deadline=SystemClock().monotonic() + 30
    )


async def bought(vendor: Vendor, folder: Path, *, times: int = 1, at_once: int = 1) -> None:
    """Buy pictures and check each against what was sent."""
    adapter = OpenAIUpstream(SystemClock())
    async with served(vendor) as base_url:
        for turn in range(times):
            spools = [folder / f"{turn}-{place}" for place in range(at_once)]
            made = await asyncio.gather(*(generate(adapter, base_url, path) for path in spools))
            for received, path in zip(made, spools, strict=True):
                assert path.read_bytes() == PICTURE
                assert received.digest == hashlib.sha256(PICTURE).hexdigest()
                assert received.usage is not None
                assert received.usage.total_tokens == 7
        await adapter.close()


async def refused(vendor: Vendor, folder: Path, *, idle_s: float = 5.0) -> UpstreamError:
    """Buy a picture that does not come; nothing of it is left."""
    adapter = OpenAIUpstream(SystemClock())
    async with served(vendor) as base_url:
        with pytest.raises(UpstreamError) as caught:
            await generate(adapter, base_url, folder / "spool", idle_s=idle_s)
        await adapter.close()
    assert list(folder.iterdir()) == []
    return caught.value


def on(make_loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[Any, Any, Any]) -> Any:
    """Run a test in a loop of that kind."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(test)


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_connection_is_used_again_after_a_large_reply(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def test() -> None:
        vendor = Vendor(WHOLE)
        await bought(vendor, tmp_path, times=3)
        assert (vendor.requests, vendor.connections) == (3, 1)

    on(make_loop, test())


@pytest.mark.parametrize("make_loop", LOOPS)
def test_many_large_replies_at_once_wait_for_each_other_and_come_whole(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    on(make_loop, bought(Vendor(WHOLE), tmp_path, at_once=flow.PLACES + 8))


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_follows_the_picture_is_read_however_long_it_is(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    second = WHOLE.replace(b'"}],"usage"', b'"},{"b64_json":"' + TEXT + b'"}],"usage"')
    on(make_loop, bought(Vendor(second, WHOLE), tmp_path, times=2))


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_reply_that_breaks_off_in_the_picture_is_cut_short(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def test() -> UpstreamError:
        vendor = Vendor(WHOLE, sent=2_000_000)
        vendor.leave.set()
        return await refused(vendor, tmp_path)

    error: UpstreamError = on(make_loop, test())
    assert (error.code, error.sold) == ("upstream_truncated", True)


@pytest.mark.parametrize("make_loop", LOOPS)
def test_a_reply_that_stops_in_the_picture_is_a_stall(
    make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def test() -> UpstreamError:
        return await refused(Vendor(WHOLE, sent=2_000_000), tmp_path, idle_s=0.15)

    error: UpstreamError = on(make_loop, test())
    assert (error.code, error.sold) == ("upstream_stalled", True)


@pytest.mark.parametrize("place", [400_000, 1_999_999, 3_999_000])
def test_what_is_no_base64_is_refused_wherever_it_stands(place: int, tmp_path: Path) -> None:
    body = WHOLE[:place] + b"!" + WHOLE[place + 1 :]
    error: UpstreamError = on(uvloop.new_event_loop, refused(Vendor(body), tmp_path))
    assert (error.code, error.sold) == ("upstream_bad_image", True)


@pytest.mark.parametrize("place", [400_000, 1_999_999])
def test_escapes_are_undone_wherever_they_stand(place: int, tmp_path: Path) -> None:
    at = WHOLE.index(b"/", place)
    body = WHOLE[:at] + b"\\/" + WHOLE[at + 1 :]
    on(uvloop.new_event_loop, bought(Vendor(body), tmp_path))


def test_a_full_disk_is_our_own_fault(tmp_path: Path) -> None:
    async def test() -> UpstreamError:
        adapter = OpenAIUpstream(SystemClock())
        async with served(Vendor(WHOLE)) as base_url:
            spool = tmp_path / "spool"
            spool.with_name("spool.part").symlink_to("/dev/full")
            with pytest.raises(UpstreamError) as caught:
                await generate(adapter, base_url, spool)
            await adapter.close()
        return caught.value

    error: UpstreamError = on(uvloop.new_event_loop, test())
    assert (error.code, error.sold) == ("storage_failed", True)


def self_signed(folder: Path) -> Path:
    """Return a file with a key and a certificate for localhost."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "key", "-out", "cert"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both"
    both.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return both


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_replies_over_tls_come_whole_and_leave_their_connection(kind: str, tmp_path: Path) -> None:
    """In a process of its own: whom it trusts is settled when it starts."""
    both, folder = self_signed(tmp_path), tmp_path / "spool"
    folder.mkdir()
    subprocess.run(
        [sys.executable, __file__, kind, str(both), str(folder)],
        env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "cert")},
        check=True,
        timeout=60,
    )


async def _over_tls(both: Path, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    adapter = OpenAIUpstream(SystemClock())
    vendor = Vendor(WHOLE)
    async with served(vendor, context) as base_url:
        for turn in range(3):
            await generate(adapter, base_url, folder / str(turn))
            assert (folder / str(turn)).read_bytes() == PICTURE
        await adapter.close()
    assert (vendor.requests, vendor.connections) == (3, 1)


if __name__ == "__main__":
    make = {"asyncio": LOOPS[0], "uvloop": LOOPS[1]}[sys.argv[1]]
    on(make, _over_tls(Path(sys.argv[2]), Path(sys.argv[3])))
