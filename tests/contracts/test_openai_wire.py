"""The `openai` upstream against the fault upstream: time, connections, downloads, disks."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from contracts.openai_bench import Bench
from safelight.bench.faults.script import Behaviour, Kind
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import SystemClock
from safelight.errors import FaultClass, UpstreamError
from safelight.upstreams.images_api import picture_url
from safelight.upstreams.inputs import uninterrupted
from safelight.upstreams.openai import OpenAIUpstream


class FastClock(SystemClock):
    """A clock on which a real second is a hundred, for the 30 s window of the rate floor."""

    def monotonic(self) -> float:
        return super().monotonic() * 100


# ---- time ---------------------------------------------------------------------------------------


async def test_no_answer_in_time(bench: Bench) -> None:
    """Of silence before the answer nobody can say whether it was paid for."""
    account = bench.account(first_byte_timeout_s=0.15)
    error = await bench.fail(Kind.STALL, account=account)
    assert (error.fault, error.code) == (FaultClass.SLOW, "upstream_timeout")
    assert (error.final_status, error.sold) == (503, None)


async def test_the_deadline_ends_a_call(bench: Bench) -> None:
    """No byte is waited for beyond the deadline, whatever the account allows."""
    error = await bench.fail(Kind.STALL, within_s=0.15)
    assert error.code == "upstream_timeout"
    error = await bench.fail(Kind.STALL_BODY, within_s=0.4)
    assert error.code == "upstream_stalled"


async def test_a_stall_in_the_body(bench: Bench) -> None:
    """Silence inside the answer is a stall: the picture was made and is billed."""
    error = await bench.fail(Kind.STALL_BODY, account=bench.account(idle_timeout_s=0.15))
    assert (error.fault, error.code) == (FaultClass.SLOW, "upstream_stalled")
    assert (error.final_status, error.sold) == (503, True)
    assert len(bench.upstream.sales) == 1


async def test_spaces_keep_a_call_alive_beyond_the_idle_timeout(bench: Bench) -> None:
    """Until the document begins the upstream is working, and the idle timeout does not run."""
    bench.upstream.play(Behaviour(kind=Kind.KEEP_ALIVE, latency_s=0.8))
    received = await bench.generate(account=bench.account(idle_timeout_s=0.1))
    assert received.digest == bench.upstream.sales[0].sha256


async def test_a_trickle_is_cut(tmp_path: Path) -> None:
    """Below 16 kB/s over 30 s a body is given up, though each byte comes in time."""
    adapter = OpenAIUpstream(FastClock())
    async with FaultUpstream(Kind.TRICKLE) as upstream:
        bench = Bench(upstream, adapter, tmp_path)
        deadline = FastClock().monotonic() + 60_000
        with pytest.raises(UpstreamError) as caught:
            await adapter.generate(
                bench.account(idle_timeout_s=200.0, first_byte_timeout_s=20_000.0),
                bench.call(),
                spool=bench.spool,
                deadline=deadline,
            )
        await adapter.close()
    assert (caught.value.code, caught.value.sold) == ("upstream_stalled", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Kind.STALL, Kind.STALL_BODY])
async def test_cancelling_leaves_nothing(bench: Bench, kind: Kind) -> None:
    """A cancelled call removes its part file and closes its connection."""
    bench.upstream.play(kind)
    call = asyncio.create_task(bench.generate())
    part = bench.folder / "job.part"
    # Polling, for a file system tells nobody that a file has appeared.
    while not (bench.upstream.requests and (kind is Kind.STALL or part.exists())):  # noqa: ASYNC110
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert list(bench.folder.iterdir()) == []


async def test_a_cancelled_caller_waits_for_the_work_on_his_files() -> None:
    """What a thread writes is not pulled away under it."""
    working, go_on = threading.Event(), threading.Event()
    done = []

    def work() -> None:
        working.set()
        go_on.wait(5)
        done.append(True)

    task = asyncio.create_task(uninterrupted(work))
    await asyncio.to_thread(working.wait)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


# ---- the connection -----------------------------------------------------------------------------


async def test_connection_refused(bench: Bench) -> None:
    """A call that never left is LOCAL."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        account = bench.account(base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        error = await bench.fail(account=account)
    assert (error.fault, error.code) == (FaultClass.LOCAL, "upstream_unreachable")
    assert (error.final_status, error.sold) == (503, False)


@pytest.mark.parametrize("base_url", ["http://no.such.host.invalid/v1", "http://", "file:///v1"])
async def test_no_such_host(bench: Bench, base_url: str) -> None:
    """A name that does not resolve, or no address at all, is LOCAL too."""
    error = await bench.fail(account=bench.account(base_url=base_url))
    assert (error.fault, error.code) == (FaultClass.LOCAL, "upstream_unreachable")


async def test_tls_to_a_server_that_speaks_none(bench: Bench) -> None:
    """A failed handshake is a TLS error; the request does not fall back to plain text."""
    account = bench.account(base_url=bench.upstream.base_url.replace("http:", "https:"))
    error = await bench.fail(account=account)
    assert (error.fault, error.code) == (FaultClass.LOCAL, "upstream_tls_error")
    assert bench.upstream.requests == []


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate that nobody trusts."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=127.0.0.1"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
async def test_an_unknown_certificate_is_refused(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Verification is never off: a self-signed certificate ends the call before the key is sent."""
    context = self_signed(tmp_path_factory.mktemp("tls"))
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await bench.fail(account=bench.account(base_url=f"https://127.0.0.1:{port}/v1"))
    assert error.code == "upstream_tls_error"
    assert b"".join(heard) == b""


async def test_redirects_are_not_followed(bench: Bench) -> None:
    """The key goes to the base_url only: the place a redirect names hears nothing."""
    async with FaultUpstream() as other:
        elsewhere = Behaviour(kind=Kind.REDIRECT, url=f"{other.origin}/v1/images/generations")
        await bench.fail(elsewhere)
        assert (other.requests, other.strays) == ([], [])
    await bench.fail(Kind.REDIRECT)
    assert bench.upstream.strays == []


async def test_downloads_carry_no_key(bench: Bench) -> None:
    """A picture behind an address is fetched at once, without the credential."""
    bench.upstream.play(Kind.URL)
    await bench.generate()
    [fetched] = bench.upstream.strays
    assert fetched.path.startswith("/pictures/")
    assert "authorization" not in fetched.headers


async def test_downloads_stay_on_the_account_s_host(bench: Bench) -> None:
    """An address elsewhere is refused, and counts as sold."""
    async with FaultUpstream() as other:
        act = Behaviour(kind=Kind.URL, url=f"{other.origin}/pictures/x.png")
        error = await bench.fail(act)
        assert other.strays == []
    assert (error.fault, error.code, error.sold) == (
        FaultClass.BAD_OUTPUT,
        "upstream_bad_url",
        True,
    )


async def test_a_download_that_fails(bench: Bench) -> None:
    """A missing picture behind a good address is no image, and was sold."""
    act = Behaviour(kind=Kind.URL, url=f"{bench.upstream.origin}/gone.png")
    error = await bench.fail(act)
    assert (error.code, error.sold) == ("upstream_no_image", True)


@pytest.mark.parametrize(
    ("base", "url", "result"),
    [
        ("https://a.example/v1", "https://a.example/x.png", "https://a.example/x.png"),
        ("https://a.example/v1", "https://a.example:444/x", "https://a.example:444/x"),
        ("https://a.example/v1", "/x.png?s=1", "https://a.example/x.png?s=1"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/x", "http://127.0.0.1:9/x"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:10/x", None),
        ("https://a.example/v1", "http://a.example/x", None),
        ("https://a.example/v1", "https://b.example/x", None),
        ("https://a.example/v1", "https://a.example.evil.test/x", None),
        ("https://a.example/v1", "https://key@a.example/x", None),
        ("https://a.example/v1", "//169.254.169.254/x", None),
        ("https://a.example/v1", "file:///etc/passwd", None),
        ("https://a.example/v1", "https://[::1", None),
        ("https://a.example/v1", "https://a.example:x/", None),
    ],
)
def test_which_addresses_may_be_fetched(base: str, url: str, result: str | None) -> None:
    """The same origin, or the same host over https; nothing else."""
    if result is not None:
        assert picture_url(base, url) == result
        return
    with pytest.raises(UpstreamError):
        picture_url(base, url)


async def test_an_account_without_a_key_sends_none(bench: Bench) -> None:
    """Self-hosted servers may need no key; none is made up."""
    bench.upstream.play("ok")
    await bench.fail(account=bench.account(api_key=None))
    assert "authorization" not in bench.upstream.requests[0].headers


async def test_a_full_disk_is_our_own_fault(bench: Bench) -> None:
    """If the picture cannot be kept the error says so, and that it was paid for."""
    folder = bench.folder / "gone"
    with pytest.raises(UpstreamError) as caught:
        await bench.adapter.generate(
            bench.account(),
            bench.call(),
            spool=folder / "job",
            deadline=SystemClock().monotonic() + 20,
        )
    assert (caught.value.fault, caught.value.code) == (FaultClass.LOCAL, "storage_failed")
    assert caught.value.sold


async def test_hundreds_of_calls_at_once(bench: Bench) -> None:
    """The pool of connections is not a limit: calls of one adapter do not wait for each other."""
    bench.upstream.latency_s = 0.4
    deadline = SystemClock().monotonic() + 30
    calls = (
        bench.adapter.generate(
            bench.account(), bench.call(), spool=bench.folder / f"job{at}", deadline=deadline
        )
        for at in range(150)
    )
    received = await asyncio.gather(*calls)
    assert {one.digest for one in received} == {sale.sha256 for sale in bench.upstream.sales}
    assert len({one.digest for one in received}) == 150
